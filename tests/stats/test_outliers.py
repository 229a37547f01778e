"""Outlier scorers against scikit-learn, scipy and numpy; one row as in a batch; how many rows are flagged."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.covariance import LedoitWolf
from sklearn.ensemble import IsolationForest

from goldenloop.stats.encoding import Encoding, embedding_columns, text_length
from goldenloop.stats.outliers import METHODS, Method, OutlierModel, Scorer, expected_cuts, fit_outliers
from goldenloop.stats.profiles import Kind

pytestmark = pytest.mark.filterwarnings("error")


def mixed(rows: int, seed: int) -> dict[str, NDArray[np.generic]]:
    """Three numbers that hang together, a count with many zeros, and a category with a rare name."""
    generator = np.random.default_rng(seed)
    base = generator.normal(size=rows)
    return {
        "a": base,
        "b": 100.0 + 10.0 * (base + 0.3 * generator.normal(size=rows)),
        "c": np.where(generator.random(rows) < 0.05, np.nan, np.exp(generator.normal(size=rows))),
        "n": generator.poisson(0.3, rows),
        "k": generator.choice(np.array(["x", "y", "z"], dtype=object), rows, p=[0.6, 0.39, 0.01]),
    }


KINDS: dict[str, Kind] = {"a": "number", "b": "number", "c": "number", "n": "number", "k": "category"}


@pytest.fixture(scope="module")
def scorers() -> dict[str, Scorer]:
    return {method: Scorer(fit_outliers(method, mixed(2_000, 0), KINDS)) for method in METHODS}


def numbers(matrix: NDArray[np.float64]) -> tuple[dict[str, NDArray[np.float64]], dict[str, Kind]]:
    names = [f"x{place}" for place in range(matrix.shape[1])]
    return dict(zip(names, matrix.T, strict=True)), dict.fromkeys(names, "number")


def fitted_rows(model: OutlierModel, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The encoded rows that were fitted, which are those after the held-out ones of the seeded permutation."""
    order = np.random.default_rng(0).permutation(matrix.shape[0])
    return model.encoding.matrix(numbers(matrix)[0])[order[len(model.held_out) :]]


def test_the_forest_is_scikit_learns() -> None:
    matrix = np.random.default_rng(1).normal(size=(1_500, 6))
    columns, kinds = numbers(matrix)
    model = fit_outliers("isolation_forest", columns, kinds)
    theirs = IsolationForest(n_estimators=64, max_samples=256, random_state=0).fit(fitted_rows(model, matrix))
    window = np.random.default_rng(2).normal(size=(500, 6)) * 2.0
    ours = Scorer(model).scores(numbers(window)[0])
    assert ours == pytest.approx(-theirs.score_samples(model.encoding.matrix(numbers(window)[0])), abs=1e-9)
    assert expected_cuts(256) == pytest.approx(10.244770920116851)


def test_the_distance_is_scikit_learns_and_scipys() -> None:
    matrix = np.random.default_rng(3).normal(size=(900, 5)) @ np.random.default_rng(4).normal(size=(5, 5))
    columns, kinds = numbers(matrix)
    model = fit_outliers("mahalanobis", columns, kinds)
    theirs = LedoitWolf().fit(fitted_rows(model, matrix))
    encoded = model.encoding.matrix(columns)
    ours = Scorer(model).scores(columns)
    assert ours**2 == pytest.approx(theirs.mahalanobis(encoded))
    distances = cdist(encoded, [theirs.location_], "mahalanobis", VI=np.linalg.inv(theirs.covariance_))
    assert ours == pytest.approx(distances[:, 0])


def test_the_density_is_a_sum_over_histograms() -> None:
    matrix = np.random.default_rng(5).normal(size=(1_200, 3))
    columns, kinds = numbers(matrix)
    model = fit_outliers("density", columns, kinds)
    rows = fitted_rows(model, matrix)
    window = np.random.default_rng(6).normal(size=(200, 3))
    encoded = model.encoding.matrix(numbers(window)[0])
    expected = np.zeros(200)
    for place in range(3):
        low, high = np.quantile(rows[:, place], (0.005, 0.995))
        edges = np.concatenate([[-np.inf], np.linspace(low, high, 33), [np.inf]])
        counts = np.histogram(rows[:, place], edges)[0] + 0.5
        expected += np.log(counts.max() / counts)[np.digitize(encoded[:, place], edges[1:-1])]
    assert Scorer(model).scores(numbers(window)[0]) == pytest.approx(expected)


