"""New names and growth of their number: rates by simulation, numbers against scipy."""

from __future__ import annotations

import math
from statistics import fmean

import numpy as np
import pytest
from scipy import stats

from goldenloop.stats.categories import Names, distinct_growth, new_names

pytestmark = pytest.mark.filterwarnings("error")


def test_the_expected_number_of_names_is_hypergeometric() -> None:
    repeats = [50, 20, 5, 2, 1, 1, 1]
    reference = Names.of(np.repeat([f"n{i}" for i in range(7)], repeats))
    total = sum(repeats)
    expected = sum(1.0 - stats.hypergeom.pmf(0, total, number, 30) for number in repeats)
    window = np.array([f"n{i % 3}" for i in range(30)])
    assert distinct_growth(reference, window).value == pytest.approx(3 / expected)


def test_false_alarms_with_rare_names() -> None:
    """Names as in a long tail: both tests are quiet where nothing changed, and see a change."""
    generator = np.random.default_rng(0)
    shares = 1.0 / np.arange(1, 2_001)
    shares /= shares.sum()
    fresh, grown = [], []
    for _ in range(200):
        rows = np.char.add("n", generator.choice(2_000, 1_500, p=shares).astype(str))
        reference = Names.of(rows[:1_000])
        fresh.append(new_names(reference, rows[1_000:]).share.p_value)
        grown.append(distinct_growth(reference, rows[1_000:]).p_value)
    assert np.mean(np.array(fresh) < 0.05) < 0.12
    assert np.mean(np.array(grown) < 0.05) < 0.10
    flooded = np.where(generator.random(500) < 0.3, np.char.add("x", np.arange(500).astype(str)), rows[1_000:])
    assert new_names(reference, flooded).share.p_value < 1e-6
    growth = distinct_growth(reference, flooded)
    assert growth.value > 1.2
    assert growth.p_value < 1e-6


def test_more_rows_than_the_reference() -> None:
    generator = np.random.default_rng(1)
    values = generator.integers(0, 400, 3_000)
    reference = Names.of(values[:500])
    ratios = fmean(distinct_growth(Names.of(generator.integers(0, 400, 500)), values).value or 0.0 for _ in range(20))
    assert ratios == pytest.approx(1.0, abs=0.08)
    assert distinct_growth(reference, values).p_value > 1e-3


def test_strange_input_is_told() -> None:
    known = Names.of(np.array(["a", "b"] * 20))
    gone = np.array([None, math.nan], dtype=object)
    for nothing in (np.array([], dtype=object), gone):
        assert new_names(known, nothing).share.value is None
        assert distinct_growth(known, nothing).value is None
        assert new_names(Names.of(nothing), np.array(["a"])).share.value is None
        assert distinct_growth(Names.of(nothing), np.array(["a"])).value is None
    mixed = new_names(known, np.array([1, 1.0, "1", True, None, math.inf], dtype=object))
    assert mixed.share.rows == 4
    assert dict(mixed.names)["1"] >= 2
    ids = Names.of(np.arange(20_000))
    assert ids.open_ended
    assert "too many" in new_names(ids, np.array([-5])).share.note
    assert distinct_growth(ids, np.arange(100)).value == pytest.approx(1.0)
    constant = Names.of(np.array(["a"] * 100))
    assert distinct_growth(constant, np.array(["a"])).value == 1.0
    assert distinct_growth(constant, np.array(["a", "b"])).p_value < 1e-6
