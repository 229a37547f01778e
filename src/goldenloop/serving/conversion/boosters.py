"""Boosted trees of XGBoost and LightGBM in files of their own.

A booster knows no names of classes: they are the whole numbers from 0. What the converters get wrong (objectives whose scores
are transformed in a way of their own, linear leaves, averaged trees) shows when the answers are compared, and is not converted.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from goldenloop.core.errors import InvalidSpecError, RefusedError
from goldenloop.core.signatures import Column, Signature
from goldenloop.serving.conversion.agreement import write_and_measure
from goldenloop.serving.conversion.estimators import Expected
from goldenloop.serving.conversion.graphs import name_outputs
from goldenloop.serving.conversion.hints import Hints
from goldenloop.serving.conversion.records import Conversion
from goldenloop.serving.conversion.samples import samples_of
from goldenloop.serving.models import FEATURES

if TYPE_CHECKING:
    import pyarrow
    from onnx import ModelProto

_XGBOOST_CLASSIFIES = ("binary:logistic", "multi:softprob", "multi:softmax")
_LIGHTGBM_CLASSIFIES = ("binary", "multiclass", "multiclassova")
_MOST_POINTS = 2_000  # of a column; more thresholds are thinned out


class Booster(Protocol):
    """A booster, whatever made it."""

    name: str
    columns: tuple[str, ...]
    classes: int  # 0 for a regression
    gives_classes: bool  # its own `predict` gives the class and not how probable it is
    categories: Mapping[int, Sequence[str]]  # the texts that a column holds, by its place; the others hold numbers

    def points(self) -> dict[int, NDArray[np.float64]]:
        """The thresholds of its splits, by the place of the column."""
        ...

    def answer(self, rows: pyarrow.Table) -> NDArray[np.float64]:
        """A value, or the probability of the second class, for each row; or the probabilities of all classes."""
        ...

    def contributions(self, rows: pyarrow.Table) -> NDArray[np.float64]:
        """What each column adds to each raw score of each row; the last of a row's numbers is what is usual."""
        ...

    def graph(self) -> ModelProto:
        """The converter's graph, with the input `features`."""
        ...


@dataclass(slots=True)
class _XGBoost:
    name: str
    columns: tuple[str, ...]
    classes: int
    booster: object
    categories: Mapping[int, Sequence[str]]
    gives_classes: bool = False

    def points(self) -> dict[int, NDArray[np.float64]]:
        document = json.loads(bytes(self.booster.save_raw("json")))  # type: ignore[attr-defined]
        inner = document["learner"]["gradient_booster"]
        trees = inner.get("gbtree", inner).get("model", {}).get("trees", ())  # a linear booster has none
        places = [place for tree in trees for place in tree["split_indices"]]
        thresholds = [threshold for tree in trees for threshold in tree["split_conditions"]]
        are_splits = [child != -1 for tree in trees for child in tree["left_children"]]
        inside = np.array(are_splits, dtype=bool)
        columns, values = np.array(places)[inside], np.array(thresholds, dtype=np.float64)[inside]
        return {int(place): _thinned(values[columns == place]) for place in np.unique(columns)}

    def answer(self, rows: pyarrow.Table) -> NDArray[np.float64]:
        raw = self.booster.inplace_predict(_matrix(rows), validate_features=False)  # type: ignore[attr-defined]
        return np.asarray(raw, dtype=np.float64)

    def contributions(self, rows: pyarrow.Table) -> NDArray[np.float64]:
        import xgboost

        matrix = xgboost.DMatrix(_matrix(rows), nthread=1)
        raw = self.booster.predict(matrix, pred_contribs=True, validate_features=False)  # type: ignore[attr-defined]
        return np.asarray(raw, dtype=np.float64)

    def graph(self) -> ModelProto:
        from onnxmltools import convert_xgboost
        from onnxmltools.convert.common.data_types import FloatTensorType

        types = [(FEATURES, FloatTensorType([None, len(self.columns)]))]
        made: ModelProto = convert_xgboost(self.booster, initial_types=types)
        return made


