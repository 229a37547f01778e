"""Evidence by betting: validity at every look, independence of batching, power, and its errors."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from goldenloop.stats.betting import MeanEvidence, expected_count

differences = st.lists(st.floats(-1.0, 1.0, allow_nan=False), max_size=60)


def paired(generator: np.random.Generator, rows: int, *, effect: float, disagreement: float) -> NDArray[np.float64]:
    """Differences of two 0/1 losses: they differ on `disagreement` of the rows, by `effect` on average."""
    uniform = generator.random(rows)
    better = (disagreement + effect) / 2.0
    return np.where(uniform < better, 1.0, np.where(uniform < disagreement, -1.0, 0.0))


def start() -> MeanEvidence:
    return MeanEvidence.against(0.0, low=-1.0, high=1.0)


@given(values=differences, cut=st.integers(0, 60))
def test_batches_do_not_matter(values: list[float], cut: int) -> None:
    array = np.array(values, dtype=np.float64)
    whole = start().update(array)
    parts = start().update(array[:cut]).update(array[cut:])
    assert parts.count == whole.count == len(values)
    assert parts.log_evidence == pytest.approx(whole.log_evidence, abs=1e-9)
    assert parts.peak_log_evidence == pytest.approx(whole.peak_log_evidence, abs=1e-9)


@given(values=differences)
def test_wealth_is_never_negative_or_nan_and_survives_json(values: list[float]) -> None:
    state = start().update(np.array(values, dtype=np.float64))
    assert state.evidence >= 0.0
    assert math.isfinite(state.log_evidence)
    assert state.peak_log_evidence >= max(0.0, state.log_evidence) - 1e-12
    assert msgspec.json.decode(msgspec.json.encode(state), type=MeanEvidence) == state


def test_the_mean_wealth_is_one_where_the_mean_is_the_bound() -> None:
    # Exact, not simulated: all 3^6 sequences of a fair three-valued game.
    values = np.array([[-1.0, 0.0, 1.0]])
    grid = np.array(np.meshgrid(*[values[0]] * 6)).reshape(6, -1).T
    assert np.mean([start().update(line).evidence for line in grid]) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("disagreement", [0.05, 0.3, 1.0])
def test_false_evidence_is_at_most_alpha_over_a_whole_life(disagreement: float) -> None:
    generator = np.random.default_rng(7)
    reached = 0
    for _ in range(400):
        state = start().update(paired(generator, 2_000, effect=0.0, disagreement=disagreement))
        reached += state.peak_log_evidence >= math.log(20.0)
    assert reached / 400 <= 0.05 + 2.0 * math.sqrt(0.05 * 0.95 / 400)


def test_it_holds_for_a_mean_that_wanders_below_the_bound() -> None:
    generator = np.random.default_rng(8)
    effect = -0.05 * (1.0 + np.sin(np.arange(1_500) / 100.0))
    reached = 0
    for _ in range(300):
        uniform = generator.random(1_500)
        values = np.where(uniform < (0.2 + effect) / 2.0, 1.0, np.where(uniform < 0.2, -1.0, 0.0))
        reached += start().update(values).peak_log_evidence >= math.log(20.0)
    assert reached / 300 <= 0.05 + 2.0 * math.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize(("effect", "disagreement", "rows"), [(0.02, 0.06, 1_500), (0.05, 0.06, 260), (0.05, 0.1, 400)])
def test_power_on_paired_losses(effect: float, disagreement: float, rows: int) -> None:
    generator = np.random.default_rng(9)
    seen = sum(
        start().update(paired(generator, rows, effect=effect, disagreement=disagreement)).peak_log_evidence
        >= math.log(20.0)
        for _ in range(200)
    )
    assert seen >= 100  # the median time to a decision is within `rows`


def test_expected_count_is_about_right() -> None:
    generator = np.random.default_rng(3)
    ratios = []
    for _ in range(40):
        values = paired(generator, 8_000, effect=0.05, disagreement=0.1)
        state = start().update(values[:400])
        guess = expected_count(state, 20.0)
        more = 0
        while state.log_evidence < 20.0 and more < 7_600:
            state = state.update(values[400 + more : 420 + more])
            more += 20
        ratios.append(guess / more if guess is not None and more else math.nan)
    assert 0.5 <= np.nanmedian(ratios) <= 2.0
    assert np.isfinite(ratios).mean() > 0.8


def test_expected_count_says_when_it_never_comes() -> None:
    assert expected_count(start(), 3.0) is None
    assert expected_count(start().update(np.full(50, -0.5)), 3.0) is None
    assert expected_count(start().update(np.ones(50)), 3.0) == 0.0


@given(values=st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=50), threshold=st.floats(0.5, 20.0))
def test_expected_count_repeats_the_past(values: list[float], threshold: float) -> None:
    state = start().update(np.array(values))
    guess = expected_count(state, threshold)
    if guess is not None and guess > 0.0:
        grown = np.asarray(state.log_wealths) * (1.0 + guess / state.count)
        assert np.log(np.exp(grown - grown.max()).mean()) + grown.max() == pytest.approx(threshold, rel=1e-6)


@pytest.mark.parametrize("values", [[math.nan], [1.5], [-2.0], [math.inf]])
def test_values_outside_the_limits_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="position 1 is not in"):
        start().update(np.array([0.0, *values]))


@pytest.mark.parametrize(
    ("bound", "low", "high"), [(0.0, 0.0, 1.0), (1.0, 0.0, 1.0), (math.nan, 0, 1), (0.5, 0.0, math.inf)]
)
def test_impossible_bounds_are_refused(bound: float, low: float, high: float) -> None:
    with pytest.raises(ValueError, match="must lie between finite limits"):
        MeanEvidence.against(bound, low=low, high=high)


def test_a_table_of_values_is_refused() -> None:
    with pytest.raises(ValueError, match="one row of numbers"):
        start().update(np.zeros((2, 2)))
