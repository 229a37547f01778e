"""What a reconciler remembers between two looks, kept in the same transaction as what it did."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from sqlalchemy import delete, select

from goldenloop.store.database import Transaction, upsert
from goldenloop.store.tables import memories

Memory = TypeVar("Memory", bound=msgspec.Struct)


def recall(transaction: Transaction, namespace: str, loop: str, name: str, kind: type[Memory]) -> Memory | None:
    """Return what was remembered under this name, or None."""
    query = select(memories.c.document).where(
        memories.c.namespace == namespace, memories.c.loop == loop, memories.c.name == name
    )
    document = transaction.execute(query).scalar_one_or_none()
    return None if document is None else msgspec.convert(document, kind)


def recall_all(transaction: Transaction, name: str, kind: type[Memory]) -> dict[tuple[str, str], Memory]:
    """Return everything that was remembered under this name, by namespace and what it is of."""
    rows = transaction.execute(
        select(memories.c.namespace, memories.c.loop, memories.c.document).where(memories.c.name == name)
    )
    return {(row.namespace, row.loop): msgspec.convert(row.document, kind) for row in rows}


def remember(transaction: Transaction, namespace: str, loop: str, name: str, memory: msgspec.Struct) -> None:
    """Keep this under the name, in the place of what was there."""
    document = msgspec.to_builtins(memory)
    upsert(transaction, memories, {"namespace": namespace, "loop": loop, "name": name, "document": document})


def forget(transaction: Transaction, namespace: str, loop: str) -> None:
    """Drop everything that was remembered of a loop."""
    transaction.execute(delete(memories).where(memories.c.namespace == namespace, memories.c.loop == loop))


def forget_one(transaction: Transaction, namespace: str, loop: str, name: str) -> None:
    """Drop what was remembered under this name."""
    transaction.execute(
        delete(memories).where(memories.c.namespace == namespace, memories.c.loop == loop, memories.c.name == name)
    )
