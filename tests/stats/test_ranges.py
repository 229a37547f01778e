"""Ranges and missing shares: rates by simulation, numbers against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from goldenloop.stats.ranges import Range, missing_change, outside_share

pytestmark = pytest.mark.filterwarnings("error")


def test_rows_like_the_reference_seldom_alarm() -> None:
    generator = np.random.default_rng(2)
    for draw in (generator.standard_normal, lambda size: generator.standard_t(2, size)):
        found = []
        for _ in range(300):
            values = draw(1_500)
            found.append(outside_share(Range.of(values[:1_000]), values[1_000:]).p_value < 0.01)
        assert np.mean(found) <= 0.03
    moved = outside_share(Range.of(generator.normal(size=1_000)), generator.normal(size=200) + 3.0)
    assert moved.p_value < 1e-9
    assert "above" in moved.note


def test_the_tolerance_is_in_interquartile_ranges() -> None:
    reference = Range.of(np.arange(101.0))
    assert reference.spread == pytest.approx(stats.iqr(np.arange(101.0)))
    assert outside_share(reference, np.array([149.0, 151.0]), tolerance=1.0).value == 0.5
    with pytest.raises(ValueError, match="tolerance"):
        outside_share(reference, np.array([1.0]), tolerance=-1.0)


def test_missing_is_the_binomial_test_after_a_large_reference() -> None:
    change = missing_change(70, 500, reference_missing=1_000_000, reference_rows=10_000_000)
    assert change.value == pytest.approx(0.04)
    lower = stats.binom.cdf(70, 500, 0.1)
    upper = stats.binom.sf(69, 500, 0.1)
    assert change.p_value == pytest.approx(2 * min(lower, upper), rel=1e-3)
    assert change.low <= change.value <= change.high


def test_strange_input_is_told() -> None:
    nothing = Range.of(np.array([None, math.nan, math.inf], dtype=object))
    assert outside_share(nothing, np.array([1.0])).value is None
    assert outside_share(Range.of(np.arange(9.0)), np.array([math.nan])).value is None
    assert outside_share(Range.of(np.arange(9.0)), np.array([math.inf, -math.inf, 1.0])).value == pytest.approx(2 / 3)
    assert outside_share(Range.of(np.full(50, 3.0)), np.full(9, 3.0), tolerance=1.0).value == 0.0
    assert outside_share(Range.of(np.array([-1.7e308, 1.7e308])), np.array([0.0]), tolerance=1.0).value == 0.0
    assert outside_share(Range.of(np.array([5.0])), np.array([6.0])).p_value > 0.05  # one reference row proves nothing
    assert missing_change(0, 0, reference_missing=0, reference_rows=9).value is None
    assert missing_change(0, 9, reference_missing=0, reference_rows=0).value is None
    assert "all" in missing_change(9, 9, reference_missing=0, reference_rows=90).note
    with pytest.raises(ValueError, match="counted"):
        missing_change(3, 2, reference_missing=0, reference_rows=1)