@dataclass(slots=True)
class _LightGBM:
    name: str
    columns: tuple[str, ...]
    classes: int
    booster: object
    categories: Mapping[int, Sequence[str]]
    gives_classes: bool = False

    def points(self) -> dict[int, NDArray[np.float64]]:
        table = self.booster.trees_to_dataframe()  # type: ignore[attr-defined]
        splits = table[table["split_feature"].notna() & (table["decision_type"] == "<=")]
        places = {name: place for place, name in enumerate(self.booster.feature_name())}  # type: ignore[attr-defined]
        return {
            places[name]: _thinned(group["threshold"].astype(np.float64).to_numpy())
            for name, group in splits.groupby("split_feature")
        }

    def answer(self, rows: pyarrow.Table) -> NDArray[np.float64]:
        raw = self.booster.predict(self._given(rows), num_threads=1)  # type: ignore[attr-defined]
        return np.asarray(raw, dtype=np.float64)

    def contributions(self, rows: pyarrow.Table) -> NDArray[np.float64]:
        raw = self.booster.predict(self._given(rows), pred_contrib=True, num_threads=1)  # type: ignore[attr-defined]
        return np.asarray(raw, dtype=np.float64)

    def _given(self, rows: pyarrow.Table) -> object:
        import pandas

        given: object = _matrix(rows) if not self.categories else rows.to_pandas()
        for place, values in self.categories.items():
            name = rows.column_names[place]
            known = given[name].where(given[name].isin(values))  # type: ignore[index]
            given[name] = pandas.Categorical(known, categories=values)  # type: ignore[index]
        return given

    def graph(self) -> ModelProto:
        from onnxmltools import convert_lightgbm
        from onnxmltools.convert.common.data_types import FloatTensorType

        types = [(FEATURES, FloatTensorType([None, len(self.columns)]))]
        with _quietly():
            made: ModelProto = convert_lightgbm(self.booster, initial_types=types, zipmap=False)
        return made


