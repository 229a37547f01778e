"""Whether an alarm starts a run.

One cause, one run: the key names the loop, the version that answers, and the window of the alarm, so a cause that is seen twice is the
same cause. What holds a trigger back (a run or a rollout under way, cooldown, the daily bound, too few new labels) is said, and the cause
stays: it is looked at again with the next window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from goldenloop.core.clock import DAY
from goldenloop.core.durations import format_duration

LONGEST_BACK_OFF = 6  # the back-off doubles with every setback, so often at most


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds a trigger back. Durations are microseconds of event time."""

    cooldown_us: int
    max_runs_per_day: int
    min_new_labels: int
    back_off_us: int  # after a cause came to nothing; doubles with each in a row


@dataclass(frozen=True, slots=True)
class Situation:
    """What a trigger looks at. Moments are event times."""

    now_us: int
    busy_with: str  # "", or what is under way, in words
    new_labels: int
    fired_us: tuple[int, ...]  # when runs were triggered before
    refused_us: int | None  # when the last cause came to nothing
    setbacks: int = 0  # how often in a row causes came to nothing
    suspended: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Fire:
    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    reason: str


Decision: TypeAlias = Fire | Hold


def decide(policy: Policy, situation: Situation, cause: str) -> Decision:
    """Decide on one cause, given in words."""
    if situation.suspended:
        return Hold("the trigger is suspended")
    if situation.busy_with:
        return Hold(f"{situation.busy_with} is under way")
    last = situation.fired_us[-1] if situation.fired_us else None
    if last is not None and situation.now_us - last < policy.cooldown_us:
        return Hold(f"cooldown: the last run was triggered less than {format_duration(policy.cooldown_us)} ago")
    recent = sum(1 for moment in situation.fired_us if situation.now_us - moment < DAY)
    if recent >= policy.max_runs_per_day:
        return Hold(f"{recent} runs were triggered within a day; the bound is {policy.max_runs_per_day}")
    back_off_us = back_off(policy, situation.setbacks)
    if situation.refused_us is not None and situation.now_us - situation.refused_us < back_off_us:
        return Hold(f"back-off: the last run came to nothing less than {format_duration(back_off_us)} ago")
    if situation.new_labels < policy.min_new_labels:
        return Hold(
            f"only {situation.new_labels} new labels since the last training; {policy.min_new_labels} are asked for"
        )
    if situation.dry_run:
        return Hold("this is a dry run: nothing else holds it back")
    return Fire(cause)


def back_off(policy: Policy, setbacks: int) -> int:
    """How long the loop waits after so many causes in a row came to nothing."""
    return policy.back_off_us << min(max(0, setbacks - 1), LONGEST_BACK_OFF)
