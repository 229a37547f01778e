"""What other policies would have reached on the same rows, kept beside a loop so that a page can draw them."""

from __future__ import annotations

import msgspec

from goldenloop.core.json import JsonObject
from goldenloop.store import memories
from goldenloop.store.database import Transaction

_NAME = "baselines"


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """One policy: its metric by window, and how many runs it took."""

    windows: tuple[float | None, ...]
    runs: int
    overall: float | None = None
    trained: tuple[int, ...] = ()  # the windows at whose beginning it trained


class Baselines(msgspec.Struct, frozen=True, kw_only=True):
    """Policies by name: `never` retrains, `periodic` does at every window."""

    policies: dict[str, Baseline]


def keep_baselines(transaction: Transaction, namespace: str, loop: str, baselines: Baselines) -> None:
    """Keep them in the place of what was there."""
    memories.remember(transaction, namespace, loop, _NAME, baselines)


def read_baselines(transaction: Transaction, namespace: str, loop: str) -> JsonObject:
    """The metric of each policy by window, as the API shows it."""
    kept = memories.recall(transaction, namespace, loop, _NAME, Baselines)
    if kept is None:
        return {}
    return {
        name: [{"index": index, "value": value} for index, value in enumerate(policy.windows)]
        for name, policy in kept.policies.items()
    }
