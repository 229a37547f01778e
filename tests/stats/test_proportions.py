"""Two proportions and strange counts, against statsmodels and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats.contingency import relative_risk

from goldenloop.stats.proportions import (
    count_tails,
    difference_interval,
    ratio_interval,
    student_quantile,
    two_sided,
)

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize(
    ("counts", "low", "high"),  # statsmodels 0.15.0, confint_proportions_2indep(method="newcomb")
    [
        ((56, 70, 48, 80), 0.05243147240236498, 0.33387265403690614),
        ((0, 10, 3, 40), -0.1986423352431055, 0.2068537765604206),
        ((9, 10, 3, 10), 0.1705227239345029, 0.809017973535488),
        ((10, 10, 0, 20), 0.6790860371419145, 1.0),
    ],
)
def test_newcombe(counts: tuple[int, int, int, int], low: float, high: float) -> None:
    interval = difference_interval(*counts)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize("counts", [(30, 100, 60, 100), (5, 80, 9, 40), (1, 10, 2, 10)])
def test_katz_against_scipy(counts: tuple[int, int, int, int]) -> None:
    expected = relative_risk(*counts)
    interval = ratio_interval(*counts)
    assert interval is not None
    assert interval.estimate == pytest.approx(expected.relative_risk)
    assert (interval.low, interval.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_ratios_at_the_edges() -> None:
    assert ratio_interval(3, 10, 0, 10) is None
    for counts in ((0, 10, 5, 10), (10, 10, 10, 10)):
        interval = ratio_interval(*counts)
        assert interval is not None
        assert 0.0 <= interval.low <= interval.estimate <= interval.high < 10.0
        assert interval.low < interval.high
    with pytest.raises(ValueError, match="no rate"):
        ratio_interval(3, 2, 1, 1)


@settings(max_examples=60, deadline=None)
@given(trials=st.integers(1, 800), part=st.floats(0, 1), reference=st.integers(0, 3_000), share=st.floats(0, 1))
def test_tails_against_scipy(trials: int, part: float, reference: int, share: float) -> None:
    successes, before = round(part * trials), round(share * reference)
    lower, upper = count_tails(successes, trials, reference_successes=before, reference_trials=reference)
    law = stats.betabinom(trials, before + 0.5, reference - before + 0.5)
    assert lower == pytest.approx(law.cdf(successes), rel=1e-6, abs=1e-10)
    assert upper == pytest.approx(law.sf(successes - 1), rel=1e-6, abs=1e-10)


def test_a_large_reference_is_the_binomial_test() -> None:
    _, upper = count_tails(130, 1_000, reference_successes=10**8, reference_trials=10**9)
    assert upper == pytest.approx(stats.binomtest(130, 1_000, 0.1, alternative="greater").pvalue, rel=1e-3)
    assert two_sided((0.6, 0.7)) == 1.0


def test_a_small_reference_does_not_cry() -> None:
    """Where the rate is known from 50 rows, the binomial test against it alarms far too often; this one does not."""
    generator = np.random.default_rng(0)
    alarms = []
    for _ in range(400):
        before, now = generator.binomial(50, 0.1), generator.binomial(500, 0.1)
        tails = count_tails(int(now), 500, reference_successes=int(before), reference_trials=50)
        alarms.append(two_sided(tails) < 0.05)
    assert np.mean(alarms) < 0.09


@pytest.mark.parametrize("degrees", [9, 15, 40, 400])
@pytest.mark.parametrize("probability", [0.005, 0.05, 0.975, 0.995])
def test_student(degrees: int, probability: float) -> None:
    assert student_quantile(probability, degrees) == pytest.approx(stats.t.ppf(probability, degrees), rel=5e-3)
    with pytest.raises(ValueError, match="degrees"):
        student_quantile(0.975, 2)
