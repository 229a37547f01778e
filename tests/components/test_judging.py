"""What is measured is right and honest about its uncertainty; what is blessed has earned it."""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
import pyarrow as pa
import pytest
from sklearn.dummy import DummyClassifier
from tables_for_tests import customers, prices

from goldenloop.components import judging, training
from goldenloop.components.tables import DataSchema, infer, rows_for
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.phases import Verdict
from goldenloop.evaluation.gate import Evidence
from goldenloop.stats.losses import area_under_curve

TABLE = customers(800)
LATER = customers(400, seed=1)


def schema_of(table: pa.Table) -> DataSchema:
    return infer(table, label="answer", timestamp="at", subject="who")


def trained(folder: Path, table: pa.Table = TABLE, **settings: int) -> Path:
    schema = schema_of(TABLE)
    training.train_scikit_learn(table, schema, estimator="boosting", settings={"max_iter": 30, **settings}).save(
        folder, schema
    )
    return folder


def test_a_report_has_intervals_over_all_and_by_slice(tmp_path: Path) -> None:
    report = judging.evaluate(trained(tmp_path / "m"), LATER, schema_of(TABLE), slices=["number"])
    for name in ("accuracy", "log_loss", "brier", "auc"):
        measured = report.metrics[name]
        assert measured.value is not None
        assert measured.low is not None
        assert measured.high is not None
        assert measured.low < measured.value < measured.high
    parts = {(part.column, part.value): part.rows for part in report.slices}
    assert sum(rows for (column, _), rows in parts.items() if column == "town") == 400
    assert len([column for column, _ in parts if column == "number"]) == 4
    wide = next(part for part in report.slices if part.column == "town").metrics["accuracy"]
    assert wide.high - wide.low > report.metrics["accuracy"].high - report.metrics["accuracy"].low  # type: ignore[operator]


def test_regression_is_measured_in_its_unit(tmp_path: Path) -> None:
    schema = infer(prices(10), label="price", task="regression")
    training.train_scikit_learn(prices(500), schema, estimator="linear", settings={}).save(tmp_path / "m", schema)
    report = judging.evaluate(tmp_path / "m", prices(300, seed=1), schema)
    error = report.metrics["rmse"]
    assert error.low < 2.0 < error.high  # type: ignore[operator] # the noise that the rows were made with
    blessing = judging.bless(tmp_path / "m", prices(300, seed=1), schema, limits={"rmse": 3.0}, training_rows=500)
    assert blessing.blessed
    assert not judging.bless(
        tmp_path / "m", prices(300, seed=1), schema, limits={"rmse": 1.0}, training_rows=500
    ).blessed


def test_the_interval_of_the_area_holds_it_as_often_as_it_says() -> None:
    """Of 200 samples with a known area, about 95 % hold it; fewer than 90 % would come with probability 0.002."""
    random = np.random.default_rng(4)
    everybody = random.normal(size=200_000)
    truth = area_under_curve(np.arange(200_000) < 100_000, everybody + 1.2 * (np.arange(200_000) < 100_000))
    assert truth is not None
    held = 0
    for _ in range(200):
        positive = np.arange(150) < 40
        scores = random.normal(size=150) + 1.2 * positive
        evidence = Evidence(answers=np.where(scores > 1, "b", "a"), probabilities=np.column_stack([-scores, scores]))
        found = judging.measure(evidence, np.where(positive, "b", "a"), "classification", classes=("a", "b"))["auc"]
        assert found.value == pytest.approx(area_under_curve(positive, scores))
        held += found.low <= truth <= found.high  # type: ignore[operator]
    assert held / 200 >= 0.9


def test_a_good_first_model_is_blessed_and_a_trivial_one_is_not(tmp_path: Path) -> None:
    schema = schema_of(TABLE)
    good = judging.bless(trained(tmp_path / "m"), LATER, schema, training_rows=800, limits={"accuracy": 0.7})
    assert good.blessed
    assert "there is no champion yet" in good.reason
    (tmp_path / "t").mkdir()
    joblib.dump(
        DummyClassifier(strategy="prior").fit(rows_for(TABLE, schema), TABLE.column("answer")),
        tmp_path / "t/model.joblib",
    )
    trivial = judging.bless(tmp_path / "t", LATER, schema, training_rows=800)
    assert trivial.verdict is Verdict.FAIL


def test_a_worse_model_does_not_replace_its_champion(tmp_path: Path) -> None:
    schema = schema_of(TABLE)
    champion = trained(tmp_path / "champion")
    noise = np.random.default_rng(0).permutation(800)
    mixed = TABLE.set_column(
        5, "answer", TABLE.column("answer").take(pa.array(np.where(np.arange(800) < 300, noise, np.arange(800))))
    )
    worse = trained(tmp_path / "worse", mixed)
    seen = judging.bless(worse, LATER, schema, champion=champion, training_rows=800)
    assert not seen.blessed
    assert "champion" in seen.reason
    assert judging.bless(champion, LATER, schema, champion=worse, training_rows=800).blessed


def test_limits_and_too_little_evidence_stop_a_model(tmp_path: Path) -> None:
    schema, model = schema_of(TABLE), trained(tmp_path / "m")
    strict = judging.bless(model, LATER, schema, training_rows=800, limits={"accuracy": 0.999})
    assert strict.verdict is Verdict.FAIL
    assert "below its limit 0.999" in strict.reason
    loss = judging.bless(model, LATER, schema, training_rows=800, limits={"log_loss": 0.01})
    assert "log_loss is" in loss.reason
    assert "above its limit 0.01" in loss.reason
    few = judging.bless(model, LATER.slice(0, 10), schema, training_rows=800)
    assert few.verdict is Verdict.INCONCLUSIVE
    assert not few.blessed
    with pytest.raises(InvalidSpecError, match=r"limits.speed: 'speed' is not measured here. Use one of accuracy"):
        judging.bless(model, LATER, schema, training_rows=800, limits={"speed": 1.0})


def test_what_cannot_be_judged_is_refused(tmp_path: Path) -> None:
    schema, model = schema_of(TABLE), trained(tmp_path / "m")
    with pytest.raises(InvalidSpecError, match="no row has a label"):
        judging.evaluate(model, LATER.set_column(5, "answer", pa.array([None] * 400, pa.string())), schema)
    with pytest.raises(InvalidSpecError, match="there is no column 'town'"):
        judging.evaluate(model, LATER.drop_columns(["town"]), schema)
    with pytest.raises(InvalidSpecError, match="2.0 is no confidence"):
        judging.evaluate(model, LATER, schema, confidence=2.0)
    with pytest.raises(InvalidSpecError, match="slices are declared by the column 'street'"):
        judging.evaluate(model, LATER, schema, slices=["street"])
    (tmp_path / "noise").write_bytes(b"noise")
    with pytest.raises(InvalidSpecError, match="the model cannot answer"):
        judging.evaluate(tmp_path / "noise", LATER, schema)
