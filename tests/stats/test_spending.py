"""Shares of an error rate: they never exceed the whole, and late ones are not starved."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.stats.spending import ErrorBudget, alpha_share, log_threshold


def test_all_shares_together_stay_within_the_total() -> None:
    count = 200_000
    partial = sum(alpha_share(index, 0.05) for index in range(1, count + 1))
    # The rest of the series is below the integral of 1 / (x ln(x)^2) from count + 1, which is 1 / ln(count + 1).
    rest = 0.05 / 2.109743 / math.log(count + 1)
    assert partial < 0.05
    assert partial + rest == pytest.approx(0.05, rel=1e-4)
    assert partial + rest - 0.05 < 0.05 * 1e-6


@given(index=st.integers(1, 10**9), total=st.floats(1e-6, 0.5))
def test_shares_fall_but_slower_than_the_square(index: int, total: float) -> None:
    assert 0.0 < alpha_share(index + 1, total) < alpha_share(index, total) < total
    assert log_threshold(index, total) == pytest.approx(np.log(1.0 / alpha_share(index, total)))
    if index >= 10:
        assert alpha_share(index, total) > 6.0 * total / (math.pi * index) ** 2


@pytest.mark.parametrize(("index", "total"), [(0, 0.05), (-1, 0.05), (1, 0.0), (1, 1.0), (1, math.nan)])
def test_nonsense_is_refused(index: int, total: float) -> None:
    with pytest.raises(ValueError):
        alpha_share(index, total)


@given(ends=st.lists(st.tuples(st.floats(0.0, 50.0), st.booleans()), max_size=60))
def test_a_budget_never_holds_more_than_the_whole_or_less_than_nothing(ends: list[tuple[float, bool]]) -> None:
    budget = ErrorBudget.of(0.05)
    lost = 0.0
    for evidence, found in ends:
        share = budget.next_share
        assert 0.0 < share < budget.left <= 0.05
        budget = budget.begin().end(share, evidence=evidence, found=found)
        lost += 0.0 if found else share * max(0.0, 1.0 - evidence)
        assert budget.left <= 0.05 - lost + 1e-12 or budget.left <= 0.05


def test_without_returns_a_budget_is_the_series_from_its_second_term() -> None:
    budget = ErrorBudget.of(0.05)
    scale = budget.next_share / alpha_share(2, 0.05)
    for index in range(1, 30):
        assert budget.next_share == pytest.approx(scale * alpha_share(index + 1, 0.05), rel=1e-5)
        budget = budget.begin().end(budget.next_share, evidence=0.0, found=False)


def test_a_life_of_finds_stays_at_the_first_threshold() -> None:
    budget = ErrorBudget.of(0.05)
    for _ in range(100):
        share = budget.next_share
        budget = budget.begin().end(share, evidence=1.0 / share, found=True)
    assert budget == ErrorBudget.of(0.05)


def test_a_life_of_nulls_errs_at_most_as_often_as_promised() -> None:
    """Fair games of betting, forty a life: each ends when it finds something or at a random moment, and gives back what it may."""
    generator = np.random.default_rng(11)
    lives, wrong = 200, 0
    for _ in range(lives):
        budget = ErrorBudget.of(0.05)
        for _ in range(40):
            share = budget.next_share
            budget = budget.begin()
            wealth = np.cumprod(1.0 + 0.5 * generator.choice([-1.0, 1.0], size=int(generator.integers(5, 120))))
            hit = np.flatnonzero(wealth >= 1.0 / share)
            if hit.size:
                wrong += 1
                break
            budget = budget.end(share, evidence=float(wealth[-1]), found=False)
    assert wrong / lives <= 0.05 + 3.0 * math.sqrt(0.05 * 0.95 / lives)


def test_another_total_keeps_the_part_that_is_left() -> None:
    budget = ErrorBudget.of(0.05).begin()
    assert budget.rescaled(0.1).left == pytest.approx(2 * budget.left)
    with pytest.raises(ValueError, match="between 0 and 1"):
        ErrorBudget.of(1.0)
