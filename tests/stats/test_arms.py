"""Groups that were dealt out: the comparison is fair at every moment, whatever the level of the loss does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.stats.arms import Centre, paired_by_turns, signed_losses
from goldenloop.stats.betting import MeanEvidence


@given(losses=st.lists(st.floats(0.0, 1.0), max_size=40), cut=st.integers(0, 40), seed=st.integers(0, 99))
def test_batches_do_not_matter_and_values_are_bounded(losses: list[float], cut: int, seed: int) -> None:
    array = np.array(losses, dtype=np.float64)
    turns = np.random.default_rng(seed).random(array.size) < 0.5
    whole, after = signed_losses(array, turns, Centre())
    first, between = signed_losses(array[:cut], turns[:cut], Centre())
    second, end = signed_losses(array[cut:], turns[cut:], between)
    assert np.concatenate([first, second]) == pytest.approx(whole)
    assert end.count == after.count == array.size
    assert end.total == pytest.approx(after.total)
    assert bool(np.all(np.abs(whole) <= 1.0))


def test_the_mean_is_exactly_half_of_the_difference_over_all_ways_to_deal() -> None:
    """All 2^8 ways to deal eight rows with two known losses each: not simulated."""
    baseline, challenger = np.array([1, 0, 1, 0, 0, 1, 1, 0.5]), np.array([0, 0, 1, 1, 0, 0, 1, 0.25])
    sums = []
    for way in range(256):
        turns = np.array([bool(way >> place & 1) for place in range(8)])
        values, _ = signed_losses(np.where(turns, challenger, baseline), turns, Centre())
        sums.append(values.sum())
    assert np.mean(sums) == pytest.approx((baseline - challenger).sum() / 2)


def test_no_false_evidence_under_a_level_that_wanders() -> None:
    generator = np.random.default_rng(5)
    reached = 0
    for _ in range(200):
        level = 0.3 + 0.25 * np.sin(np.arange(1_500) / 70.0)
        losses = (generator.random(1_500) < level).astype(float)
        values, _ = signed_losses(losses, generator.random(1_500) < 0.5, Centre())
        state = MeanEvidence.against(0.0, low=-1.0, high=1.0).update(values)
        reached += state.peak_log_evidence >= math.log(20.0)
    assert reached / 200 <= 0.05 + 2.0 * math.sqrt(0.05 * 0.95 / 200)


def test_neighbours_are_paired_and_the_rest_is_left_out() -> None:
    directions = np.array([True, True, False, True, False])
    outcomes = np.array([True, False, True, True, False])
    assert paired_by_turns(directions, outcomes).tolist() == [0.0, 0.0]
    assert paired_by_turns(np.array([True]), np.array([True])).tolist() == []


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="losses of"):
        signed_losses(np.zeros(2), np.zeros(3, dtype=bool), Centre())
    with pytest.raises(ValueError, match="between 0 and 1"):
        signed_losses(np.array([math.nan]), np.array([True]), Centre())
