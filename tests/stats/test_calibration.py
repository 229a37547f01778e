"""Calibration against scikit-learn and uncertainty-calibration; the test's rate and power by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from goldenloop.stats.calibration import calibration, top_label

pytestmark = pytest.mark.filterwarnings("error")


def overconfident() -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    generator = np.random.default_rng(7)
    scores = np.sort(generator.random(1_000))
    return generator.random(1_000) < scores**1.5, scores


def test_against_recorded_and_scikit_learn() -> None:
    outcomes, scores = overconfident()
    found = calibration(outcomes, scores)
    # uncertainty-calibration 0.1.4 on the same bins: plugin_ce, normal_debiased_ce (20,000 resamples), unbiased_l2_ce
    assert found.raw_error == pytest.approx(0.09620625101814353)
    assert found.error.value == pytest.approx(0.09417724964872674, abs=3e-4)
    assert found.squared_error == pytest.approx(0.31750770908348674**2)
    assert found.brier == pytest.approx(brier_score_loss(outcomes, scores))
    observed, predicted = calibration_curve(outcomes, scores, n_bins=10, strategy="quantile")
    assert [point.predicted for point in found.points] == pytest.approx(predicted.tolist(), abs=2e-3)
    assert [point.observed.estimate for point in found.points] == pytest.approx(observed.tolist(), abs=0.02)
    assert sum(point.rows for point in found.points) == 1_000
    parts = found.reliability - found.resolution + found.uncertainty + found.within_bins
    assert parts == pytest.approx(found.brier)
    assert abs(found.within_bins) < 0.002


def test_the_test_keeps_its_rate_and_debiasing_helps() -> None:
    generator = np.random.default_rng(1)
    p_values, errors, plain = [], [], []
    for _ in range(200):
        scores = generator.beta(2.0, 1.0, 300)
        found = calibration(generator.random(300) < scores, scores)
        p_values.append(found.test.p_value)
        errors.append(found.error.value)
        plain.append(found.raw_error)
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= 0.09
    assert np.mean(errors) < 0.75 * np.mean(plain)
    wrong = [calibration(generator.random(300) < 0.2 + 0.6 * s, s).test.p_value for s in generator.random((20, 300))]
    assert np.mean(np.array(wrong) < 0.05) > 0.9


def test_the_interval_covers() -> None:
    """Scores that are 0.1 too high: the error is 0.1."""
    generator = np.random.default_rng(2)
    covered = []
    for _ in range(150):
        scores = 0.2 + 0.7 * generator.random(500)
        error = calibration(generator.random(500) < scores - 0.1, scores).error
        covered.append(error.low <= 0.1 <= error.high)
    assert np.mean(covered) >= 0.9


def test_equal_scores_stay_in_one_bin() -> None:
    found = calibration(np.arange(100) % 4 == 0, np.full(100, 0.25))
    assert len(found.points) == 1
    assert found.error.value == 0.0
    assert found.raw_error == 0.0


def test_more_than_two_classes_by_the_top_label() -> None:
    chances = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [math.nan, math.nan, math.nan]])
    right, sure = top_label(np.array([0.0, 1.0, 2.0]), chances, ("0", "1", "2"))
    assert right.tolist()[:2] == [True, False]
    assert sure[:2].tolist() == [0.7, 0.7]
    assert math.isnan(sure[2])
    found = calibration(right, sure)
    assert found.rows == 2
    assert "left out" in found.error.note
    with pytest.raises(ValueError, match="do not go with"):
        top_label(np.array(["a"]), chances, ("0", "1", "2"))


def test_strange_input_is_told() -> None:
    for scores in ([], [math.nan, math.inf, 2.0, -1.0]):
        nothing = calibration(np.zeros(len(scores), dtype=bool), np.array(scores))
        assert nothing.error.value is None
        assert nothing.test.value is None
        assert nothing.rows == 0
    one = calibration(np.array([True]), np.array([0.7]))
    assert one.rows == 1
    assert "fewer than 10" in one.error.note
    assert one.squared_error is None
    certain = calibration(np.array([True, False]), np.array([1.0, 1.0]))
    assert certain.test.value is None
    assert "wrongly" in certain.test.note
    with pytest.raises(ValueError, match="shape"):
        calibration(np.array([True]), np.array([0.7, 0.2]))
    with pytest.raises(ValueError, match="bin"):
        calibration(np.array([True]), np.array([0.7]), bins=0)
    empty = top_label(np.array([], dtype=object), np.zeros((0, 2)), ("a", "b"))
    assert calibration(*empty).rows == 0
