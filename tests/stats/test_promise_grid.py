"""Promise P1 over a grid of streams in which nothing changes, at the level of window scores; docs/promises.md has the
numbers. Run by `make soak`; a small grid is in test_detection.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from goldenloop.stats.detection import PROMISE_WINDOWS, WindowScorer

STREAMS = ("independent", "heavy-tailed", "seasonal", "autocorrelated", "mixed types")
REPETITIONS = 300


def null_stream(generator: np.random.Generator, windows: int, stream: str) -> NDArray[np.float64]:
    """Scores of windows without change. Seasonal: a weekly cycle of one deviation. Autocorrelated: 0.5. Mixed types:
    the soft maximum over ten number columns and ten columns of rare categories, whose scores are few and skewed.
    """
    if stream == "heavy-tailed":
        return generator.standard_t(2.0, size=windows)
    noise = generator.normal(size=windows)
    if stream == "seasonal":
        start = int(generator.integers(7))
        return noise + math.sqrt(2.0) * np.sin(2.0 * np.pi * (np.arange(windows) + start) / 7.0)
    if stream == "autocorrelated":
        for place in range(1, windows):
            noise[place] = 0.5 * noise[place - 1] + math.sqrt(0.75) * noise[place]
        return noise
    if stream == "mixed types":
        numbers = generator.normal(size=(windows, 10))
        rare = np.cbrt(generator.poisson(0.5, size=(windows, 10)) * 2.0) - 0.5
        return np.log(np.exp(np.concatenate([numbers, rare], axis=1)).mean(axis=1))
    return noise


def alarm_rates(stream: str, *, reference: int, promised: int, repetitions: int, windows: int) -> NDArray[np.float64]:
    """The rate of alarms in each repetition."""
    generator = np.random.default_rng([reference, promised, STREAMS.index(stream)])
    rates = []
    for _ in range(repetitions):
        scores = null_stream(generator, reference + windows, stream)
        scorer = WindowScorer.of(scores[:reference], windows_per_false_alarm=promised)
        alarms = 0
        for score in scores[reference:].tolist():
            judgement, scorer = scorer.judge(score)
            alarms += judgement.alarm
            assert judgement.promise or not judgement.alarm
        rates.append(alarms / windows)
    return np.array(rates)


@pytest.mark.soak
@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("reference", [24, 42, 112])
@pytest.mark.parametrize("promised", [50, 365])
def test_at_most_the_promise(stream: str, reference: int, promised: int) -> None:
    rates = alarm_rates(
        stream, reference=reference, promised=promised, repetitions=REPETITIONS, windows=max(200, promised)
    )
    error = float(rates.std()) / math.sqrt(rates.size)
    assert rates.mean() <= 1.0 / promised + 3.0 * error


@pytest.mark.soak
@pytest.mark.parametrize("stream", STREAMS)
def test_twelve_reference_windows_promise_nothing_and_do_not_alarm(stream: str) -> None:
    """Until there are 24 there is no promise and no alarm, and it says how many more are needed."""
    generator = np.random.default_rng(0)
    for _ in range(REPETITIONS):
        scorer = WindowScorer.of(null_stream(generator, 12, stream), windows_per_false_alarm=50)
        for seen, score in enumerate(null_stream(generator, PROMISE_WINDOWS - 12, stream).tolist()):
            judgement, following = scorer.judge(score)
            assert not judgement.promise
            assert not judgement.alarm
            assert judgement.windows_needed == scorer.windows_needed == PROMISE_WINDOWS - 12 - seen
            scorer = following
