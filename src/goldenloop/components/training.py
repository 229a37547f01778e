"""Training: labelled rows and a transformer become one scikit-learn pipeline that takes the columns as they are.

Whatever library learns, the result is `Pipeline([("columns", transformer), ("model", estimator)])` in `model.joblib`, with `schema.json`
beside it: one form to evaluate, bless, register and serve. A network trained with PyTorch is kept as scikit-learn's own network of the
same weights, so that nothing after training needs PyTorch; its state is kept too, in `network.pt`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import joblib
import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from goldenloop.components.tables import DataSchema, rows_for
from goldenloop.components.transforming import Recipe, fit_transformer
from goldenloop.core.errors import InvalidSpecError, UnavailableError
from goldenloop.core.json import Json, JsonObject
from goldenloop.core.signatures import Task
from goldenloop.features.schema import labels_for

if TYPE_CHECKING:
    from goldenloop.components.networks import NetworkSettings

MODEL_FILE = "model.joblib"
SCHEMA_FILE = "schema.json"
Labels = npt.NDArray[np.generic]

# By their short names; for each task the class, and what is set unless the caller says otherwise.
_SHORT: dict[str, tuple[dict[Task, str], JsonObject]] = {
    "boosting": (
        {
            "classification": "sklearn.ensemble.HistGradientBoostingClassifier",
            "regression": "sklearn.ensemble.HistGradientBoostingRegressor",
        },
        {"early_stopping": False, "random_state": 0},
    ),
    "forest": (
        {
            "classification": "sklearn.ensemble.RandomForestClassifier",
            "regression": "sklearn.ensemble.RandomForestRegressor",
        },
        {"random_state": 0},
    ),
    "linear": (
        {"classification": "sklearn.linear_model.LogisticRegression", "regression": "sklearn.linear_model.Ridge"},
        {},
    ),
}
_OF_TREES = ("boosting", "forest")


class EncodedClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier for libraries that know classes only as 0, 1, 2 …: labels go in and come out as they are."""

    def __init__(self, estimator: BaseEstimator) -> None:
        self.estimator = estimator

    def fit(self, rows: npt.NDArray[np.generic], labels: Labels) -> EncodedClassifier:
        """Number the classes in their order, and learn."""
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        self.estimator.fit(rows, numbers)
        return self

    def predict(self, rows: npt.NDArray[np.generic]) -> Labels:
        """The likeliest class of each row."""
        likeliest: Labels = self.classes_[np.argmax(self.predict_proba(rows), axis=1)]
        return likeliest

    def predict_proba(self, rows: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
        """Rows x classes, in the order of `classes_`."""
        return np.asarray(self.estimator.predict_proba(rows), dtype=np.float64)


@dataclass(frozen=True)
class Trained:
    """A fitted model and what is to be remembered of how it came about. `extra` are files to keep beside it, by name."""

    model: Pipeline
    framework: str
    estimator: str
    rows: int
    extra: Mapping[str, bytes]

    def save(self, folder: Path, schema: DataSchema) -> JsonObject:
        """Write the folder of a `Model`; return what its metadata should say."""
        folder.mkdir(parents=True, exist_ok=True)
        joblib.dump(self.model, folder / MODEL_FILE)
        (folder / SCHEMA_FILE).write_bytes(msgspec.json.encode(schema))
        for name, content in self.extra.items():
            (folder / name).write_bytes(content)
        return {
            "framework": self.framework,
            "estimator": self.estimator,
            "file": MODEL_FILE,
            "rows": self.rows,
            "task": schema.task,
        }


def train_scikit_learn(
    table: pa.Table,
    schema: DataSchema,
    *,
    estimator: str,
    settings: JsonObject,
    transformer: ColumnTransformer | None = None,
) -> Trained:
    """Train `boosting`, `forest`, `linear`, or any estimator of scikit-learn by its full name, `sklearn.svm.SVC`.

    Without a transformer `boosting` and `forest` get numbers as they are and categories numbered, others the default recipe. Raises
    InvalidSpecError for an estimator or a setting that does not exist, and for data that nothing can be learned from.
    """
    name, usual = _named(estimator, schema.task)
    chosen = _built(_class_of(name), {**usual, **settings}, name)
    return _fitted(
        table, schema, chosen, transformer, framework="scikit-learn", estimator=name, of_trees=estimator in _OF_TREES
    )


def train_lightgbm(
    table: pa.Table, schema: DataSchema, *, settings: JsonObject, transformer: ColumnTransformer | None = None
) -> Trained:
    """Train LightGBM's classifier or regressor. Raises UnavailableError without the package lightgbm, else as scikit-learn's."""
    lightgbm = _library("lightgbm")
    kind = lightgbm.LGBMClassifier if schema.task == "classification" else lightgbm.LGBMRegressor
    usual: JsonObject = {"random_state": 0, "verbosity": -1, "n_jobs": 1, "deterministic": True}
    chosen = _built(kind, {**usual, **settings}, f"lightgbm.{kind.__name__}", open_ended=True)
    return _fitted(
        table,
        schema,
        chosen,
        transformer,
        framework="lightgbm",
        estimator=f"lightgbm.{kind.__name__}",
        of_trees=True,
    )


def train_xgboost(
    table: pa.Table, schema: DataSchema, *, settings: JsonObject, transformer: ColumnTransformer | None = None
) -> Trained:
    """Train XGBoost's classifier or regressor. Raises UnavailableError without the package xgboost, else as scikit-learn's."""
    xgboost = _library("xgboost")
    kind = xgboost.XGBClassifier if schema.task == "classification" else xgboost.XGBRegressor
    usual: JsonObject = {"random_state": 0, "n_jobs": 1}
    chosen = _built(kind, {**usual, **settings}, f"xgboost.{kind.__name__}", open_ended=True)
    if schema.task == "classification":
        chosen = EncodedClassifier(chosen)
    return _fitted(
        table, schema, chosen, transformer, framework="xgboost", estimator=f"xgboost.{kind.__name__}", of_trees=True
    )


def train_pytorch(
    table: pa.Table, schema: DataSchema, settings: NetworkSettings, *, transformer: ColumnTransformer | None = None
) -> Trained:
    """Train a network of rectified linear layers. Raises UnavailableError without the package torch, else as scikit-learn's."""
    _library("torch")
    from goldenloop.components.networks import train_network

    columns = transformer or fit_transformer(table, schema, Recipe())
    frame, labels = _labelled(table, schema)
    network, state = train_network(_rows(columns, frame), labels, schema.task, settings)
    return Trained(
        model=Pipeline([("columns", columns), ("model", network)]),
        framework="pytorch",
        estimator="torch.nn.Sequential",
        rows=len(labels),
        extra={"network.pt": state},
    )


def _fitted(
    table: pa.Table,
    schema: DataSchema,
    chosen: BaseEstimator,
    transformer: ColumnTransformer | None,
    *,
    framework: str,
    estimator: str,
    of_trees: bool = False,
) -> Trained:
    # Trees need no scale, and scaled numbers would fall on the other side of a threshold where they are rounded to 32 bits.
    recipe = Recipe(impute="keep", scale="none", encode="ordinal") if of_trees else Recipe()
    columns = transformer or fit_transformer(table, schema, recipe)
    frame, labels = _labelled(table, schema)
    try:
        chosen.fit(_rows(columns, frame), labels)
    except (
        ValueError,
        TypeError,
        RuntimeError,
    ) as error:  # what estimators raise for settings and data that do not fit
        raise InvalidSpecError(
            f"{estimator} cannot be trained: {error}",
            where="settings or training",
            mend="Mend the setting or the column.",
        ) from error
    model = Pipeline([("columns", columns), ("model", chosen)])
    return Trained(model=model, framework=framework, estimator=estimator, rows=len(labels), extra={})


def _labelled(table: pa.Table, schema: DataSchema) -> tuple[object, Labels]:
    """The rows that have a label. Raises InvalidSpecError where there are fewer than two, or one class."""
    labels, present = labels_for(table, schema)
    frame = rows_for(table, schema)[present]
    labels = labels[present]
    if len(labels) < 2:
        raise InvalidSpecError(
            f"{len(labels)} labelled rows are too few to learn from", where="training", mend="Give more."
        )
    if schema.task == "classification" and len(np.unique(labels)) < 2:
        raise InvalidSpecError(
            f"the label {schema.label!r} takes one value only",
            where="training",
            mend="Give rows of at least two classes.",
        )
    return frame, labels


def _rows(columns: ColumnTransformer, frame: object) -> npt.NDArray[np.float64]:
    """The transformed rows without names: some libraries refuse names that hold commas or brackets, as categories may."""
    return np.asarray(columns.transform(frame), dtype=np.float64)


def _named(estimator: str, task: Task) -> tuple[str, JsonObject]:
    if estimator in _SHORT:
        classes, usual = _SHORT[estimator]
        return classes[task], usual
    if not estimator.startswith("sklearn."):
        raise InvalidSpecError(
            f"{estimator!r} is no estimator",
            where="estimator",
            mend=f"Give {', '.join(_SHORT)}, or a full name such as sklearn.svm.SVC.",
        )
    return estimator, {}


def _class_of(name: str) -> type[BaseEstimator]:
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InvalidSpecError(f"scikit-learn has no {name}", where="estimator", mend="Check the name.") from error
    if not (isinstance(found, type) and issubclass(found, BaseEstimator) and hasattr(found, "predict")):
        raise InvalidSpecError(f"{name} does not predict", where="estimator", mend="Give a classifier or a regressor.")
    return found


def _built(
    kind: type[BaseEstimator], settings: Mapping[str, Json], name: str, *, open_ended: bool = False
) -> BaseEstimator:
    """The unfitted estimator. `open_ended`: its library takes more settings than those it lists.

    KFP passes numbers in objects as JSON, in which some of its runners make 60.0 of 60: a whole number is taken as an integer, unless
    the setting's default is a float.
    """
    defaults = kind().get_params()
    strange = [each for each in settings if not open_ended and each not in defaults]
    if strange:
        raise InvalidSpecError(
            f"{name} has no setting {strange[0]!r}",
            where=f"settings.{strange[0]}",
            mend=f"It has {', '.join(sorted(defaults))}.",
        )
    return kind(**{each: _exact(value, defaults.get(each)) for each, value in settings.items()})


def _exact(value: Json, default: object) -> Json:
    if isinstance(value, float) and value.is_integer() and not isinstance(default, float):
        return int(value)
    return value


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UnavailableError(
            f"training with it needs the package {name}, which is not here",
            where=name,
            mend=f"Install it beside goldenloop: pip install {name}.",
        ) from error
