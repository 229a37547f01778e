"""The audit log: who did what, written in the transaction of what was done, so that neither is there without the other.

Rules. Entries are only ever added. `digest` is the SHA-256 of the entry (its number, moment, actor, action, kind, namespace, name, facts)
and of the digest before it; so whoever changes, removes or inserts one has to make all later ones anew, and a digest that was noted
elsewhere tells. The actor is who the caller says they are: on one machine nobody is asked for proof.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

import msgspec
from sqlalchemy import insert, select

from goldenloop.core.clock import to_text
from goldenloop.core.json import JsonObject
from goldenloop.store.database import Transaction
from goldenloop.store.tables import audit_entries

BEGINNING = "0" * 64  # what the first entry follows
ACTOR: ContextVar[str] = ContextVar("actor", default="goldenloop")  # who calls, as far as it is known: of this request
_AT_ONCE = 10_000
_PARTS = ("sequence", "at_us", "actor", "action", "kind", "namespace", "name", "facts", "previous")


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody did to what. `action` is a verb: apply, delete, promote, rollback, approve, refuse, run, trust, distrust, query."""

    action: str
    kind: str
    namespace: str = ""
    name: str = ""
    actor: str = ""
    facts: JsonObject = {}


@dataclass(frozen=True, slots=True)
class Chain:
    """What a check found: how many entries, the digest of the last, and the first that does not fit, with why."""

    entries: int
    head: str
    broken: int | None = None
    reason: str = ""


def record(transaction: Transaction, deed: Deed, *, now_us: int) -> None:
    """Add an entry. Writers are one at a time, so the last entry is the one before this."""
    newest = select(audit_entries.c.sequence, audit_entries.c.digest).order_by(audit_entries.c.sequence.desc()).limit(1)
    last = transaction.execute(newest).first()
    entry: dict[str, str | int] = {
        "sequence": 1 if last is None else last.sequence + 1,
        "at_us": now_us,
        "actor": (deed.actor or ACTOR.get())[:253],
        "action": deed.action,
        "kind": deed.kind,
        "namespace": deed.namespace,
        "name": deed.name,
        "facts": msgspec.json.encode(deed.facts, order="deterministic").decode(),
        "previous": BEGINNING if last is None else last.digest,
    }
    transaction.execute(insert(audit_entries).values(**entry, digest=_digest(entry)))


def listing(transaction: Transaction, *, after: int = 0, limit: int = 100) -> list[JsonObject]:
    """The newest entries after a number, oldest first."""
    query = (
        select(audit_entries)
        .where(audit_entries.c.sequence > after)
        .order_by(audit_entries.c.sequence.desc())
        .limit(limit)
    )
    return [
        {
            "sequence": row.sequence,
            "at": to_text(row.at_us),
            "actor": row.actor,
            "action": row.action,
            "kind": row.kind,
            "namespace": row.namespace,
            "name": row.name,
            "facts": msgspec.json.decode(row.facts),
            "digest": row.digest,
        }
        for row in reversed(transaction.execute(query).all())
    ]


def verify(transaction: Transaction) -> Chain:
    """Follow the chain from its beginning to the first entry that does not fit."""
    head, number = BEGINNING, 0
    for entry in _entries(transaction):
        if entry["sequence"] != number + 1:
            return Chain(number, head, number + 1, f"it is missing; entry {entry['sequence']} comes next")
        if entry["previous"] != head:
            return Chain(number, head, number + 1, "it does not follow the entry before it")
        if entry["digest"] != _digest(entry):
            return Chain(number, head, number + 1, "its content is not what was written")
        head, number = str(entry["digest"]), number + 1
    return Chain(number, head)


def _entries(transaction: Transaction) -> Iterator[dict[str, str | int]]:
    query = select(audit_entries).order_by(audit_entries.c.sequence)
    for rows in transaction.execute(query).mappings().partitions(_AT_ONCE):
        yield from ({str(name): value for name, value in row.items()} for row in rows)


def _digest(entry: dict[str, str | int]) -> str:
    return hashlib.sha256(msgspec.json.encode([entry[part] for part in _PARTS])).hexdigest()
