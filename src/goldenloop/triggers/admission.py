"""Whether a cause starts a run of a pipeline now, waits, or comes to nothing. Pure.

Every cause ends in a decision with its reason: `Start`, or `Drop`. `Wait` is none yet; it is said too, and the cause is looked at
again. A cause that waits is never lost, and causes are looked at in the order in which they came.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from goldenloop.core.clock import DAY
from goldenloop.core.durations import format_duration
from goldenloop.standards.trigger import Concurrency


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What holds a trigger back."""

    concurrency: Concurrency
    cooldown_us: int
    max_runs_per_day: int
    dry_run: bool = False
    suspended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a trigger looks at: its own runs."""

    now_us: int
    going_on: tuple[str, ...]  # ids of runs
    started_us: tuple[int, ...]  # when runs were started within the last day or the cooldown


@dataclass(frozen=True, slots=True)
class Start:
    """Start a run, after ending those that it takes the place of."""

    reason: str
    replaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    reason: str


@dataclass(frozen=True, slots=True)
class Drop:
    reason: str


Decision: TypeAlias = Start | Wait | Drop


def decide(policy: Policy, situation: Situation, cause: str) -> Decision:
    """Decide on one cause, given in words."""
    if policy.suspended:
        return Drop("the trigger is suspended")
    held_back = _holds_back(policy, situation)
    if held_back:
        return Wait(held_back) if policy.concurrency == "queue" else Drop(held_back)
    replaces = situation.going_on if policy.concurrency == "replace" else ()
    if policy.dry_run:
        return Drop(f"dry run: {cause} would have started a run")
    return Start(f"{cause}, in the place of run {', '.join(replaces)}" if replaces else cause, replaces)


def _holds_back(policy: Policy, situation: Situation) -> str:
    """What holds a cause back, in words, empty where nothing does."""
    recent = [moment for moment in situation.started_us if situation.now_us - moment < DAY]
    if len(recent) >= policy.max_runs_per_day:
        return f"{len(recent)} runs were started within a day; the bound is {policy.max_runs_per_day}"
    last = max(situation.started_us, default=None)
    if last is not None and 0 <= situation.now_us - last < policy.cooldown_us:
        return f"cooldown: the last run was started less than {format_duration(policy.cooldown_us)} ago"
    if situation.going_on and policy.concurrency != "replace":
        return f"run {situation.going_on[0]} is going on"
    return ""
