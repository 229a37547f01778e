"""The search within a budget, on a clock that stands still."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.core.clock import SECOND, VirtualClock
from goldenloop.core.errors import InvalidSpecError
from goldenloop.tuning.budget import search

LOSSES = st.lists(st.tuples(st.floats(0, 10) | st.just(math.nan), st.integers(0, 5)), min_size=1, max_size=12)


@given(LOSSES, st.floats(0, 20))
def test_the_best_of_what_was_tried_wins_within_the_budget(plan: list[tuple[float, int]], budget: float) -> None:
    clock = VirtualClock()

    def loss_of(candidate: tuple[float, int]) -> float:
        clock.advance(candidate[1] * SECOND)
        return candidate[0]

    candidates = [(str(number), candidate) for number, candidate in enumerate(plan)]
    try:
        found = search(candidates, loss_of, budget_seconds=budget, clock=clock)
    except InvalidSpecError:
        assert math.isnan(plan[0][0])
        return
    tried = [trial for trial in found.trials if trial.loss is not None]
    assert found.loss == min(trial.loss for trial in tried if trial.loss is not None)
    assert found.name == next(trial.name for trial in tried if trial.loss == found.loss), "of equals the earlier"
    assert len(found.trials) + len(found.untried) == len(plan)
    assert found.trials[0].name == "0", "the first is always tried"
    longest = max(seconds for _, seconds in plan)
    assert clock.now_us() <= (max(budget, plan[0][1]) + longest) * SECOND


def test_a_candidate_that_fails_is_recorded() -> None:
    def loss_of(candidate: int) -> float:
        return 1 / candidate

    found = search([("zero", 0), ("two", 2), ("four", 4)], loss_of, budget_seconds=1, clock=VirtualClock())
    assert found.name == "four"
    assert found.trials[0].error == "ZeroDivisionError: division by zero"
    with pytest.raises(InvalidSpecError, match="division by zero"):
        search([("zero", 0)], loss_of, budget_seconds=1, clock=VirtualClock())
