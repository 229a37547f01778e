"""Multivariate drift and drift of attributions, against scikit-learn, scipy and NannyML (recorded)."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.metrics import ndcg_score, roc_auc_score
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import StandardScaler

from goldenloop.stats.attribution_drift import AttributionProfile, attribution_drift
from goldenloop.stats.multivariate import (
    Reconstruction,
    delong_variance,
    domain_classifier,
    maximum_mean_discrepancy,
)

pytestmark = pytest.mark.filterwarnings("error")


def correlated(generator: np.random.Generator, rows: int, sign: float = 1.0) -> NDArray[np.float64]:
    """Two columns whose correlation is 0.8 times the sign; each alone is always a standard normal."""
    base = generator.normal(size=(rows, 3))
    base[:, 1] = 0.8 * sign * base[:, 0] + 0.6 * base[:, 1]
    return base


def test_only_the_correlation_changed() -> None:
    generator = np.random.default_rng(0)
    reference, same, turned = (correlated(generator, 600, sign) for sign in (1.0, 1.0, -1.0))
    quiet, loud = domain_classifier(reference, same), domain_classifier(reference, turned)
    assert quiet.low <= 0.5 <= quiet.high
    assert quiet.p_value > 0.01
    assert loud.value > 0.75
    assert loud.p_value < 1e-9
    assert maximum_mean_discrepancy(reference, same).p_value > 0.02
    assert maximum_mean_discrepancy(reference, turned).p_value == pytest.approx(1 / 201)
    model = Reconstruction.of(reference)
    assert model.judge(same).p_value > 0.01
    assert model.judge(turned).p_value < 1e-9


def test_the_classifier_keeps_its_rate() -> None:
    generator = np.random.default_rng(1)
    p_values = [
        domain_classifier(generator.normal(size=(60, 3)), generator.normal(size=(60, 3)), seed=seed).p_value
        for seed in range(12)
    ]
    assert min(p_values) > 0.002
    assert np.mean(p_values) > 0.3


def test_delong_against_resampling() -> None:
    generator = np.random.default_rng(2)
    areas, variances = [], []
    for _ in range(200):
        truth = np.arange(200) < 80
        scores = generator.normal(size=200) + truth
        areas.append(roc_auc_score(truth, scores))
        variances.append(delong_variance(truth, scores))
    assert np.mean(variances) == pytest.approx(np.var(areas), rel=0.25)
    assert delong_variance(np.array([True, False]), np.zeros(2)) == 0.25


def test_discrepancy_against_scikit_learns_kernel() -> None:
    generator = np.random.default_rng(3)
    one, two = generator.normal(size=(80, 4)), generator.normal(size=(60, 4)) * 1.5
    rows = np.concatenate([one, two]) / one.std(axis=0)
    squared = np.median(((rows[:, None] - rows[None]) ** 2).sum(axis=2)[np.triu_indices(140, 1)])
    kernel = rbf_kernel(rows, gamma=1.0 / squared)
    np.fill_diagonal(kernel, 0.0)
    expected = kernel[:80, :80].sum() / (80 * 79) + kernel[80:, 80:].sum() / (60 * 59) - 2.0 * kernel[:80, 80:].mean()
    assert maximum_mean_discrepancy(one, two).value == pytest.approx(expected)


def test_the_permutation_test_keeps_its_rate() -> None:
    generator = np.random.default_rng(4)
    p_values = [
        maximum_mean_discrepancy(
            generator.normal(size=(40, 2)), generator.normal(size=(40, 2)), permutations=49
        ).p_value
        for _ in range(200)
    ]
    assert stats.binomtest(int(np.sum(np.array(p_values) <= 0.1)), 200, 0.1).pvalue > 0.005


def test_reconstruction_against_nannyml_and_scikit_learn() -> None:
    rows = np.random.default_rng(12).normal(size=(2_000, 4))
    rows[:, 1] += rows[:, 0]
    rows[:, 3] -= 0.7 * rows[:, 2]
    rows[1_000:, 1] *= -1
    model = Reconstruction.of(rows[:1_000], held_out=False)
    # nannyml 0.13.1, DataReconstructionDriftCalculator(chunk_size=500): two reference chunks, two changed ones
    recorded = [0.7920471900732378, 0.7483425458848482, 1.2892458814232028, 1.2959773732236703]
    ours = [model.judge(rows[start : start + 500]).value for start in (0, 500, 1_000, 1_500)]
    assert ours == pytest.approx(recorded, rel=1e-6)
    scaler = StandardScaler().fit(rows[:1_000])
    pca = PCA(n_components=0.65).fit(scaler.transform(rows[:1_000]))
    scaled = scaler.transform(rows)
    rebuilt = pca.inverse_transform(pca.transform(scaled))
    assert model.errors(rows) == pytest.approx(np.linalg.norm(scaled - rebuilt, axis=1))
    assert msgspec.json.decode(msgspec.json.encode(model), type=Reconstruction) == model


def test_strange_rows_are_told() -> None:
    generator = np.random.default_rng(5)
    reference = generator.normal(size=(100, 3))
    spoilt = np.array([[math.nan, math.inf, -math.inf]] * 30)
    for function in (domain_classifier, maximum_mean_discrepancy):
        for few in (reference[:0], reference[:1], reference[:2]):
            assert function(reference, few).value is None
            assert "needed" in function(reference, few).note
        assert function(reference, spoilt).p_value < 0.05
        wide = generator.normal(size=(40, 10_000))
        assert "9744 columns not looked at" in function(wide, wide).note
        with pytest.raises(ValueError, match="columns"):
            function(reference, reference[:, :2])
        with pytest.raises(ValueError, match="dimensions"):
            function(reference, reference[:, 0])
    assert domain_classifier(np.ones((50, 2)), np.ones((50, 2))).value == 0.5
    assert maximum_mean_discrepancy(np.ones((50, 2)), np.ones((50, 2))).value is None
    assert domain_classifier(np.ones((50, 0)), np.ones((50, 0))).value is None
    with pytest.raises(ValueError, match="permutation"):
        maximum_mean_discrepancy(reference, reference, permutations=0)
    model = Reconstruction.of(reference)
    assert model.judge(reference[:0]).value is None
    assert model.judge(spoilt).value > 1e9
    assert model.judge(reference[:1]).rows == 1
    constant = Reconstruction.of(np.ones((30, 2)))
    assert constant.judge(np.ones((5, 2))).p_value is None
    with pytest.raises(ValueError, match="20 reference rows"):
        Reconstruction.of(reference[:5])


def test_ranks_against_scikit_learn() -> None:
    generator = np.random.default_rng(6)
    features = tuple("abcdefg")
    before = AttributionProfile.of(generator.normal(size=(200, 7)) * np.arange(1, 8), features)
    after = AttributionProfile.of(generator.normal(size=(200, 7)) * generator.permutation(7), features)
    found = attribution_drift(before, after)
    assert found.rank_agreement.value == pytest.approx(ndcg_score([before.mean], [after.mean]))
    assert msgspec.json.decode(msgspec.json.encode(before), type=AttributionProfile) == before


def test_the_feature_that_changed_is_named_and_no_other() -> None:
    generator = np.random.default_rng(7)
    features = tuple(f"x{place}" for place in range(10))
    rows = generator.normal(size=(400, 10))
    before, same = AttributionProfile.of(rows[:200], features), AttributionProfile.of(rows[200:], features)
    moved = rows[200:].copy()
    moved[:, 3] *= 2.0
    found = attribution_drift(before, AttributionProfile.of(moved, features))
    assert found.changes[0].feature == "x3"
    assert [change.feature for change in found.changes if change.p_value < 0.01] == ["x3"]
    first, second = np.abs(rows[:200, 3]), np.abs(moved[:, 3])
    welch = stats.ttest_ind(second, first, equal_var=False)
    assert found.changes[0].z == pytest.approx(welch.statistic)
    assert all(change.p_value > 0.01 for change in attribution_drift(before, same).changes)
    assert attribution_drift(before, same).distance.value < 0.05


def test_strange_attributions_are_told() -> None:
    fine = AttributionProfile.of(np.ones((20, 2)), ("a", "b"))
    for nothing in (np.zeros((0, 2)), np.ones((1, 2)), np.full((30, 2), math.nan), np.zeros((30, 2))):
        profile = AttributionProfile.of(nothing, ("a", "b"))
        assert attribution_drift(fine, profile).distance.value is None
        assert attribution_drift(profile, fine).distance.note
    huge = AttributionProfile.of(np.full((30, 2), 1.5e308), ("a", "b"))
    assert attribution_drift(fine, huge).distance.value == 0.0
    assert attribution_drift(fine, fine).changes[0].z == 0.0
    one = AttributionProfile.of(np.ones((20, 1)), ("a",))
    assert attribution_drift(one, one).rank_agreement.value == 1.0
    with pytest.raises(ValueError, match="names"):
        AttributionProfile.of(np.ones((20, 2)), ("a",))
    with pytest.raises(ValueError, match="different features"):
        attribution_drift(fine, one)
