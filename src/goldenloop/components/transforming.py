"""From columns as people keep them to numbers as models take them, fitted on training rows only and applied alike ever after.

A transformer is a scikit-learn `ColumnTransformer`. It goes into the model as its first step, so what is asked of a served model are the
columns themselves and nothing can be computed differently in serving. All parts but `DateParts` convert to ONNX.
"""

from __future__ import annotations

from typing import Literal

import joblib
import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, OrdinalEncoder, RobustScaler, StandardScaler

from goldenloop.components.tables import DataSchema, rows_for
from goldenloop.core.errors import InvalidSpecError

_MICROSECONDS_A_DAY = 86_400_000_000
_PARTS = ("hour", "weekday", "month", "days")
_SCALERS = {"standard": StandardScaler, "range": MinMaxScaler, "robust": RobustScaler}


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """How columns become numbers.

    `impute`: what stands for a missing number; `keep` leaves it missing, which boosting can use. `scale`: `standard` to mean 0 and
    deviation 1, `range` to 0..1, `robust` by median and quartiles. `encode`: a column for each category, or one with its place
    (-1 for one never seen). Categories of fewer than `rare` rows are taken together.
    """

    impute: Literal["median", "mean", "keep"] = "median"
    scale: Literal["standard", "range", "robust", "none"] = "standard"
    encode: Literal["one-hot", "ordinal"] = "one-hot"
    rare: int = 1


class DateParts(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Moments in microseconds since 1970 to hour (with fraction), weekday (Monday is 0), month and days since 1970, all in UTC.

    A missing moment gives missing parts.
    """

    def fit(self, moments: pd.DataFrame, labels: object = None) -> DateParts:
        """Remember the names; nothing is learned."""
        del labels
        self.feature_names_in_ = np.array(moments.columns, dtype=object)
        self.n_features_in_ = len(moments.columns)
        return self

    def transform(self, moments: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Four columns for each."""
        given = np.asarray(moments, dtype=np.float64)
        found = []
        for column in given.T:
            days = np.floor(column / _MICROSECONDS_A_DAY)
            hour = (column - days * _MICROSECONDS_A_DAY) / 3_600_000_000.0
            months = np.full(len(column), np.nan)
            known = np.isfinite(column)
            months[known] = days[known].astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12 + 1
            found += [hour, (days + 3.0) % 7.0, months, days]
        return np.column_stack(found)

    def get_feature_names_out(self, names: object = None) -> npt.NDArray[np.object_]:
        """`<column>_hour` and so on."""
        del names
        return np.array([f"{name}_{part}" for name in self.feature_names_in_ for part in _PARTS], dtype=object)


def recipe_of(**settings: str | int) -> Recipe:
    """A recipe from settings by name. Raises InvalidSpecError for what none of them can be."""
    try:
        return msgspec.convert(settings, Recipe)
    except msgspec.ValidationError as error:
        raise InvalidSpecError(
            f"this is no recipe: {error}",
            where="transform",
            mend="impute is median, mean or keep; scale is standard, range, robust or none; encode is one-hot or ordinal.",
        ) from error


def fit_transformer(table: pa.Table, schema: DataSchema, recipe: Recipe) -> ColumnTransformer:
    """Fit on training rows. Raises InvalidSpecError for a table that does not go with the schema."""
    if table.num_rows == 0:
        raise InvalidSpecError("there are no rows to fit on", where="training", mend="Give data with rows.")
    frame = rows_for(table, schema)
    numbers = [column.name for column in schema.inputs if column.kind == "number"]
    categories = [column.name for column in schema.inputs if column.kind == "category"]
    parts: list[tuple[str, object, list[str]]] = []
    if numbers:
        steps = _steps_of_numbers(recipe)
        parts.append(("numbers", Pipeline(steps) if steps else "passthrough", numbers))
    if categories:
        parts.append(("categories", _of_categories(recipe), categories))
    if schema.dates:
        steps = [("parts", DateParts()), *_steps_of_numbers(recipe)]
        parts.append(("dates", Pipeline(steps), list(schema.dates)))
    fitted: ColumnTransformer = ColumnTransformer(parts, sparse_threshold=0.0, verbose_feature_names_out=False).fit(
        frame
    )
    return fitted


def apply_transformer(transformer: ColumnTransformer, table: pa.Table, schema: DataSchema) -> pa.Table:
    """The transformed columns, and beside them, as they were, the label, the timestamp and the subject where the table has them."""
    frame = rows_for(table, schema)
    numbers = np.asarray(transformer.transform(frame), dtype=np.float64)
    names = [str(name) for name in transformer.get_feature_names_out()]
    made = {name: pa.array(numbers[:, place]) for place, name in enumerate(names)}
    for kept in (schema.label, schema.timestamp, schema.subject):
        if kept and kept in table.column_names and kept not in made:
            made[kept] = table.column(kept)
    return pa.table(made)


def load_transformer(path: str) -> ColumnTransformer:
    """Read what `transform` wrote. Raises InvalidSpecError for anything else."""
    try:
        found = joblib.load(path)
    except Exception as error:  # unpickling raises whatever it meets
        raise InvalidSpecError(
            f"the transformer cannot be read: {error}", where="transformer", mend="Give the output of transform."
        ) from error
    if not isinstance(found, ColumnTransformer):
        raise InvalidSpecError(
            f"a {type(found).__name__} is no transformer", where="transformer", mend="Give the output of transform."
        )
    return found


def _steps_of_numbers(recipe: Recipe) -> list[tuple[str, object]]:
    steps: list[tuple[str, object]] = []
    if recipe.impute != "keep":
        steps.append(("impute", SimpleImputer(strategy=recipe.impute, keep_empty_features=True)))
    if recipe.scale != "none":
        steps.append(("scale", _SCALERS[recipe.scale]()))
    return steps


def _of_categories(recipe: Recipe) -> BaseEstimator:
    if recipe.encode == "ordinal":
        return OrdinalEncoder(
            handle_unknown="use_encoded_value",
            unknown_value=-1,
            dtype=np.float32,
            min_frequency=recipe.rare if recipe.rare > 1 else None,
        )
    if recipe.rare > 1:
        return OneHotEncoder(
            handle_unknown="infrequent_if_exist", sparse_output=False, dtype=np.float32, min_frequency=recipe.rare
        )
    return OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32)
