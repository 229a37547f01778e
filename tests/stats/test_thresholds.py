"""Learned thresholds: their rates on values in which nothing changes, and the tail against scipy."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from goldenloop.stats.thresholds import HISTORY, LearnedThreshold, pareto_moments, tail_quantile

pytestmark = pytest.mark.filterwarnings("error")

HOUR = 3_600_000_000


def threshold_of(values: NDArray[np.float64], **settings: object) -> LearnedThreshold:
    times = tuple(range(0, len(values) * HOUR, HOUR))
    return msgspec.convert({"values": values.tolist(), "times_us": times, **settings}, LearnedThreshold)


@pytest.mark.parametrize("side", ["high", "low", "both"])
def test_ranks_keep_their_rate(side: str) -> None:
    generator = np.random.default_rng(0)
    outside = []
    for _ in range(600):
        values = generator.standard_t(2, size=100)
        limits = threshold_of(values[:99], rate=0.05, side=side).judge(values[99], at_us=0)
        outside.append(limits.outside)
        assert (limits.low is None) == (side == "high")
        assert (limits.high is None) == (side == "low")
    assert np.mean(outside) <= 0.075


@pytest.mark.parametrize("law", [stats.norm(), stats.expon(), stats.t(4)])
def test_the_tail_against_scipy(law: stats.rv_continuous) -> None:
    """The chance beyond the limit is about the rate that was asked for, where ranks of 300 values cannot reach it."""
    generator = np.random.default_rng(1)
    chances = [law.sf(tail_quantile(law.rvs(300, random_state=generator), 0.002)) for _ in range(120)]
    assert 0.001 < np.mean(chances) < 0.004


def test_pareto_moments_against_scipy() -> None:
    generator = np.random.default_rng(2)
    excesses = np.sort(stats.genpareto(0.2, scale=3.0).rvs(20_000, random_state=generator))
    shape, scale = pareto_moments(excesses)
    assert shape == pytest.approx(0.2, abs=0.03)
    assert scale == pytest.approx(3.0, rel=0.03)
    theirs = stats.genpareto.fit(excesses, floc=0.0)
    assert (shape, scale) == pytest.approx((theirs[0], theirs[2]), rel=0.12)


@pytest.mark.parametrize(
    ("season", "wave"),
    [
        ("hour of day", lambda hours: 10.0 * np.sin(hours * 2 * np.pi / 24)),
        ("day of week", lambda hours: 10.0 * ((hours // 24) % 7 >= 5)),
        ("none", lambda hours: 0.0 * hours),
    ],
)
def test_a_season_is_learned_and_its_band_keeps_its_rate(season: str, wave: object) -> None:
    generator = np.random.default_rng(3)
    hours = np.arange(520)
    outside, found = [], []
    for _ in range(60):
        values = wave(hours) + generator.normal(size=520)  # type: ignore[operator]
        threshold = threshold_of(values[:500], method="seasonal", rate=0.04)
        limits = [
            threshold.judge(value, at_us=int(hour) * HOUR)
            for hour, value in zip(hours[500:], values[500:], strict=True)
        ]
        outside += [limit.outside for limit in limits]
        found.append(limits[0].season)
    assert found.count(season) >= 57
    assert 0.02 < np.mean(outside) < 0.07
    if season == "hour of day":  # a value that is ordinary at noon, at the wrong hour
        assert threshold.judge(10.0, at_us=18 * HOUR).outside
        assert not threshold_of(values[:500], rate=0.04).judge(10.0, at_us=18 * HOUR).outside


def test_it_says_how_much_it_has_still_to_learn() -> None:
    threshold = LearnedThreshold(rate=0.1, side="both")
    for seen in range(19):
        limits = threshold.judge(1e9, at_us=seen)
        assert limits.needed == 19 - seen
        assert limits.outside is None
        assert limits.note == f"learning, {19 - seen} more needed"
        threshold = threshold.update(float(seen), at_us=seen)
    assert threshold.judge(1e9, at_us=0).outside
    assert threshold.judge(1e9, at_us=0).promise.startswith("at most 0.1 ")
    assert LearnedThreshold(method="tail", rate=0.001).needed == 50


@pytest.mark.parametrize("method", ["conformal", "tail", "seasonal"])
def test_state_is_small_and_survives_json(method: str) -> None:
    threshold = threshold_of(np.random.default_rng(4).normal(size=HISTORY), method=method, rate=0.02)
    threshold = threshold.update(0.5, at_us=HOUR * 600).update(math.nan, at_us=0).update(math.inf, at_us=0)
    assert len(threshold.values) == len(threshold.times_us) == HISTORY
    assert threshold.values[-1] == 0.5
    again = msgspec.json.decode(msgspec.json.encode(threshold), type=LearnedThreshold)
    assert again == threshold
    assert again.judge(0.3, at_us=5) == threshold.judge(0.3, at_us=5)


@pytest.mark.parametrize("method", ["conformal", "tail", "seasonal"])
def test_strange_values_are_told(method: str) -> None:
    constant = threshold_of(np.full(200, 3.0), method=method, rate=0.02, side="both")
    assert constant.judge(3.0, at_us=0).outside is False
    assert constant.judge(4.0, at_us=0).outside is True
    assert constant.judge(math.nan, at_us=0).outside is None
    assert "no number" in constant.judge(math.nan, at_us=0).note
    with pytest.raises(ValueError, match="rate"):
        LearnedThreshold(rate=0.0)
    with pytest.raises(ValueError, match="tail needs"):
        tail_quantile(np.arange(5.0), 0.01)
