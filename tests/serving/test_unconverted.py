"""Models that cannot be converted are kept as they are, and answer as they did."""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from predictor_bench import KEY
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression

from goldenloop.core.errors import InvalidSpecError, RefusedError, UnavailableError
from goldenloop.serving.conversion import convert
from goldenloop.serving.models import read_signature
from goldenloop.serving.predictors.forms import read_served_form
from goldenloop.serving.predictors.trust import reason_to_refuse, sign_folder
from goldenloop.serving.scoring import score_table
from goldenloop.serving.unconverted import ObjectModel, keep_object, load_version


class Nearest(BaseEstimator, ClassifierMixin):
    """A classifier of a person's own, which no converter knows."""

    def fit(self, rows: pd.DataFrame, labels: object) -> Nearest:
        self.feature_names_in_ = np.asarray(rows.columns, dtype=object)
        self.classes_ = np.unique(np.asarray(labels))
        self.centres_ = {name: rows["size"][np.asarray(labels) == name].mean() for name in self.classes_}
        return self

    def predict_proba(self, rows: pd.DataFrame) -> np.ndarray:
        if (rows["colour"] == "broken").any():
            raise ValueError("broken")
        distances = np.array([abs(rows["size"] - self.centres_[name]) for name in self.classes_]).T
        return 1 - distances / distances.sum(axis=1, keepdims=True)

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        return self.classes_[self.predict_proba(rows).argmax(axis=1)]


def frame() -> pd.DataFrame:
    generator = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "size": generator.normal(size=300),
            "colour": generator.choice(["red", "green"], size=300),
            "old": generator.random(300) > 0.5,
            "class": generator.choice(["big", "small"], size=300),
        }
    )


def keep(folder: Path, estimator: BaseEstimator, *, why: str = "it is new") -> tuple[Path, pa.Table]:
    rows = frame()
    joblib.dump(estimator.fit(rows[["size", "colour", "old"]], rows["class"]), folder / "model.joblib")
    sample = pa.Table.from_pandas(rows, preserve_index=False)
    record = keep_object(
        folder / "model.joblib", sample, label="class", ignore=frozenset(), why=why, out=folder / "served"
    )
    assert record.runtime == "process"
    assert why in record.rule
    return folder / "served", sample


def test_an_object_of_ones_own(tmp_path: Path) -> None:
    served, sample = keep(tmp_path, Nearest())
    form = read_served_form(served)
    assert (form.runtime, form.loader, [spec.name for spec in form.inputs]) == ("process", "pickle", ["old"])
    assert read_signature(served) == form.signature
    model = load_version(served)
    assert isinstance(model, ObjectModel)
    answers = score_table(model, sample)
    wanted = joblib.load(tmp_path / "model.joblib").predict_proba(frame())
    np.testing.assert_allclose([shares for _, shares in answers], wanted)
    columns = {"size": np.zeros(1), "colour": np.array(["broken"], dtype=object), "old": np.array([True])}
    with pytest.raises(UnavailableError, match="ValueError: broken"):
        model.predict(columns, 1)


def test_it_is_unpickled_only_when_it_is_signed(tmp_path: Path) -> None:
    served, _ = keep(tmp_path, Nearest())
    assert reason_to_refuse(served, KEY)
    sign_folder(served, KEY)
    assert not reason_to_refuse(served, KEY)


def test_what_conversion_gets_wrong_is_kept(tmp_path: Path) -> None:
    rows = frame()
    rows["colour"] = (rows["colour"] == "red").astype(float)
    rows["class"] = np.where((rows["colour"] > 0) == (rows["size"] > 0), "big", "small")
    estimator = HistGradientBoostingClassifier(categorical_features=[1], max_iter=20)
    joblib.dump(estimator.fit(rows[["size", "colour"]], rows["class"]), tmp_path / "model.joblib")
    sample = pa.Table.from_pandas(rows[["size", "colour", "class"]], preserve_index=False)
    with pytest.raises(RefusedError) as refused:
        convert(tmp_path / "model.joblib", sample, label="class", out=tmp_path / "served")
    keep_object(
        tmp_path / "model.joblib",
        sample,
        label="class",
        ignore=frozenset(),
        why=str(refused.value),
        out=tmp_path / "served",
    )
    answers = score_table(load_version(tmp_path / "served"), sample)
    assert [value for value, _ in answers] == estimator.predict(rows[["size", "colour"]]).tolist()


def test_regression(tmp_path: Path) -> None:
    rows = frame()[["size", "class"]].assign(value=lambda these: these["size"] * 2).drop(columns="class")
    joblib.dump(LinearRegression().fit(rows[["size"]], rows["value"]), tmp_path / "model.pkl")
    sample = pa.Table.from_pandas(rows, preserve_index=False)
    keep_object(tmp_path / "model.pkl", sample, label="value", ignore=frozenset(), why="", out=tmp_path / "served")
    answers = score_table(load_version(tmp_path / "served"), sample)
    np.testing.assert_allclose([value for value, _ in answers], rows["value"])


def test_what_is_no_saved_estimator(tmp_path: Path) -> None:
    sample = pa.Table.from_pandas(frame(), preserve_index=False)
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(InvalidSpecError, match="not a saved estimator"):
        keep_object(tmp_path / "model.bin", sample, label="class", ignore=frozenset(), why="", out=tmp_path / "served")