def load_xgboost(path: Path) -> Booster:
    """Load a booster that `save_model` wrote. Raises InvalidSpecError for a broken file, RefusedError where the package is missing."""
    try:
        import xgboost
    except ImportError as error:
        raise _missing("xgboost") from error
    try:
        booster = xgboost.Booster(model_file=str(path))
        config = json.loads(booster.save_config())["learner"]
        booster.set_param({"nthread": 1, "device": "cpu"})
        has_texts = "c" in (booster.feature_types or ()) and _has_texts(booster)
        columns = tuple(booster.feature_names or (f"f{place}" for place in range(booster.num_features())))
        booster.feature_names = None  # the converter knows columns by their places
        booster.feature_types = None
        best = booster.attr("best_iteration")
        if best is not None and booster.num_boosted_rounds() > int(best) + 1:
            booster = booster[: int(best) + 1]  # what it answers with: later rounds were tried in vain
    except (xgboost.core.XGBoostError, ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise _broken("XGBoost", path, error) from error
    objective = str(config["objective"]["name"])
    if config["gradient_booster"]["name"] == "gblinear" or has_texts:
        what = "columns of text categories" if has_texts else "a linear booster"
        raise RefusedError(
            f"XGBoost scores {what} only from its own data frames",
            where=path.name,
            mend="Encode categories as numbers before it, train a tree booster, or load it in a Python class of your own.",
        )
    classes = 0
    if objective in _XGBOOST_CLASSIFIES:
        classes = max(2, int(config["learner_model_param"]["num_class"]))
    if objective == "multi:softmax":
        booster.set_param({"objective": "multi:softprob"})  # the same model, which gives the probabilities too
    return _XGBoost(f"Booster({objective})", columns, classes, booster, {}, objective == "multi:softmax")


def load_lightgbm(path: Path) -> Booster:
    """Load a booster that `save_model` wrote. Raises InvalidSpecError for a broken file, RefusedError where the package is missing."""
    try:
        import lightgbm
    except ImportError as error:
        raise _missing("lightgbm") from error
    try:
        booster = lightgbm.Booster(model_file=str(path))
        columns = tuple(booster.feature_name())
        per_round = int(booster.num_model_per_iteration())
        described = booster.dump_model(num_iteration=1)
        objective = str(described.get("objective", "")).split(" ")[0]
        # Columns that hold categories list their codes; the texts behind them are kept in the order of these columns.
        coded = [place for place, name in enumerate(columns) if described["feature_infos"].get(name, {}).get("values")]
    except (lightgbm.basic.LightGBMError, ValueError, KeyError, IndexError, TypeError, UnicodeDecodeError) as error:
        raise _broken("LightGBM", path, error) from error
    classes = max(2, per_round) if objective in _LIGHTGBM_CLASSIFIES else 0
    texts = getattr(booster, "pandas_categorical", None) or []
    categories = dict(zip(coded, texts, strict=False)) if len(coded) == len(texts) else {}
    if not all(isinstance(value, str) for values in texts for value in values) or len(coded) < len(texts):
        raise RefusedError(
            "it was trained on categories that are not texts",
            where=path.name,
            mend="Train on text categories, or on numbers.",
        )
    return _LightGBM(f"Booster({objective})", columns, classes, booster, categories)


def signature_of_booster(booster: Booster, columns: Sequence[str]) -> Signature:
    """Return the signature with the columns' names; classes are 0, 1, …"""
    inputs = tuple(
        Column(name=name, kind="category" if place in booster.categories else "number")
        for place, name in enumerate(columns)
    )
    if not booster.classes:
        return Signature(inputs=inputs, task="regression")
    names = tuple(map(str, range(booster.classes)))
    return Signature(inputs=inputs, task="classification", classes=names, class_kind="integer")


def convert_booster(
    booster: Booster, signature: Signature, sample: pyarrow.Table, expected: Expected, *, out: Path
) -> Conversion:
    """Write the three files of a conversion. Raises RefusedError where the booster cannot be converted, or answers differ."""
    if booster.categories:
        raise RefusedError("columns of categories are not converted", mend="Encode them before the booster.")
    try:
        graph = booster.graph()
        name_outputs(graph, signature, has_probabilities=True)
    except Exception as error:  # the converters raise whatever they meet
        raise RefusedError(
            f"{booster.name} cannot be converted: {type(error).__name__}: {str(error)[:200]}",
            mend="It is served as it is.",
        ) from error
    return write_and_measure(graph, signature, booster.name, sample, (expected,), out=out)


def sample_for(booster: Booster, columns: Sequence[str]) -> pyarrow.Table:
    """Rows around its splits."""
    points = booster.points()
    hints = {
        name: Hints(
            points=points[place].tolist() if place in points else [], values=[*booster.categories.get(place, ())]
        )
        for place, name in enumerate(columns)
    }
    return next(samples_of(hints))


def ask_booster(booster: Booster, sample: pyarrow.Table) -> Expected:
    """What it says about the sample, as its served form would say it."""
    raw = booster.answer(sample)
    if not booster.classes:
        return Expected(raw.reshape(-1).tolist(), None, is_regression=True)
    probabilities = np.column_stack([1.0 - raw, raw]) if raw.ndim == 1 else raw
    return Expected([str(place) for place in probabilities.argmax(axis=1)], probabilities)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """LightGBM's converter prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _has_texts(booster: object) -> bool:
    """Whether a booster keeps the texts of categories; codes have a type, texts have offsets."""
    document = json.loads(bytes(booster.save_raw("json")))  # type: ignore[attr-defined]
    inner = document["learner"]["gradient_booster"]
    known = inner.get("gbtree", inner).get("model", {}).get("cats", {}).get("enc", ())
    return any(entry.get("offsets") for entry in known)


def _matrix(rows: pyarrow.Table) -> NDArray[np.float64]:
    matrix: NDArray[np.float64] = np.column_stack([column.to_numpy() for column in rows.columns])
    return matrix


def _thinned(points: NDArray[np.float64]) -> NDArray[np.float64]:
    unique = np.unique(points[np.isfinite(points)])
    if len(unique) <= _MOST_POINTS:
        return unique
    thinned: NDArray[np.float64] = unique[np.linspace(0, len(unique) - 1, _MOST_POINTS).astype(int)]
    return thinned


def _missing(package: str) -> RefusedError:
    return RefusedError(f"{package} is not installed", mend="pip install 'goldenloop[formats]'.")


def _broken(kind: str, path: Path, error: Exception) -> InvalidSpecError:
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return InvalidSpecError(f"not a model of {kind}: {first[:300]}", where=path.name, mend="Save it with save_model.")
