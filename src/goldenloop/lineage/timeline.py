"""The timeline of a loop: one line for each thing that happened, written in the transaction of what it tells."""

from __future__ import annotations

import msgspec
from sqlalchemy import insert, select

from goldenloop.core.clock import to_text
from goldenloop.core.json import JsonObject
from goldenloop.store.database import Transaction
from goldenloop.store.tables import timeline


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, when in the world (`event_us`), and when it was written down (`created_us`)."""

    namespace: str
    loop: str
    kind: str
    text: str
    facts: JsonObject
    event_us: int
    created_us: int


def tell(transaction: Transaction, happening: Happening) -> None:
    """Add a line."""
    transaction.execute(insert(timeline).values(**msgspec.to_builtins(happening)))


def read(
    transaction: Transaction, namespace: str, loop: str, *, after: int = 0, limit: int = 1_000
) -> list[JsonObject]:
    """The lines after a sequence number, oldest first, as the API shows them."""
    query = (
        select(timeline)
        .where(timeline.c.namespace == namespace, timeline.c.loop == loop, timeline.c.sequence > after)
        .order_by(timeline.c.sequence)
        .limit(limit)
    )
    return [
        {
            "sequence": row.sequence,
            "kind": row.kind,
            "text": row.text,
            "facts": row.facts,
            "at": to_text(row.event_us),
            "recorded": to_text(row.created_us),
        }
        for row in transaction.execute(query)
    ]
