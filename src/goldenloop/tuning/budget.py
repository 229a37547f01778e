"""Search within a time budget: try candidates in their order, keep the best, stop when the time is over. Pure.

The order is the caller's and is the search's whole wisdom: cheap baselines first, so that there is always something.
The first candidate is tried whatever the budget. A candidate is not begun when the longest of those before it, times
`_PATIENCE`, would not fit any more. One that fails is recorded with its error and the search goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import msgspec

from goldenloop.core.clock import SECOND, Clock
from goldenloop.core.errors import InvalidSpecError

Candidate = TypeVar("Candidate")

_PATIENCE = 1.0


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate that was tried: its loss (lower is better), or why it has none; and its time."""

    name: str
    loss: float | None
    seconds: float
    error: str | None = None


class Outcome(msgspec.Struct, Generic[Candidate], frozen=True, kw_only=True):
    """What a search found: the best candidate, and every trial in order. `untried` were left for want of time."""

    name: str
    best: Candidate
    loss: float
    trials: tuple[Trial, ...]
    untried: tuple[str, ...] = ()


def search(
    candidates: Sequence[tuple[str, Candidate]],
    loss_of: Callable[[Candidate], float],
    *,
    budget_seconds: float,
    clock: Clock,
) -> Outcome[Candidate]:
    """Try candidates and return the one with the least loss; of equals the earlier one, which is the simpler.

    `loss_of` trains and judges one; what it raises, and a loss that is not a number, count as a failed trial. Raises
    InvalidSpecError when every candidate failed, with the first reason.
    """
    began_us = clock.now_us()
    trials: list[Trial] = []
    best: tuple[str, Candidate, float] | None = None
    longest = 0.0
    untried: list[str] = []
    for number, (name, candidate) in enumerate(candidates):
        spent = (clock.now_us() - began_us) / SECOND
        if number and spent + longest * _PATIENCE > budget_seconds:
            untried.append(name)
            continue
        trial_us = clock.now_us()
        loss, error = _try(candidate, loss_of)
        seconds = (clock.now_us() - trial_us) / SECOND
        longest = max(longest, seconds)
        trials.append(Trial(name=name, loss=loss, seconds=seconds, error=error))
        if loss is not None and (best is None or loss < best[2]):
            best = (name, candidate, loss)
    if best is None:
        reason = next((trial.error for trial in trials if trial.error), "there was none to try")
        raise InvalidSpecError(
            f"no candidate could be trained: {reason}", mend="Look at the data that the run was given."
        )
    name, candidate, loss = best
    return Outcome(name=name, best=candidate, loss=loss, trials=tuple(trials), untried=tuple(untried))


def _try(candidate: Candidate, loss_of: Callable[[Candidate], float]) -> tuple[float | None, str | None]:
    try:
        loss = float(loss_of(candidate))
    except Exception as error:  # any library may raise anything; the search goes on without this one
        return None, f"{type(error).__name__}: {error}"
    return (loss, None) if math.isfinite(loss) else (None, f"its loss is {loss}")
