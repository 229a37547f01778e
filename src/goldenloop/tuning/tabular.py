"""Good plain models for tables: baselines first, then gradient boosting, judged on the latest rows, never on shuffled
ones.

What is trained is a scikit-learn Pipeline over a DataFrame with columns by name, made of parts that convert to ONNX.
Numbers are rounded to 32 bits before training, since that is what a converted model sees; missing ones stay missing for
trees and are imputed for linear models; categories of a later day that were never seen are let through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from goldenloop.core.clock import Clock
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.signatures import Task
from goldenloop.features.schema import Schema, columns_for, event_times, labels_for
from goldenloop.tuning.budget import Outcome, search

HOLDOUT_SHARE = 5  # the latest fifth of the rows judges
_LEAST_PROBABILITY = 1e-6  # log loss of one row is at most 13.8
_SEED = 0


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate: the family of models and its settings."""

    family: Literal["constant", "linear", "boosting"]
    iterations: int = 100
    rate: float = 0.1
    leaves: int = 15
    penalty: float = 0.0


# In the order in which they are tried: a later one wins only when it is strictly better.
CANDIDATES: tuple[tuple[str, Recipe], ...] = (
    ("constant", Recipe(family="constant", iterations=1)),
    ("linear", Recipe(family="linear")),
    ("boosting, small", Recipe(family="boosting", iterations=60, leaves=8)),
    ("boosting, middle", Recipe(family="boosting", iterations=100, leaves=15)),
    ("boosting, fine", Recipe(family="boosting", iterations=150, rate=0.05, leaves=31, penalty=1.0)),
    ("boosting, large", Recipe(family="boosting", iterations=400, rate=0.05, leaves=31, penalty=1.0)),
)
_LARGE_FROM_ROWS = 5_000  # a large model is tried only where there is data for it


@dataclass(frozen=True)
class Trained:
    """The winner, fitted on all rows, and the search that chose it. `loss` is log loss (nats) or the mean squared
    error.
    """

    model: Pipeline
    search: Outcome[Recipe]
    rows: int


def frame_for(table: pa.Table, schema: Schema) -> pd.DataFrame:
    """The inputs of a table as models take them."""
    arrays = columns_for(table, schema)
    return pd.DataFrame(
        {
            column.name: arrays[column.name].astype(np.float32).astype(np.float64)
            if column.kind == "number"
            else pd.Series(arrays[column.name], dtype=object)
            for column in schema.inputs
        }
    )


def fit(model: Pipeline, frame: pd.DataFrame, labels: npt.NDArray[np.generic]) -> Pipeline:
    """Fit a model. A number column without any number is given zeros to learn from: boosting cannot be fitted on it, and on a
    constant nothing splits.
    """
    empty = [name for name in frame.columns if frame[name].dtype.kind == "f" and bool(frame[name].isna().all())]
    return model.fit(frame.assign(**dict.fromkeys(empty, 0.0)) if empty else frame, labels)


def train(table: pa.Table, schema: Schema, *, budget_seconds: float, clock: Clock) -> Trained:
    """Search the candidates within the budget and fit the best on all labelled rows. Raises InvalidSpecError."""
    labels, present = labels_for(table, schema)
    times = event_times(table, schema)[present]
    order = np.argsort(times, kind="stable")
    frame = frame_for(table, schema)[present].iloc[order].reset_index(drop=True)
    labels = labels[present][order]
    if len(labels) < 2:
        raise InvalidSpecError(
            f"{len(labels)} labelled rows are too few to learn from", where="data", mend="Give more."
        )
    split = len(labels) - max(1, len(labels) // HOLDOUT_SHARE)
    early, late = frame.iloc[:split], frame.iloc[split:]

    def loss_of(recipe: Recipe) -> float:
        model = fit(build(recipe, schema), early, labels[:split])
        return loss(model, late, labels[split:], task=schema.task)

    wanted = [
        (name, recipe) for name, recipe in CANDIDATES if recipe.iterations <= 150 or len(labels) >= _LARGE_FROM_ROWS
    ]
    found = search(wanted, loss_of, budget_seconds=budget_seconds, clock=clock)
    model = fit(build(found.best, schema), frame, labels)
    return Trained(model=model, search=found, rows=len(labels))


def build(recipe: Recipe, schema: Schema) -> Pipeline:
    """An unfitted model of a recipe."""
    numbers = [column.name for column in schema.inputs if column.kind == "number"]
    categories = [column.name for column in schema.inputs if column.kind == "category"]
    parts: list[tuple[str, BaseEstimator | str, list[str]]] = []
    if recipe.family != "linear":
        if numbers:
            parts.append(("numbers", "passthrough", numbers))
        if categories:
            encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, dtype=np.float32)
            parts.append(("categories", encoder, categories))
    else:
        if numbers:
            impute = SimpleImputer(strategy="mean", keep_empty_features=True)
            parts.append(("numbers", Pipeline([("impute", impute), ("scale", StandardScaler())]), numbers))
        if categories:
            encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32)
            parts.append(("categories", encoder, categories))
    columns = ColumnTransformer(parts, sparse_threshold=0.0)
    return Pipeline([("columns", columns), ("model", _estimator(recipe, schema.task))])


