"""Whatever library learns, what comes out is one kind of model, and it has learned."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tables_for_tests import customers, prices

from goldenloop.components import judging, training
from goldenloop.components.networks import NetworkSettings, network_settings
from goldenloop.components.tables import DataSchema, infer, rows_for
from goldenloop.components.transforming import fit_transformer, recipe_of
from goldenloop.core.errors import InvalidSpecError, UnavailableError
from goldenloop.core.json import JsonObject
from goldenloop.serving.conversion import convert

LIBRARIES = ["sklearn", "lightgbm", "xgboost", "torch"]


def train(library: str, table: pa.Table, schema: DataSchema, **settings: int) -> training.Trained:
    """A small model of the library's."""
    if library == "sklearn":
        return training.train_scikit_learn(table, schema, estimator="boosting", settings={"max_iter": 30})
    if library == "torch":
        return training.train_pytorch(table, schema, NetworkSettings(layers=(16,), rate=0.01, **settings))
    given: JsonObject = {"n_estimators": 40, **settings}
    return {"lightgbm": training.train_lightgbm, "xgboost": training.train_xgboost}[library](
        table, schema, settings=given
    )


@pytest.mark.parametrize("library", LIBRARIES)
def test_classes_are_learned(tmp_path: Path, library: str) -> None:
    pytest.importorskip(library)
    table = customers(800)
    schema = infer(table, label="answer", timestamp="at", subject="who")
    trained = train(library, table, schema)
    metadata = trained.save(tmp_path / "model", schema)
    assert metadata["rows"] == 800
    report = judging.evaluate(tmp_path / "model", customers(400, seed=1), schema)
    accuracy, area = report.metrics["accuracy"].value, report.metrics["auc"].value
    assert accuracy is not None
    assert area is not None
    assert accuracy > 0.8
    assert area > 0.9


@pytest.mark.parametrize("library", LIBRARIES)
def test_numbers_are_learned(tmp_path: Path, library: str) -> None:
    pytest.importorskip(library)
    schema = infer(prices(10), label="price", task="regression")
    train(library, prices(600), schema).save(tmp_path / "model", schema)
    report = judging.evaluate(tmp_path / "model", prices(200, seed=1), schema)
    explained = report.metrics["r2"].value
    assert explained is not None
    assert explained > 0.97


