"""Forgetting a loop: what reconcilers remember goes with it; versions, runs, measurements and the timeline stay on record."""

from __future__ import annotations

from sqlalchemy import update

from goldenloop.core.phases import VersionState
from goldenloop.pipelines.runs import UNFINISHED
from goldenloop.registry import versions
from goldenloop.store import memories
from goldenloop.store.database import Transaction
from goldenloop.store.tables import decisions, runs


def forget_loop(transaction: Transaction, namespace: str, name: str) -> None:
    """Stop serving, cancel what runs, and drop what was remembered."""
    golden = versions.golden(transaction, namespace, name)
    if golden is not None:
        versions.move(transaction, golden, VersionState.RETIRED)
    mine = (runs.c.namespace == namespace, runs.c.loop == name)
    transaction.execute(update(runs).where(*mine, runs.c.state.in_(UNFINISHED)).values(state="CANCELED"))
    transaction.execute(update(runs).where(*mine).values(settled=True))
    transaction.execute(
        update(decisions).where(decisions.c.namespace == namespace, decisions.c.loop == name).values(settled=True)
    )
    memories.forget(transaction, namespace, name)
