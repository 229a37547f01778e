"""Estimates against NannyML and ppi-python (recorded), scikit-learn, and what labels then said."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.isotonic import IsotonicRegression

from goldenloop.stats.estimates import (
    ASSUMPTION,
    Calibrator,
    LossModel,
    corrected_mean,
    estimate_accuracy,
    estimate_binary,
)
from goldenloop.stats.losses import area_under_curve

pytestmark = pytest.mark.filterwarnings("error")

# nannyml 0.13.1, CBPE with chunk_size=500 fitted on the first 2,000 rows of `overconfident()`, the last four chunks
NANNYML = {
    "accuracy": [0.6994362703857111, 0.7035291697659397, 0.685895993050223, 0.6930269060445223],
    "precision": [0.7200047259858066, 0.721656181479712, 0.7018630834277921, 0.7106787553852193],
    "recall": [0.8270055920493034, 0.8495701996046995, 0.8171181116773575, 0.8383522294871772],
    "f1": [0.7698047359483409, 0.7804064309594182, 0.7551180215195027, 0.76925397212174],
    "roc_auc": [0.7484830983856237, 0.7473148152270709, 0.7378889508040497, 0.7371068806229694],
}


def overconfident() -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores of a model that is too sure of itself, and labels; after 2,000 rows the inputs move."""
    generator = np.random.default_rng(11)
    x = generator.normal(size=4_000)
    x[2_000:] += 0.5
    return 1.0 / (1.0 + np.exp(-1.6 * x)), generator.random(4_000) < 1.0 / (1.0 + np.exp(-x))


def test_against_nannyml() -> None:
    scores, labels = overconfident()
    calibrator = Calibrator.of(labels[:2_000], scores[:2_000])
    for chunk in range(4):
        window = scores[2_000 + 500 * chunk :][:500]
        found = estimate_binary(calibrator, window)
        for name, values in NANNYML.items():
            assert found[name].value == pytest.approx(values[chunk], abs=1e-9 if name != "roc_auc" else 2e-3), name
            assert ASSUMPTION in found[name].note


def test_the_calibrator_is_scikit_learns() -> None:
    scores, labels = overconfident()
    calibrator = Calibrator.of(labels[:2_000], scores[:2_000])
    theirs = IsotonicRegression(out_of_bounds="clip").fit(scores[:2_000], labels[:2_000])
    assert calibrator.apply(scores) == pytest.approx(theirs.predict(scores))
    assert sum(calibrator.rows) == 2_000
    assert msgspec.json.decode(msgspec.json.encode(calibrator), type=Calibrator) == calibrator


def test_the_interval_holds_what_labels_say_later() -> None:
    generator = np.random.default_rng(4)
    covered: dict[str, list[bool]] = {"accuracy": [], "f1": [], "roc_auc": []}
    for seed in range(60):
        x = generator.normal(size=1_300)
        x[1_000:] += 0.5
        scores, labels = 1.0 / (1.0 + np.exp(-2.0 * x)), generator.random(1_300) < 1.0 / (1.0 + np.exp(-x))
        found = estimate_binary(Calibrator.of(labels[:1_000], scores[:1_000]), scores[1_000:], seed=seed)
        truth, said = labels[1_000:], scores[1_000:] >= 0.5
        realised = {
            "accuracy": np.mean(truth == said),
            "f1": 2.0 * np.sum(truth & said) / (truth.sum() + said.sum()),
            "roc_auc": area_under_curve(truth, scores[1_000:]),
        }
        for name, value in realised.items():
            covered[name].append(found[name].low <= value <= found[name].high)
    for name, hits in covered.items():
        assert np.mean(hits) >= 0.88, name


def test_more_classes_and_what_cannot_be_seen() -> None:
    generator = np.random.default_rng(5)
    sure = generator.uniform(0.4, 1.0, 3_000)
    calibrator = Calibrator.of(generator.random(2_000) < sure[:2_000], sure[:2_000])
    found = estimate_accuracy(calibrator, sure[2_000:])
    assert found.low < 0.7 < found.high
    beyond = estimate_accuracy(calibrator, np.full(100, 0.1))
    assert "outside the reference" in beyond.note
    assert "outside the reference" in estimate_accuracy(calibrator, sure, outside=0.4).note
    assert "outside the reference" not in found.note
    assert "without labels" in found.note


