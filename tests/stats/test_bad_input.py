"""Whatever comes: a result that says so, never an exception of numpy's, never a warning."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from goldenloop.stats.attribution_drift import AttributionProfile, attribution_drift
from goldenloop.stats.calibration import calibration, top_label
from goldenloop.stats.categories import Names, distinct_growth, new_names
from goldenloop.stats.encoding import Encoding
from goldenloop.stats.estimates import Calibrator, corrected_mean, estimate_binary
from goldenloop.stats.fairness import fairness
from goldenloop.stats.measured import Measured
from goldenloop.stats.multivariate import domain_classifier, maximum_mean_discrepancy
from goldenloop.stats.noise import NOISES, Noise
from goldenloop.stats.outliers import METHODS, Scorer, fit_outliers
from goldenloop.stats.ranges import Range, missing_change, outside_share
from goldenloop.stats.thresholds import LearnedThreshold

pytestmark = pytest.mark.filterwarnings("error")

STRANGE = st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, 0.5, -3.0, 1e-320, 1.7e308, -1.7e308])
COLUMN = st.lists(STRANGE, max_size=40).map(lambda values: np.array(values, dtype=np.float64))
CELL = st.sampled_from([None, math.nan, math.inf, 1, 1.0, "1", "", "a", "\x00", True, 10**30])
NAMES = st.lists(CELL, max_size=40).map(lambda values: np.array(values, dtype=object))


def assert_told(*found: Measured) -> None:
    """A value is a finite number within its interval, or there is a note."""
    for one in found:
        if one.value is None:
            assert one.note
        else:
            assert math.isfinite(one.value)
            assert one.low is None or one.low <= one.value
            assert one.high is None or one.value <= one.high
        assert one.p_value is None or 0.0 <= one.p_value <= 1.0


@settings(max_examples=60, deadline=None)
@given(reference=COLUMN, window=COLUMN)
def test_columns_of_numbers(reference: NDArray[np.float64], window: NDArray[np.float64]) -> None:
    assert_told(outside_share(Range.of(reference), window, tolerance=0.5))
    gone, before = int(np.isnan(window).sum()), int(np.isnan(reference).sum())
    assert_told(missing_change(gone, window.size, reference_missing=before, reference_rows=reference.size))
    found = calibration(window > 0.0, window)
    assert_told(found.error, found.test)
    assert_told(corrected_mean(window, window, reference))
    if np.isfinite(reference).any():
        assert_told(*estimate_binary(Calibrator.of(reference > 0.0, np.clip(reference, 0, 1)), window).values())
    threshold = LearnedThreshold(rate=0.2, side="both")
    for place, value in enumerate(window.tolist()):
        threshold.judge(value, at_us=place)
        threshold = threshold.update(value, at_us=place)
    noise = Noise.of({"x": reference}, {"x": "number"})
    for kind in NOISES:
        assert len(noise.apply(kind, {"x": window}, np.random.default_rng(0))["x"]) == window.size


@settings(max_examples=60, deadline=None)
@given(reference=NAMES, window=NAMES)
def test_columns_of_names(reference: NDArray[np.object_], window: NDArray[np.object_]) -> None:
    names = Names.of(reference)
    assert_told(new_names(names, window).share, distinct_growth(names, window))
    found = fairness({"g": window, "h": window[::-1]}, np.arange(window.size) % 2 == 0, minimum=2)
    assert_told(*(gap.gap for gap in found.disparities))
    encoding = Encoding.of({"k": reference}, {"k": "category"})
    assert np.isfinite(encoding.matrix({"k": window})).all()
    noise = Noise.of({"k": reference}, {"k": "category"})
    for kind in NOISES:
        assert len(noise.apply(kind, {"k": window}, np.random.default_rng(0))["k"]) == window.size


@settings(max_examples=10, deadline=None)
@given(values=st.lists(STRANGE, min_size=120, max_size=120))
def test_tables(values: list[float]) -> None:
    matrix = np.array(values).reshape(60, 2)
    assert_told(domain_classifier(matrix, matrix[::2]), maximum_mean_discrepancy(matrix, matrix[::2], permutations=9))
    profile = AttributionProfile.of(matrix, ("a", "b"))
    found = attribution_drift(profile, profile)
    assert_told(found.distance, found.rank_agreement)
    right, sure = top_label(np.array(["a", "b"] * 30), matrix, ("a", "b"))
    assert_told(calibration(right, sure).error)
    columns = {"x": matrix[:, 0], "y": np.arange(60.0)}
    for method in METHODS:
        scorer = Scorer(fit_outliers(method, columns, {"x": "number", "y": "number"}, trees=4))
        assert np.isfinite(scorer.scores(columns)).all()
        assert_told(scorer.judge(columns, rate=0.2).share)
