"""Losses and metrics against scikit-learn, and the rows that have no answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from goldenloop.stats.losses import (
    absolute_loss,
    area_under_curve,
    as_text,
    is_missing,
    loss_scale,
    losses,
    metrics,
    zero_one_loss,
)

labels = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=40)


@settings(max_examples=40, deadline=None)
@given(truth=labels, data=st.data())
def test_classification_metrics(truth: list[str], data: st.DataObject) -> None:
    size = len(truth)
    said = data.draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=size, max_size=size))
    found = metrics("classification", np.array(truth), np.array(said))
    assert found["accuracy"] == pytest.approx(oracle.accuracy_score(truth, said))
    assert found["macro_f1"] == pytest.approx(oracle.f1_score(truth, said, average="macro"))
    assert zero_one_loss(np.array(truth), np.array(said)).mean() == pytest.approx(
        1.0 - oracle.accuracy_score(truth, said)
    )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), ties=st.booleans())
def test_probability_metrics(seed: int, ties: bool) -> None:
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 2, size=30)
    truth[:2] = (0, 1)
    positive = generator.random(30)
    if ties:
        positive = np.round(positive, 1)
    table = np.column_stack([1.0 - positive, positive])
    found = metrics("classification", truth, (positive > 0.5).astype(int), probabilities=table, classes=("0", "1"))
    assert found["auc"] == pytest.approx(oracle.roc_auc_score(truth, positive))
    assert found["log_loss"] == pytest.approx(oracle.log_loss(truth, np.clip(positive, 1e-15, 1 - 1e-15)), rel=1e-4)
    assert found["brier"] == pytest.approx(2.0 * np.mean((positive - truth) ** 2))


@settings(max_examples=40, deadline=None)
@given(truth=st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30), seed=st.integers(0, 1_000))
def test_regression_metrics(truth: list[float], seed: int) -> None:
    said = np.array(truth) + np.random.default_rng(seed).normal(size=len(truth))
    found = metrics("regression", np.array(truth), said)
    assert found["mae"] == pytest.approx(oracle.mean_absolute_error(truth, said))
    assert found["rmse"] == pytest.approx(math.sqrt(oracle.mean_squared_error(truth, said)))
    assert found["answered"] == 1.0
    if np.ptp(truth) > 1e-3:
        assert found["r2"] == pytest.approx(oracle.r2_score(truth, said), rel=1e-6)


def test_labels_are_compared_as_text() -> None:
    written = np.array(["1", "0", "1"], dtype=object)
    for labels in (np.array([1, 0, 1]), np.array([1.0, 0.0, 1.0]), np.array([1, 0, 1], dtype=np.int32)):
        assert zero_one_loss(labels, written).sum() == 0.0
    assert as_text(np.array([True, False])).tolist() == ["True", "False"]
    assert as_text(np.array([0.5], dtype=np.float32)).tolist() == ["0.5"]


def test_a_missing_answer_costs_one_and_counts_as_wrong() -> None:
    answers = np.array(["a", None, math.nan], dtype=object)
    assert zero_one_loss(np.array(["a", "a", "a"]), answers).tolist() == [0.0, 1.0, 1.0]
    found = metrics("classification", np.array(["a", "a", "a"]), answers)
    assert found["accuracy"] == pytest.approx(1 / 3)
    wild = np.array([1.0, math.nan, math.inf, -math.inf])
    assert absolute_loss(np.ones(4), wild, scale=1.0).tolist() == [0.0, 1.0, 1.0, 1.0]
    assert metrics("regression", np.ones(4), wild)["answered"] == 0.25
    nothing = metrics("regression", np.ones(2), np.full(2, math.nan))
    assert nothing == {"mae": None, "rmse": None, "r2": None, "answered": 0.0}


def test_one_class_and_unknown_labels_are_said_and_not_invented() -> None:
    table = np.array([[0.2, 0.8], [math.nan, 0.5], [0.5, 0.5]])
    found = metrics(
        "classification", np.array(["b", "b", "z"]), np.array(["b", "b", "b"]), probabilities=table, classes=("a", "b")
    )
    assert found["auc"] is None
    assert found["log_loss"] is not None
    assert found["log_loss"] > 20.0
    assert found["brier"] == pytest.approx((0.04 + 0.04 + 1.0 + 0.25 + 0.25 + 1.0) / 3.0)
    assert area_under_curve(np.array([True, True]), np.array([0.1, 0.2])) is None


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.lists(st.floats(-1e6, 1e6), min_size=30, max_size=30)
)
def test_losses_are_between_zero_and_one(truth: list[float], said: list[float]) -> None:
    array = np.array(truth)
    lost = losses("regression", array, np.array(said[: array.size]), scale=loss_scale(array))
    assert bool(np.all((lost >= 0.0) & (lost <= 1.0)))


def test_errors() -> None:
    with pytest.raises(ValueError, match="2 labels cannot be compared with 1"):
        zero_one_loss(np.array([1, 2]), np.array([1]))
    with pytest.raises(ValueError, match="label of row 1 is missing"):
        zero_one_loss(np.array(["a", None], dtype=object), np.array(["a", "b"]))
    with pytest.raises(ValueError, match="not a number"):
        absolute_loss(np.array(["x"]), np.array([1.0]), scale=1.0)
    with pytest.raises(ValueError, match="positive"):
        absolute_loss(np.ones(1), np.ones(1), scale=0.0)
    with pytest.raises(ValueError, match="at least one labelled row"):
        metrics("classification", np.array([]), np.array([]))
    with pytest.raises(ValueError, match="rows x classes"):
        metrics("classification", np.array(["a"]), np.array(["a"]), probabilities=np.ones((1, 3)), classes=("a", "b"))
    with pytest.raises(ValueError, match="scale needs"):
        loss_scale(np.array([math.nan]))
    assert is_missing(np.array([1.0, math.nan, math.inf])).tolist() == [False, True, True]
