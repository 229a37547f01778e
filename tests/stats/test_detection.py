"""The promise about false alarms, simulated; delay; and that state is only state."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from goldenloop.stats.detection import PROMISE_WINDOWS, REFERENCE_BOUND, Detector, WindowScorer


def null_scores(generator: np.random.Generator, count: int, kind: str) -> NDArray[np.float64]:
    """Scores of windows in which nothing changes."""
    if kind == "normal":
        return generator.normal(size=count)
    if kind == "heavy":
        return generator.standard_t(2.0, size=count)
    if kind == "tied":
        return generator.integers(0, 4, size=count).astype(float)
    correlation = float(kind.removeprefix("ar"))
    noise = generator.normal(size=count + 50) * math.sqrt(1.0 - correlation**2)
    values = np.zeros(count + 50)
    for t in range(1, count + 50):
        values[t] = correlation * values[t - 1] + noise[t]
    return values[50:]


def false_alarms(kind: str, *, reference: int, promised: int, windows: int, repetitions: int, seed: int) -> list[int]:
    """Alarms in each of many runs without change."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(repetitions):
        scores = null_scores(generator, reference + windows, kind)
        scorer = WindowScorer.of(scores[:reference], windows_per_false_alarm=promised)
        alarms = 0
        for score in scores[reference:]:
            judgement, scorer = scorer.judge(score)
            alarms += judgement.alarm
        found.append(alarms)
    return found


def assert_promise_kept(found: list[int], *, promised: int, windows: int) -> None:
    """The rate is at most 1 / promised, within three standard errors of the simulation."""
    rates = np.array(found) / windows
    error = max(float(rates.std()) / math.sqrt(len(found)), 1.0 / (windows * len(found)))
    assert rates.mean() <= 1.0 / promised + 3.0 * error
    assert rates.mean() <= 1.5 / promised  # and the simulation is large enough to mean something


@pytest.mark.parametrize("kind", ["normal", "heavy", "tied", "ar0.3", "ar0.5"])
@pytest.mark.parametrize("reference", [24, 42])
def test_the_promise_is_kept(kind: str, reference: int) -> None:
    found = false_alarms(kind, reference=reference, promised=50, windows=300, repetitions=25, seed=reference)
    assert_promise_kept(found, promised=50, windows=300)


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["normal", "heavy", "tied", "ar0.3", "ar0.5", "ar0.7"])
@pytest.mark.parametrize("reference", [24, 42, 112])
@pytest.mark.parametrize("promised", [50, 365])
def test_the_promise_is_kept_over_the_long_run(kind: str, reference: int, promised: int) -> None:
    found = false_alarms(kind, reference=reference, promised=promised, windows=1_000, repetitions=100, seed=reference)
    assert_promise_kept(found, promised=promised, windows=1_000)


@pytest.mark.parametrize(
    ("shift", "reference", "promised", "at_most"),
    [(4.0, 24, 1_000, 8), (4.0, 42, 1_000, 5), (2.0, 42, 50, 5), (2.0, 112, 1_000, 10), (1.0, 112, 50, 14)],
)
def test_a_change_is_seen_in_time(shift: float, reference: int, promised: int, at_most: int) -> None:
    generator = np.random.default_rng(5)
    delays = []
    for _ in range(60):
        scorer = WindowScorer.of(generator.normal(size=reference), windows_per_false_alarm=promised)
        delay = 0
        alarm = False
        while not alarm and delay < 60:
            judgement, scorer = scorer.judge(generator.normal() + shift)
            delay, alarm = delay + 1, judgement.alarm
        delays.append(delay if alarm else 999)
    assert np.median(delays) <= at_most


def test_there_is_no_promise_before_there_is_a_reference() -> None:
    scorer = WindowScorer.of([], windows_per_false_alarm=2)
    generator = np.random.default_rng(1)
    for seen in range(PROMISE_WINDOWS):
        assert scorer.windows_needed == PROMISE_WINDOWS - seen
        judgement, scorer = scorer.judge(generator.normal() + 100.0 * seen)
        assert not judgement.promise
        assert not judgement.alarm
        assert judgement.windows_needed == PROMISE_WINDOWS - seen
    judgement, scorer = scorer.judge(0.0)
    assert judgement.promise
    assert judgement.windows_needed == 0


def test_the_reference_is_bounded_and_alarming_windows_stay_out() -> None:
    generator = np.random.default_rng(4)
    scorer = WindowScorer.of(generator.normal(size=2_000), windows_per_false_alarm=20)
    assert len(scorer.reference) == REFERENCE_BOUND
    alarmed = False
    while not alarmed:
        before = scorer
        judgement, scorer = scorer.judge(50.0)
        alarmed = judgement.alarm
        assert len(scorer.reference) == REFERENCE_BOUND
    assert scorer.reference == before.reference
    assert all(detector.statistic == 0.0 for detector in scorer.detectors)


def test_relocating_keeps_the_scatter_and_moves_the_expectation() -> None:
    generator = np.random.default_rng(6)
    scorer = WindowScorer.of(generator.normal(size=80), windows_per_false_alarm=1_000).relocate(10.0)
    quiet, _ = scorer.judge(10.0)
    strange, _ = scorer.judge(16.0)
    assert quiet.p > 0.2
    assert strange.p < 0.05
    fresh = WindowScorer.of([1.0, 3.0], windows_per_false_alarm=10).relocate(7.0)
    assert fresh.collected == (6.0, 8.0)
    assert fresh.restart() == fresh


@settings(max_examples=40, deadline=None)
@given(
    scores=st.lists(st.floats(-1e6, 1e6), min_size=24, max_size=40), more=st.lists(st.floats(-1e6, 1e6), max_size=10)
)
def test_state_survives_json_and_does_not_depend_on_units(scores: list[float], more: list[float]) -> None:
    scorer = WindowScorer.of(scores, windows_per_false_alarm=100)
    for score in more:
        again = msgspec.json.decode(msgspec.json.encode(scorer), type=WindowScorer)
        assert again == scorer
        (first, scorer), (second, _) = scorer.judge(score), again.judge(score)
        assert first == second
        assert math.isfinite(first.statistic)
        assert 0.0 < first.p <= 1.0


def test_a_constant_reference_is_no_reason_to_fail() -> None:
    scorer = WindowScorer.of(np.full(30, 3.0), windows_per_false_alarm=100)
    for _ in range(50):
        judgement, scorer = scorer.judge(3.0)
        assert not judgement.alarm
    assert scorer.judge(4.0)[0].p < 0.05


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_scores_must_be_numbers(score: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        WindowScorer.of([score], windows_per_false_alarm=10)
    with pytest.raises(ValueError, match="finite"):
        WindowScorer.of([], windows_per_false_alarm=10).judge(score)
    with pytest.raises(ValueError, match="promised"):
        WindowScorer.of([], windows_per_false_alarm=0.5)


def test_the_detector_alone_keeps_its_mean_run() -> None:
    generator = np.random.default_rng(11)
    runs = []
    for _ in range(200):
        detector, length = Detector(windows_per_false_alarm=20.0), 0
        while not detector.alarm:
            detector = detector.update(0.5 * generator.random() ** -0.5)
            length += 1
        runs.append(length)
    assert np.mean(runs) >= 20.0
    with pytest.raises(ValueError, match="e-value"):
        Detector(windows_per_false_alarm=20.0).update(math.nan)