def test_the_error_of_a_regression() -> None:
    generator = np.random.default_rng(6)
    inputs = generator.normal(size=(4_000, 3))
    losses = np.abs(generator.normal(size=4_000)) * (0.5 + np.abs(inputs[:, 0]))
    model = LossModel.of(inputs[:2_000], losses[:2_000])
    assert msgspec.json.decode(msgspec.json.encode(model), type=LossModel) == model
    same = model.estimate(inputs[2_000:])
    assert same["mae"].low <= losses[2_000:].mean() <= same["mae"].high
    assert same["rmse"].value == pytest.approx(math.sqrt(np.mean(losses[2_000:] ** 2)), rel=0.15)
    assert same["robust_mae"].value < same["mae"].value
    wide = inputs[2_000:] * 2.0
    truth = np.mean(np.sqrt(2.0 / np.pi) * (0.5 + np.abs(wide[:, 0])))
    estimated = model.estimate(wide)["mae"]
    assert estimated.value > 1.15 * same["mae"].value
    assert estimated.value < truth  # it cannot extrapolate, and says so
    assert "outside the reference" in estimated.note
    assert model.losses(inputs).mean() == pytest.approx(losses.mean(), rel=0.1)


def test_one_wild_label_does_not_move_the_robust_estimate() -> None:
    generator = np.random.default_rng(7)
    inputs, losses = generator.normal(size=(1_000, 2)), np.abs(generator.normal(size=1_000))
    wild = losses.copy()
    wild[:8] = 1e6
    plain, spoilt = LossModel.of(inputs, losses).estimate(inputs), LossModel.of(inputs, wild).estimate(inputs)
    assert spoilt["robust_mae"].value == pytest.approx(plain["robust_mae"].value, rel=0.1)
    assert spoilt["mae"].value > 100 * plain["mae"].value


def test_few_labels_correct_as_ppi_python_does() -> None:
    """ppi-python 0.2.3: ppi_mean_pointestimate and ppi_mean_ci(alpha=0.05), whose interval is normal, ours Student's."""
    generator = np.random.default_rng(13)
    labels = generator.normal(size=60) + 1
    estimates = labels + 0.3 * generator.normal(size=60) + 0.2
    others = generator.normal(size=900) + 1
    other_estimates = others + 0.3 * generator.normal(size=900) + 0.2
    found = corrected_mean(labels, estimates, other_estimates)
    assert found.value == pytest.approx(1.08187126, abs=1e-7)
    stretch = stats.t.ppf(0.975, 59) / stats.norm.ppf(0.975)
    assert found.high - found.low == pytest.approx((1.18107472 - 0.98266781) * stretch, rel=1e-3)
    useless = corrected_mean(labels, generator.normal(size=60), generator.normal(size=900))
    assert useless.value == pytest.approx(labels.mean(), abs=0.06)


def test_the_correction_covers_after_concept_drift() -> None:
    """The estimate says 0.9, the truth is 0.7: with 40 labels the correction covers it nearly as often as it says."""
    generator = np.random.default_rng(8)
    covered = []
    for _ in range(300):
        estimates = generator.uniform(0.8, 1.0, 1_000)
        truth = (generator.random(1_000) < estimates - 0.2).astype(float)
        found = corrected_mean(truth[:40], estimates[:40], estimates[40:])
        covered.append(found.low <= 0.7 <= found.high)
    assert np.mean(covered) >= 0.9


def test_strange_input_is_told() -> None:
    calibrator = Calibrator.of(np.array([True]), np.array([0.7]))
    assert "only 1 reference row" in estimate_binary(calibrator, np.array([0.7]))["accuracy"].note
    for window in (np.array([]), np.array([math.nan, math.inf])):
        assert all(value.value is None for value in estimate_binary(calibrator, window).values())
        assert estimate_accuracy(calibrator, window).value is None
    never = Calibrator.of(np.zeros(100, dtype=bool), np.linspace(0, 1, 100))
    found = estimate_binary(never, np.full(50, 0.1))
    assert found["accuracy"].value == 1.0
    assert found["precision"].value is None
    assert found["roc_auc"].value is None
    assert corrected_mean(np.ones(3), np.ones(3), np.ones(9)).value is None
    constant = corrected_mean(np.ones(20), np.ones(20), np.ones(9))
    assert (constant.value, constant.low, constant.high) == (1.0, 1.0, 1.0)
    assert corrected_mean(np.arange(20.0), np.arange(20.0), np.array([])).value == 9.5
    spoilt = np.full((60, 3), math.nan)
    spoilt[:, 1] = math.inf
    model = LossModel.of(spoilt, np.ones(60))
    assert model.estimate(np.zeros((0, 3)))["mae"].value is None
    assert model.estimate(spoilt)["mae"].value == 1.0
    assert LossModel.of(np.zeros((60, 10_000)), np.arange(60.0)).estimate(np.zeros((5, 10_000)))["mae"].rows == 5
    with pytest.raises(ValueError, match="50 labelled rows"):
        LossModel.of(np.zeros((60, 1)), np.full(60, math.nan))
    with pytest.raises(ValueError, match="columns"):
        model.estimate(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="shape"):
        estimate_binary(calibrator, np.zeros(3), np.zeros(2, dtype=bool))
    with pytest.raises(ValueError, match="finite score"):
        Calibrator.of(np.array([True]), np.array([math.nan]))
