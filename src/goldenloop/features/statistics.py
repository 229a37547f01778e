"""Descriptive statistics of a data set, and the checks that stand between data and training."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from goldenloop.core.errors import InvalidSpecError
from goldenloop.features.schema import Schema, columns_for, infer_schema, labels_for, texts

_MOST_VALUES = 20  # values of a category that are listed
_QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)

Family = Literal["number", "text", "time", "nothing", "other"]


class ColumnStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """One column. Numbers have mean, deviation and quantiles (at 0, 1, 5, 25, 50, 75, 95, 99, 100 %), texts their
    commonest values.
    """

    name: str
    family: Family
    stored: str
    rows: int
    missing: int
    distinct: int
    mean: float | None = None
    deviation: float | None = None
    quantiles: tuple[float, ...] = ()
    values: dict[str, int] = {}


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """Of every column of a table."""

    rows: int
    columns: tuple[ColumnStatistics, ...]


def describe(table: pa.Table) -> Statistics:
    """Return the statistics of a table. Cost: a sort per column."""
    return Statistics(
        rows=table.num_rows, columns=tuple(_describe(name, table.column(name)) for name in table.column_names)
    )


def validate(
    training: pa.Table,
    evaluation: pa.Table,
    statistics: Statistics,
    *,
    label: str,
    timestamp: str,
    ignored: tuple[str, ...] = (),
    task: Literal["auto", "classification", "regression"] = "auto",
) -> Schema:
    """Check that a model can be trained and judged on this data, and return its schema.

    Raises InvalidSpecError that names every column that is wrong: a label that is missing, empty, or of one class only;
    a column that the evaluation data lacks, or whose kind there differs from the statistics.
    """
    if training.num_rows == 0 or evaluation.num_rows == 0:
        which = "training" if training.num_rows == 0 else "evaluation"
        raise InvalidSpecError(f"the {which} data has no rows", where="data", mend="Widen the window.")
    # A column may be constant or empty in a window; what it is goes by what it holds there.
    schema = infer_schema(training, label=label, timestamp=timestamp or None, ignored=ignored, task=task)
    labels, present = labels_for(training, schema)
    if schema.task == "classification" and len(np.unique(labels[present])) < 2:
        only = schema.classes[0] if schema.classes else "none"
        raise InvalidSpecError(
            f"the label {schema.label!r} takes one value only, {only!r}",
            where="data.label",
            mend="Widen the window until it holds at least two classes.",
        )
    wrong = _changed(evaluation, statistics, {column.name for column in schema.inputs} | {schema.label})
    if wrong:
        raise InvalidSpecError(
            f"the evaluation data does not go with the training data: {'; '.join(wrong)}",
            where="evaluation_data",
            mend="Mend these columns at their source.",
        )
    columns_for(evaluation, schema)
    if not labels_for(evaluation, schema)[1].any():
        raise InvalidSpecError("no row of the evaluation data has a label", where="evaluation_data", mend="Widen it.")
    return schema


def family_of(kind: pa.DataType) -> Family:
    """What sort of thing a stored kind is; a change within a family is no change to a model."""
    if pa.types.is_dictionary(kind):
        return family_of(kind.value_type)
    if pa.types.is_null(kind):
        return "nothing"
    if (
        pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
    ):
        return "number"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    return "time" if pa.types.is_temporal(kind) else "other"


def _changed(table: pa.Table, statistics: Statistics, wanted: set[str]) -> list[str]:
    wrong = []
    for column in statistics.columns:
        if column.name not in wanted:
            continue
        if column.name not in table.column_names:
            wrong.append(f"column {column.name!r} is missing")
            continue
        now = family_of(table.column(column.name).type)
        if now != column.family and "nothing" not in (now, column.family):
            wrong.append(f"column {column.name!r} holds {now}, it was {column.family}")
    return wrong


def _describe(name: str, column: pa.ChunkedArray) -> ColumnStatistics:
    family = family_of(column.type)
    if family == "number":
        return _describe_numbers(name, column)
    words = texts(column) if family == "text" else np.array([], dtype=object)
    values, counts = np.unique(words[words != ""].astype(str), return_counts=True)
    commonest = np.argsort(-counts, kind="stable")[:_MOST_VALUES]
    missing = column.null_count if family != "text" else int((words == "").sum())
    return ColumnStatistics(
        name=name,
        family=family,
        stored=str(column.type),
        rows=len(column),
        missing=missing,
        distinct=len(values),
        values={str(values[index]): int(counts[index]) for index in commonest},
    )


def _describe_numbers(name: str, column: pa.ChunkedArray) -> ColumnStatistics:
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    numbers: npt.NDArray[np.float64] = np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    known = numbers[np.isfinite(numbers)]
    return ColumnStatistics(
        name=name,
        family="number",
        stored=str(column.type),
        rows=len(numbers),
        missing=len(numbers) - len(known),
        distinct=len(np.unique(known)),
        mean=float(known.mean()) if len(known) else None,
        deviation=float(known.std()) if len(known) else None,
        quantiles=tuple(float(value) for value in np.quantile(known, _QUANTILES)) if len(known) else (),
    )