@pytest.mark.parametrize("method", METHODS)
def test_one_row_scores_as_in_a_batch(method: str, scorers: dict[str, Scorer]) -> None:
    window = mixed(200, 7)
    window["a"][:3] = [math.inf, -math.inf, math.nan]
    window["k"][:3] = ["never", None, 3.0]
    scores = scorers[method].scores(window)
    assert np.isfinite(scores).all()
    for place in range(200):
        row = {name: values.tolist()[place] for name, values in window.items()}
        assert scorers[method].score_row(row) == pytest.approx(scores[place], rel=1e-12)
    assert scorers[method].score_row({"a": "text", "k": "x"}) == scorers[method].score_row({"k": "x"})


@pytest.mark.parametrize("method", METHODS)
def test_a_model_survives_json(method: str, scorers: dict[str, Scorer]) -> None:
    scorer = scorers[method]
    again = Scorer(msgspec.json.decode(msgspec.json.encode(scorer.model), type=OutlierModel))
    assert (again.scores(mixed(50, 8)) == scorer.scores(mixed(50, 8))).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_rate_of_flagged_rows(method: Method) -> None:
    """Over many references the flagged share is the rate, and the p-value of the share is not too small."""
    shares, p_values = [], []
    for seed in range(12):
        rows = mixed(1_600, 20 + seed)
        reference = {name: values[:1_000] for name, values in rows.items()}
        model = fit_outliers(method, reference, KINDS, trees=16, seed=seed)
        found = Scorer(model).judge({name: values[1_000:] for name, values in rows.items()}, rate=0.05)
        shares.append(found.share.value)
        p_values.append(found.share.p_value)
    assert 0.035 < np.mean(shares) < 0.065
    assert min(p_values) > 0.001


@pytest.mark.parametrize(
    ("method", "sees_combinations"), [("density", False), ("mahalanobis", True), ("isolation_forest", True)]
)
def test_planted_outliers_are_found(method: str, sees_combinations: bool, scorers: dict[str, Scorer]) -> None:
    window = mixed(500, 9)
    window["a"][0], window["b"][0] = 60.0, -900.0  # far out
    window["a"][1], window["b"][1] = 2.5, 75.0  # each in range, together impossible
    window["k"][2] = "never seen"
    window["b"][2] = 190.0
    found = scorers[method].judge(window, rate=0.02)
    flagged = {outlier.row for outlier in found.flagged}
    assert {0, 2} <= flagged
    assert found.flagged[0].score >= found.flagged[-1].score > found.threshold
    if sees_combinations:
        ranks = np.argsort(-scorers[method].scores(window)).tolist()
        assert ranks.index(1) < 60


def test_strange_input_is_told() -> None:
    columns = mixed(100, 10)
    with pytest.raises(ValueError, match="missing"):
        fit_outliers("density", columns, {"other": "number"})
    with pytest.raises(ValueError, match="varies"):
        fit_outliers("density", {"a": np.full(50, 2.0)}, {"a": "number"})
    with pytest.raises(ValueError, match="30 reference rows"):
        fit_outliers("density", mixed(20, 1), KINDS)
    scorer = Scorer(fit_outliers("mahalanobis", columns, KINDS))
    empty = {name: values[:0] for name, values in columns.items()}
    assert scorer.judge(empty).share.value is None
    few = scorer.judge(columns, rate=0.001)
    assert few.share.value is None
    assert "needed" in few.share.note
    assert scorer.judge({name: values[:1] for name, values in columns.items()}, rate=0.05).share.rows == 1
    with pytest.raises(ValueError, match="rate"):
        scorer.judge(columns, rate=1.0)
    with pytest.raises(ValueError, match="length"):
        scorer.scores({**columns, "a": np.zeros(3)})
    with pytest.raises(ValueError, match="missing"):
        scorer.scores({"a": np.zeros(3)})


def test_ten_thousand_columns() -> None:
    generator = np.random.default_rng(0)
    columns = {f"x{place}": generator.normal(size=60) for place in range(10_000)}
    scorer = Scorer(fit_outliers("mahalanobis", columns, dict.fromkeys(columns, "number")))
    assert len(scorer.model.encoding.columns) == 256
    assert "9744 columns not looked at" in scorer.judge(columns, rate=0.1).share.note


def test_text_and_embeddings_are_columns() -> None:
    columns = embedding_columns("vector", np.arange(6.0).reshape(3, 2))
    assert {name: values.tolist() for name, values in columns.items()} == {
        "vector[0]": [0.0, 2.0, 4.0],
        "vector[1]": [1.0, 3.0, 5.0],
    }
    with pytest.raises(ValueError, match="dimensions"):
        embedding_columns("vector", np.zeros(3))
    assert text_length(np.array(["ab", 12.0], dtype=object)).tolist() == [2.0, 2.0]
    spread = Encoding.of({"x": np.array([0.0] * 99 + [1.0])}, {"x": "number"}).matrix({"x": np.array([1.0, math.nan])})
    assert spread[1, 0] == 0.0
    assert spread[0, 0] > 5.0
