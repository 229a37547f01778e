"""Conformal p-values are uniform under exchangeability; calibrators make evidence of mean at most one."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from goldenloop.stats.conformal import conformal_p, mixture_evidence, power_evidence

scores = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=20)


@given(pool=scores)
def test_p_is_valid_for_every_pool_with_ties(pool: list[float]) -> None:
    # Exchangeability, exactly: each member of the pool is the new score once.
    found = [conformal_p(pool[i], np.array(pool[:i] + pool[i + 1 :])) for i in range(len(pool))]
    for level in {*found}:
        assert np.mean(np.array(found) <= level) <= level + 1e-12


def test_smoothed_p_is_uniform_and_independent_online() -> None:
    generator = np.random.default_rng(2)
    values = generator.integers(0, 5, size=1_500).astype(float)  # many ties
    p = np.array([conformal_p(values[t], values[:t], uniform=generator.random()) for t in range(values.size) if t > 0])
    assert abs(p.mean() - 0.5) < 4.0 * math.sqrt(1.0 / 12.0 / p.size)
    assert abs(np.corrcoef(p[1:], p[:-1])[0, 1]) < 4.0 / math.sqrt(p.size)


@pytest.mark.parametrize("calibrator", [mixture_evidence, power_evidence, lambda p: power_evidence(p, 0.2)])
def test_calibrators_integrate_to_one_and_fall(calibrator: Callable[[float], float]) -> None:
    # In u = ln p the integrand is smooth; the part below e^-600 is what the slow tail of the mixture leaves: 1/600.
    area, _ = quad(lambda u: calibrator(math.exp(u)) * math.exp(u), -600.0, 0.0, limit=500)
    assert area <= 1.0 + 1e-6
    assert area > 0.998
    grid = [calibrator(p) for p in np.geomspace(1e-6, 1.0, 200)]
    assert all(a >= b for a, b in pairwise(grid))


def test_the_mixture_is_smooth_where_its_form_changes() -> None:
    edge = math.exp(-1e-3)
    assert mixture_evidence(edge * (1 - 1e-9)) == pytest.approx(mixture_evidence(edge * (1 + 1e-9)), rel=1e-6)


def test_errors() -> None:
    assert conformal_p(1.0, np.array([])) == 1.0
    with pytest.raises(ValueError, match="score is NaN"):
        conformal_p(math.nan, np.zeros(3))
    with pytest.raises(ValueError, match="contain NaN"):
        conformal_p(0.0, np.array([math.nan]))
    with pytest.raises(ValueError, match="uniform"):
        conformal_p(0.0, np.zeros(3), uniform=2.0)
    for p in (0.0, -0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="p-value"):
            mixture_evidence(p)
    with pytest.raises(ValueError, match="kappa"):
        power_evidence(0.5, 1.0)
