"""Conversion agrees with the estimator, or refuses."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import joblib
import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

from goldenloop.core.errors import InvalidSpecError, RefusedError
from goldenloop.serving.conversion import CONVERSION_FILE, Conversion, convert
from goldenloop.serving.models import GRAPH_FILE, load
from goldenloop.serving.scoring import score_table

NUMBERS = ["checking balance", "demand", "price", "hour"]
CATEGORIES = ["purpose-of-credit", "housing"]


def made_frame(rows: int = 600, *, missing: bool = False) -> pd.DataFrame:
    """Rows with numbers and categories, and labels that depend on both."""
    generator = np.random.default_rng(7)
    frame = pd.DataFrame({name: generator.normal(size=rows).round(4) for name in NUMBERS})
    frame["hour"] = generator.integers(0, 24, rows)
    frame["purpose-of-credit"] = generator.choice(["car", "radio/tv", "<0 DM"], rows)
    frame["housing"] = generator.choice(["own", "rent"], rows)
    signal = frame["demand"] + (frame["housing"] == "own") + frame["hour"] / 12 + generator.normal(scale=0.3, size=rows)
    frame["label"] = np.where(signal > 1.5, "UP", "DOWN")
    frame["value"] = signal
    if missing:
        frame.loc[frame.index[::7], "price"] = np.nan
        frame.loc[frame.index[::9], "housing"] = None
    return frame


def fit_and_convert(estimator: object, frame: pd.DataFrame, columns: list[str], label: str, folder: Path) -> Conversion:
    estimator.fit(frame[columns], frame[label])  # type: ignore[attr-defined]
    joblib.dump(estimator, folder / "model.joblib")
    table = pa.Table.from_pandas(frame[[*columns, label]], preserve_index=False)
    return convert(folder / "model.joblib", table, label=label, out=folder / "served")


def encoded(encoder: object, rest: object = "passthrough") -> object:
    return make_column_transformer((encoder, CATEGORIES), remainder=rest)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LogisticRegression(),
        lambda: make_pipeline(StandardScaler(), LogisticRegression()),
        lambda: HistGradientBoostingClassifier(max_iter=20),
        lambda: RandomForestClassifier(n_estimators=10, random_state=1),
        lambda: DummyClassifier(),
        lambda: make_pipeline(
            make_column_transformer((StandardScaler(), ["demand", "price"]), remainder="passthrough"),
            LogisticRegression(),
        ),
    ],
)
def test_numbers(make: Callable[[], object], tmp_path: Path) -> None:
    frame = made_frame()
    record = fit_and_convert(make(), frame, NUMBERS, "label", tmp_path)
    assert record.accepted
    assert record.labels_agreeing >= 0.999
    assert record.rows == len(frame)
    assert record == msgspec.json.decode((tmp_path / "served" / CONVERSION_FILE).read_bytes(), type=Conversion)
    model = load(tmp_path / "served")
    assert model.signature.names == tuple(NUMBERS)
    assert model.signature.classes == ("DOWN", "UP")
    answers = score_table(model, pa.Table.from_pandas(frame))
    assert len(answers) == len(frame)
    assert all(abs(sum(shares) - 1) < 1e-5 for _, shares in answers)


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_pipeline(encoded(OneHotEncoder(handle_unknown="ignore"), StandardScaler()), LogisticRegression()),
        lambda: make_pipeline(
            encoded(OneHotEncoder(handle_unknown="ignore", sparse_output=False)),
            HistGradientBoostingClassifier(max_iter=20),
        ),
        lambda: make_pipeline(
            encoded(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)),
            HistGradientBoostingClassifier(max_iter=20),
        ),
        lambda: make_pipeline(
            encoded(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)),
            HistGradientBoostingClassifier(max_iter=20),
        ),
        lambda: make_pipeline(
            make_column_transformer(
                (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
                (StandardScaler(), make_column_selector(dtype_include="number")),
            ),
            LogisticRegression(),
        ),
        lambda: make_pipeline(encoded(OrdinalEncoder()), DummyClassifier()),
    ],
)
def test_categories(make: Callable[[], object], tmp_path: Path) -> None:
    record = fit_and_convert(make(), made_frame(), NUMBERS + CATEGORIES, "label", tmp_path)
    assert record.accepted
    model = load(tmp_path / "served")
    assert [column.kind for column in model.signature.inputs] == ["number"] * 4 + ["category"] * 2
    batch = model.layout.from_rows([[0.1, 0.2, 0.3, 4, "never seen", "own"]], where="rows")
    assert model.score(batch)[0][0] in ("UP", "DOWN")


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_pipeline(
            make_column_transformer(
                (
                    make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")),
                    CATEGORIES,
                ),
                (make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS),
            ),
            LogisticRegression(),
        ),
        lambda: make_pipeline(
            encoded(OneHotEncoder(handle_unknown="ignore", sparse_output=False)),
            HistGradientBoostingClassifier(max_iter=20),
        ),
        lambda: make_pipeline(
            encoded(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)),
            HistGradientBoostingClassifier(max_iter=20),
        ),
    ],
)
def test_missing_values(make: Callable[[], object], tmp_path: Path) -> None:
    record = fit_and_convert(make(), made_frame(missing=True), NUMBERS + CATEGORIES, "label", tmp_path)
    assert record.labels_agreeing >= 0.999


@pytest.mark.parametrize(
    "make",
    [LinearRegression, DummyRegressor, lambda: HistGradientBoostingRegressor(max_iter=20)],
    ids=["linear", "dummy", "boosted"],
)
def test_regression(make: Callable[[], object], tmp_path: Path) -> None:
    frame = made_frame()
    record = fit_and_convert(make(), frame, NUMBERS, "value", tmp_path)
    assert record.accepted
    answers = score_table(load(tmp_path / "served"), pa.Table.from_pandas(frame))
    expected = joblib.load(tmp_path / "model.joblib").predict(frame[NUMBERS])
    assert np.allclose([value for value, _ in answers], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "classes"), [("boolean", ("false", "true")), ("integer", ("0", "1")), ("number", ("0.5", "1"))]
)
def test_kinds_of_classes(kind: str, classes: tuple[str, ...], tmp_path: Path) -> None:
    frame = made_frame()
    is_up = frame["label"] == "UP"
    frame["y"] = {"boolean": is_up, "integer": is_up.astype(int), "number": np.where(is_up, 1.0, 0.5)}[kind]
    if kind == "number":  # scikit-learn takes fractions for a regression's values
        with pytest.raises(ValueError):
            LogisticRegression().fit(frame[NUMBERS], frame["y"])
        return
    record = fit_and_convert(LogisticRegression(), frame, NUMBERS, "y", tmp_path)
    assert (record.signature.class_kind, record.signature.classes) == (kind, classes)
    assert {label for label, _ in score_table(load(tmp_path / "served"), pa.Table.from_pandas(frame))} == set(classes)


@pytest.mark.parametrize("use", ["encoded", "as a number"])
def test_a_column_of_truths(use: str, tmp_path: Path) -> None:
    frame = made_frame()
    frame["owner"] = frame["housing"] == "own"
    encoder = make_column_transformer((OneHotEncoder(), ["owner"]), remainder="passthrough")
    estimator = (
        make_pipeline(encoder, LogisticRegression())
        if use == "encoded"
        else HistGradientBoostingClassifier(max_iter=20)
    )
    record = fit_and_convert(estimator, frame, [*NUMBERS, "owner"], "label", tmp_path)
    assert record.accepted
    assert record.signature.inputs[-1].kind == ("category" if use == "encoded" else "number")


def test_native_categories_are_refused(tmp_path: Path) -> None:
    estimator = make_pipeline(
        encoded(OrdinalEncoder()), HistGradientBoostingClassifier(max_iter=5, categorical_features=[0, 1])
    )
    with pytest.raises(RefusedError, match="categorical_features"):
        fit_and_convert(estimator, made_frame(), NUMBERS + CATEGORIES, "label", tmp_path)


def test_what_cannot_be_converted_is_named(tmp_path: Path) -> None:
    estimator = make_pipeline(FunctionTransformer(np.cbrt), LogisticRegression())
    with pytest.raises(RefusedError, match="FunctionTransformer"):
        fit_and_convert(estimator, made_frame(), NUMBERS, "label", tmp_path)
    with pytest.raises(RefusedError, match="by chance"):
        fit_and_convert(DummyClassifier(strategy="uniform"), made_frame(), NUMBERS, "label", tmp_path)
    assert not (tmp_path / "served" / GRAPH_FILE).exists()


def test_disagreement_is_refused(tmp_path: Path) -> None:
    """Times in seconds since 1970: float32 cannot tell those of the same two minutes apart."""
    stamps = 1_700_000_000 + np.arange(400)
    frame = pd.DataFrame({"stamp": stamps, "label": np.where(stamps < 1_700_000_200, "before", "after")})
    with pytest.raises(RefusedError, match="does not answer as the estimator does"):
        fit_and_convert(HistGradientBoostingClassifier(max_iter=20), frame, ["stamp"], "label", tmp_path)
    record = msgspec.json.decode((tmp_path / "served" / CONVERSION_FILE).read_bytes(), type=Conversion)
    assert not record.accepted
    assert not (tmp_path / "served" / GRAPH_FILE).exists()


def test_bad_files(tmp_path: Path) -> None:
    table = pa.Table.from_pandas(made_frame())
    path = tmp_path / "model.joblib"
    path.write_bytes(b"this is no pickle")
    with pytest.raises(InvalidSpecError, match="not a saved estimator"):
        convert(path, table, label="label", out=tmp_path / "served")
    path.write_bytes(pickle.dumps({"weights": [1, 2]}))
    with pytest.raises(RefusedError, match="no predict"):
        convert(path, table, label="label", out=tmp_path / "served")
    with pytest.raises(InvalidSpecError, match="cannot be read"):
        convert(tmp_path / "absent.joblib", table, label="label", out=tmp_path / "served")
    joblib.dump(LogisticRegression().fit(made_frame()[NUMBERS], made_frame()["label"]), path)
    with pytest.raises(InvalidSpecError, match="trained on the column"):
        convert(path, table.drop_columns(["price"]), label="label", out=tmp_path / "served")


def test_a_graph_that_has_the_form_is_taken(tmp_path: Path) -> None:
    frame = made_frame()
    fit_and_convert(LogisticRegression(), frame, NUMBERS, "label", tmp_path)
    graph = tmp_path / "given.onnx"
    graph.write_bytes((tmp_path / "served" / GRAPH_FILE).read_bytes())
    table = pa.Table.from_pandas(frame[[*NUMBERS, "label"]], preserve_index=False)
    record = convert(graph, table, label="label", out=tmp_path / "taken")
    assert record.source == "onnx"
    assert score_table(load(tmp_path / "taken"), table) == score_table(load(tmp_path / "served"), table)
    with pytest.raises(RefusedError, match="served form"):
        convert(graph, table.drop_columns(["price"]), label="label", out=tmp_path / "again")
