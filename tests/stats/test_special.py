"""Tail probabilities against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from goldenloop.stats.special import binomial_tail, chi_square_tail, kolmogorov_tail, normal_quantile, normal_tail


@settings(max_examples=40, deadline=None)
@given(statistic=st.floats(0.0, 2_000.0), degrees=st.integers(1, 1_000))
def test_chi_square(statistic: float, degrees: int) -> None:
    assert chi_square_tail(statistic, degrees) == pytest.approx(stats.chi2.sf(statistic, degrees), rel=1e-8, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(statistic=st.floats(0.0, 10.0))
def test_kolmogorov(statistic: float) -> None:
    assert kolmogorov_tail(statistic) == pytest.approx(stats.kstwobign.sf(statistic), rel=1e-6, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(trials=st.integers(0, 500), part=st.floats(0.0, 1.0))
def test_binomial(trials: int, part: float) -> None:
    successes = round(part * trials)
    assert binomial_tail(successes, trials) == pytest.approx(stats.binom.sf(successes - 1, trials, 0.5), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(probability=st.floats(1e-9, 1 - 1e-9))
def test_normal(probability: float) -> None:
    assert normal_quantile(probability) == pytest.approx(stats.norm.ppf(probability), rel=1e-7, abs=1e-9)
    assert normal_tail(normal_quantile(probability)) == pytest.approx(1.0 - probability, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(("statistic", "degrees"), [(-1.0, 1), (np.nan, 1), (1.0, 0)])
def test_nonsense_is_refused(statistic: float, degrees: int) -> None:
    with pytest.raises(ValueError, match="chi-square"):
        chi_square_tail(statistic, degrees)