def _estimator(recipe: Recipe, task: Task) -> BaseEstimator:
    classify = task == "classification"
    if recipe.family == "constant":
        return DummyClassifier(strategy="prior") if classify else DummyRegressor()
    if recipe.family == "linear":
        return LogisticRegression(max_iter=500) if classify else Ridge(alpha=1.0)
    kind = HistGradientBoostingClassifier if classify else HistGradientBoostingRegressor
    return kind(
        max_iter=recipe.iterations,
        learning_rate=recipe.rate,
        max_leaf_nodes=recipe.leaves,
        l2_regularization=recipe.penalty,
        early_stopping=False,
        random_state=_SEED,
    )


def loss(model: Pipeline, frame: pd.DataFrame, labels: npt.NDArray[np.generic], *, task: Task) -> float:
    """The mean loss of a model: log loss in nats with probabilities of at least 1e-6, or the squared error."""
    if task == "regression":
        return float(np.mean((np.asarray(model.predict(frame), dtype=float) - labels.astype(float)) ** 2))
    return float(np.mean(-np.log(np.clip(_true_probabilities(model, frame, labels), _LEAST_PROBABILITY, 1.0))))


def _true_probabilities(
    model: Pipeline, frame: pd.DataFrame, labels: npt.NDArray[np.generic]
) -> npt.NDArray[np.float64]:
    """What the model gave to the class that was true; 0 for a class that it has never seen."""
    probabilities = np.asarray(model.predict_proba(frame), dtype=np.float64)
    places = {value: place for place, value in enumerate(model.classes_.tolist())}
    found = np.array([places.get(label, -1) for label in labels.tolist()])
    chosen = probabilities[np.arange(len(found)), np.maximum(found, 0)]
    return np.where(found < 0, 0.0, chosen)


def judge(model: Pipeline, table: pa.Table, schema: Schema) -> dict[str, float]:
    """The metrics of a model on the labelled rows of a table, by name.

    For a classifier accuracy, balanced accuracy, log loss, and for two classes the area under the ROC curve; for a
    regressor rmse, mae and r2 (0 where every label is the same).
    """
    labels, present = labels_for(table, schema)
    frame = frame_for(table, schema)[present]
    labels = labels[present]
    mean_loss = loss(model, frame, labels, task=schema.task)
    predicted = np.asarray(model.predict(frame))
    if schema.task == "regression":
        truth = labels.astype(float)
        spread = float(np.mean((truth - truth.mean()) ** 2))
        return {
            "rows": float(len(truth)),
            "rmse": float(np.sqrt(mean_loss)),
            "mae": float(np.mean(np.abs(predicted - truth))),
            "r2": 1.0 - mean_loss / spread if spread > 0 else 0.0,
        }
    right = predicted == labels
    recalls = [float(right[labels == value].mean()) for value in np.unique(labels)]
    metrics = {
        "rows": float(len(labels)),
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(np.mean(recalls)),
        "log_loss": mean_loss,
    }
    if len(model.classes_) == 2 and len(recalls) == 2:
        from sklearn.metrics import roc_auc_score

        positive = labels == model.classes_[1]
        metrics["roc_auc"] = float(roc_auc_score(positive, model.predict_proba(frame)[:, 1]))
    return metrics
