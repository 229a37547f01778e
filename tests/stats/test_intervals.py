"""Intervals: oracles, coverage for independent and for dependent rows, and their errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from goldenloop.stats.intervals import block_length, holm, mean_excess_p, mean_interval, wilson_interval


@settings(max_examples=40, deadline=None)
@given(trials=st.integers(1, 5_000), part=st.floats(0.0, 1.0), confidence=st.floats(0.5, 0.999))
def test_wilson_against_scipy(trials: int, part: float, confidence: float) -> None:
    successes = round(part * trials)
    expected = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    found = wilson_interval(successes, trials, confidence=confidence)
    assert (found.low, found.high) == (pytest.approx(expected.low, abs=1e-9), pytest.approx(expected.high, abs=1e-9))
    assert found.low <= found.estimate <= found.high


def test_bca_against_scipy() -> None:
    values = np.random.default_rng(1).exponential(size=200)
    expected = stats.bootstrap((values,), np.mean, n_resamples=9_999, method="BCa", rng=np.random.default_rng(2))
    found = mean_interval(values, replicates=9_999)
    width = expected.confidence_interval.high - expected.confidence_interval.low
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.05 * width)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.05 * width)


@pytest.mark.parametrize(("correlation", "block", "least"), [(0.0, 1, 0.90), (0.0, 6, 0.90), (0.6, 10, 0.85)])
def test_coverage(correlation: float, block: int, least: float) -> None:
    generator = np.random.default_rng(3)
    covered = 0
    for seed in range(200):
        values = np.empty(300)
        last = generator.normal() / math.sqrt(1.0 - correlation**2)
        for t, noise in enumerate(generator.normal(size=300)):
            values[t] = last = correlation * last + noise
        interval = mean_interval(values, block=block, replicates=400, seed=seed)
        covered += interval.low <= 0.0 <= interval.high
    assert least <= covered / 200 <= 0.99


def test_blocks_are_needed_where_rows_depend() -> None:
    values = np.repeat(np.random.default_rng(4).normal(size=50), 8)
    alone, blocked = mean_interval(values), mean_interval(values, block=16)
    assert blocked.high - blocked.low > 1.8 * (alone.high - alone.low)


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=80),
    block=st.integers(1, 10),
    seed=st.integers(0, 9),
)
def test_intervals_hold_the_mean_mirror_and_repeat(values: list[float], block: int, seed: int) -> None:
    array = np.array(values)
    found = mean_interval(array, block=block, replicates=300, seed=seed)
    assert found.low - 1e-9 <= found.estimate <= found.high + 1e-9
    assert found == mean_interval(array, block=block, replicates=300, seed=seed)


def test_p_of_a_mean_against_scipy() -> None:
    values = np.random.default_rng(5).normal(size=400) + 0.1
    expected = stats.ttest_1samp(values, 0.0, alternative="greater").pvalue
    assert mean_excess_p(values) == pytest.approx(expected, rel=0.05)
    assert mean_excess_p(-values) == pytest.approx(1.0 - mean_excess_p(values))
    assert mean_excess_p(values, 5.0) > 0.999


@settings(max_examples=40, deadline=None)
@given(p=st.dictionaries(st.text(max_size=2), st.floats(0.0, 1.0), max_size=8), alpha=st.floats(0.001, 0.2))
def test_holm_by_its_definition(p: dict[str, float], alpha: float) -> None:
    adjusted = holm(p)
    assert adjusted.keys() == p.keys()
    refused: set[str] = set()
    for rank, (name, value) in enumerate(sorted(p.items(), key=lambda item: (item[1], item[0]))):
        if value * (len(p) - rank) > alpha:
            break
        refused.add(name)
    assert {name for name, value in adjusted.items() if value <= alpha} == refused


def test_block_length_grows_slowly() -> None:
    assert [block_length(rows) for rows in (0, 1, 8, 27, 28, 1_000_000)] == [1, 1, 2, 3, 4, 100]


def test_errors() -> None:
    with pytest.raises(ValueError, match="have no rate"):
        wilson_interval(1, 0)
    with pytest.raises(ValueError, match="have no rate"):
        wilson_interval(5, 4)
    with pytest.raises(ValueError, match="confidence"):
        wilson_interval(1, 2, confidence=1.0)
    with pytest.raises(ValueError, match="at least one value"):
        mean_interval(np.array([]))
    with pytest.raises(ValueError, match="finite"):
        mean_interval(np.array([1.0, math.nan]))
    with pytest.raises(ValueError, match="block"):
        mean_interval(np.ones(3), block=0)
    single = mean_interval(np.array([2.0]))
    assert (single.low, single.high) == (2.0, 2.0)