@pytest.mark.parametrize("library", LIBRARIES)
def test_three_classes_and_whole_numbers_as_labels(tmp_path: Path, library: str) -> None:
    pytest.importorskip(library)
    random = np.random.default_rng(0)
    place = random.integers(0, 3, size=600)
    table = pa.table({"x": place + random.normal(scale=0.2, size=600), "grade": place * 10 + 5})
    schema = infer(table, label="grade")
    assert schema.classes == ("5", "15", "25")
    trained = train(library, table, schema)
    assert set(trained.model.predict(rows_for(table, schema)).tolist()) == {5, 15, 25}
    trained.save(tmp_path / "model", schema)
    accuracy = judging.evaluate(tmp_path / "model", table, schema).metrics["accuracy"].value
    assert accuracy is not None
    assert accuracy > 0.95


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_same_rows_give_the_same_model(library: str) -> None:
    pytest.importorskip(library)
    table = customers(300)
    schema = infer(table, label="answer", timestamp="at", subject="who")
    rows = rows_for(table, schema)
    first, second = (train(library, table, schema).model.predict_proba(rows) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("library", ["sklearn", "torch"])
def test_what_needs_no_package_of_its_own_is_served_as_onnx(tmp_path: Path, library: str) -> None:
    pytest.importorskip(library)
    table = customers(400)
    schema = infer(table, label="answer", timestamp="at", subject="who")
    train(library, table, schema).save(tmp_path / "model", schema)
    unused = frozenset({"at", "who"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = convert(
            tmp_path / "model" / "model.joblib", table, label="answer", ignore=unused, out=tmp_path / "served"
        )
    assert converted.accepted
    by_graph, classes = judging.answers_of(tmp_path / "served", table, schema)
    by_model, _ = judging.answers_of(tmp_path / "model", table, schema)
    assert classes == ("no", "yes")
    assert by_graph.probabilities is not None
    assert by_model.probabilities is not None
    assert np.abs(by_graph.probabilities - by_model.probabilities).max() < 1e-3


def test_any_estimator_and_transformer_may_be_named() -> None:
    table = customers(300)
    schema = infer(table, label="answer", timestamp="at", subject="who")
    transformer = fit_transformer(table, schema, recipe_of(scale="range", encode="ordinal"))
    trained = training.train_scikit_learn(
        table,
        schema,
        estimator="sklearn.neighbors.KNeighborsClassifier",
        settings={"n_neighbors": 3},
        transformer=transformer,
    )
    assert trained.model.named_steps["columns"] is transformer
    assert trained.estimator == "sklearn.neighbors.KNeighborsClassifier"
    for name in ("forest", "linear"):
        assert training.train_scikit_learn(table, schema, estimator=name, settings={}).rows == 300


def test_whole_numbers_may_come_as_floats() -> None:
    """As they do where a runner of KFP passes objects through JSON."""
    table = customers(100)
    schema = infer(table, label="answer", timestamp="at", subject="who")
    settings: JsonObject = {"max_iter": 5.0, "l2_regularization": 1.0}
    trained = training.train_scikit_learn(table, schema, estimator="boosting", settings=settings)
    model = trained.model.named_steps["model"]
    assert (repr(model.max_iter), repr(model.l2_regularization)) == ("5", "1.0")
    assert network_settings({"layers": [8.0], "epochs": 3.0}) == NetworkSettings(layers=(8,), epochs=3)


@pytest.mark.parametrize(
    ("estimator", "settings", "message"),
    [
        ("magic", {}, "'magic' is no estimator.*boosting, forest, linear"),
        ("os.system", {}, "'os.system' is no estimator"),
        ("sklearn.svm.SCV", {}, "scikit-learn has no sklearn.svm.SCV"),
        ("sklearn.preprocessing.StandardScaler", {}, "does not predict"),
        ("boosting", {"max_itr": 3}, "has no setting 'max_itr'.*max_iter"),
        ("boosting", {"max_iter": -3}, "cannot be trained.*max_iter"),
        ("sklearn.svm.SVR", {}, "sklearn.svm.SVR cannot be trained"),
    ],
)
def test_what_cannot_be_trained_is_refused(estimator: str, settings: JsonObject, message: str) -> None:
    table = customers(60)
    schema = infer(table, label="answer", timestamp="at", subject="who")
    with pytest.raises(InvalidSpecError, match=message):
        training.train_scikit_learn(table, schema, estimator=estimator, settings=settings)


def test_data_that_nothing_can_be_learned_from_is_refused() -> None:
    table = customers(60)
    schema = infer(table, label="answer", timestamp="at", subject="who")
    same = table.set_column(5, "answer", pa.array(["yes"] * 60))
    with pytest.raises(InvalidSpecError, match="the label 'answer' takes one value only"):
        training.train_scikit_learn(same, schema, estimator="boosting", settings={})
    empty = table.set_column(5, "answer", pa.array([None] * 60, pa.string()))
    with pytest.raises(InvalidSpecError, match="0 labelled rows are too few"):
        training.train_scikit_learn(empty, schema, estimator="boosting", settings={})


@pytest.mark.parametrize(("name", "module"), [("lightgbm", "lightgbm"), ("xgboost", "xgboost"), ("torch", "torch")])
def test_without_its_package_a_library_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    table = customers(60)
    with pytest.raises(UnavailableError, match=f"needs the package {name}.*pip install {name}"):
        train(module, table, infer(table, label="answer"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": [3]}, "unknown field `layer`.*They are layers, epochs"),
        ({"layers": []}, r"layers: \(\) cannot be"),
        ({"dropout": 1.0}, "dropout: 1.0 cannot be"),
        ({"epochs": 0}, "epochs: 0 cannot be"),
        ({"rate": "fast"}, "Expected `float`, got `str`"),
    ],
)
def test_settings_of_a_network_are_checked(settings: JsonObject, message: str) -> None:
    with pytest.raises(InvalidSpecError, match=message):
        network_settings(settings)


def test_a_network_refuses_missing_values() -> None:
    pytest.importorskip("torch")
    table = customers(60)
    schema = infer(table, label="answer", timestamp="at", subject="who")
    keeping = fit_transformer(table, schema, recipe_of(impute="keep"))
    with pytest.raises(InvalidSpecError, match="a network cannot learn from missing values"):
        training.train_pytorch(table, schema, NetworkSettings(), transformer=keeping)
