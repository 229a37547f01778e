"""What the columns of a data set are, inferred with a reason for each, and the arrays that models are trained on."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as compute

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.signatures import Column, Signature, Task
from goldenloop.features.times import TimeUnit, parse_times

Kind = Literal["number", "category", "timestamp", "ignored"]
ClassKind = Literal["text", "integer", "number", "boolean"]

MOST_INTEGER_CLASSES = 20  # a label of more distinct whole numbers is a quantity
_ID_ROWS = 20  # a text that differs in every one of so many rows names the row
_MOST_CATEGORIES = 1_000  # a text of more, that differs in half of the rows, is free text
_LABEL_NAMES = ("label", "target", "class", "outcome", "y")


class ColumnSchema(msgspec.Struct, frozen=True, kw_only=True):
    """A column: what it is, why, and how it was stored. A protected one is kept and watched for fairness."""

    name: str
    kind: Kind
    reason: str
    stored: str
    protected: bool = False


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """A data set as models and monitors see it. Without a timestamp, rows are in the order of time."""

    columns: tuple[ColumnSchema, ...]
    label: str
    label_reason: str
    task: Task
    task_reason: str
    classes: tuple[str, ...] = ()
    class_kind: ClassKind = "text"
    timestamp: str | None = None
    time_unit: TimeUnit | None = None
    subject: str | None = None

    @property
    def inputs(self) -> tuple[ColumnSchema, ...]:
        """The columns that models get, in order."""
        return tuple(column for column in self.columns if column.kind in ("number", "category"))

    @property
    def signature(self) -> Signature:
        """The contract of a model trained on all inputs."""
        return Signature(
            inputs=tuple(
                Column(name=column.name, kind="number" if column.kind == "number" else "category")
                for column in self.inputs
            ),
            task=self.task,
            classes=self.classes,
            class_kind=self.class_kind,
        )


def infer_schema(
    table: pa.Table,
    *,
    label: str | None,
    timestamp: str | None,
    subject: str | None = None,
    protected: Sequence[str] = (),
    ignored: Sequence[str] = (),
    task: Literal["auto", "classification", "regression"] = "auto",
) -> Schema:
    """Say what each column is. Names that are not there, and data that nothing can be learned from, raise
    InvalidSpecError.

    An empty `label` is looked for by its name, then the last column is taken; an empty `timestamp` is a column stored
    as a time, or none.
    """
    label, label_reason = _find_label(table, label)
    named = {"label": label, "timestamp": timestamp, "subject": subject}
    for role, name in named.items():
        if name:
            _must_have(table, name, f"data.{role}")
    for name in (*protected, *ignored):
        _must_have(table, name, "data.protected" if name in protected else "data.ignored")
    timestamp = timestamp or next(
        (field.name for field in table.schema if pa.types.is_timestamp(field.type) and field.name != label), None
    )
    unit = parse_times(table.column(timestamp), name=timestamp)[1] if timestamp else None
    chosen, task_reason = _find_task(table.column(label), task)
    classes, class_kind = _classes(table.column(label)) if chosen == "classification" else ((), "number")
    columns = []
    for field in table.schema:
        kind, reason = _role(field.name, label, timestamp, subject, ignored) or _kind(table.column(field.name))
        columns.append(
            ColumnSchema(
                name=field.name, kind=kind, reason=reason, stored=str(field.type), protected=field.name in protected
            )
        )
    schema = Schema(
        columns=tuple(columns),
        label=label,
        label_reason=label_reason,
        task=chosen,
        task_reason=task_reason,
        classes=classes,
        class_kind=class_kind,
        timestamp=timestamp,
        time_unit=unit,
        subject=subject or None,
    )
    if not schema.inputs:
        listed = "; ".join(f"{column.name}: {column.reason}" for column in columns)
        raise InvalidSpecError("no column is left to learn from", where="data.source", mend=f"They are {listed}.")
    return schema


def event_times(table: pa.Table, schema: Schema) -> npt.NDArray[np.int64]:
    """The event time of each row, in microseconds; without a timestamp the number of the row, from 0."""
    if schema.timestamp is None:
        return np.arange(table.num_rows, dtype=np.int64)
    _must_have(table, schema.timestamp, "data.timestamp")
    return parse_times(table.column(schema.timestamp), name=schema.timestamp)[0]


def columns_for(table: pa.Table, schema: Schema) -> dict[str, npt.NDArray[np.generic]]:
    """The inputs as arrays: numbers as float64 with NaN where missing, categories as texts with "" where missing.

    Raises InvalidSpecError that names a column that is missing or does not hold what the schema says.
    """
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for column in schema.inputs:
        _must_have(table, column.name, f"column {column.name}")
        stored = table.column(column.name)
        arrays[column.name] = _numbers(stored, column.name) if column.kind == "number" else texts(stored)
    return arrays


def labels_for(table: pa.Table, schema: Schema) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.bool_]]:
    """The labels, and which rows have one.

    For a classifier whole numbers or texts (booleans are the texts `true` and `false`); for a regressor float64. What
    stands in a row without a label means nothing.
    """
    _must_have(table, schema.label, "data.label")
    stored = _decoded(table.column(schema.label))
    if schema.task == "regression":
        values = _numbers(stored, schema.label)
        return values, np.isfinite(values)
    if schema.class_kind in ("integer", "number"):
        numbers = _numbers(stored, schema.label)
        present = np.isfinite(numbers)
        filled = np.where(present, numbers, 0)
        return (filled.astype(np.int64) if schema.class_kind == "integer" else filled), present
    words = texts(stored)
    return words, words != ""


def texts(column: pa.ChunkedArray) -> npt.NDArray[np.generic]:
    """A column as texts, "" where missing; whole numbers without a point, booleans as `true` and `false`."""
    column = _decoded(column)
    if pa.types.is_floating(column.type):
        return np.array([_number_text(value) for value in column.to_pylist()], dtype=object)
    return np.array(column.cast(pa.large_string()).fill_null("").to_pylist(), dtype=object)


def _number_text(value: float | None) -> str:
    if value is None or value != value:
        return ""
    return str(int(value)) if value.is_integer() else repr(value)


def _numbers(column: pa.ChunkedArray, name: str) -> npt.NDArray[np.float64]:
    column = _decoded(column)
    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise InvalidSpecError(
            f"column {name!r} holds {kind}, not numbers", where=f"column {name}", mend="Mend the data."
        )
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _find_label(table: pa.Table, label: str | None) -> tuple[str, str]:
    if label:
        return label, "named by the loop"
    for name in _LABEL_NAMES:
        for column in table.column_names:
            if column.lower() == name:
                return column, f"a column is called {column}"
    return table.column_names[-1], "the last column"


def _find_task(column: pa.ChunkedArray, task: Literal["auto", "classification", "regression"]) -> tuple[Task, str]:
    column = _decoded(column)
    kind = column.type
    if column.null_count == len(column):
        raise InvalidSpecError(
            "every label is missing", where="data.label", mend="Name the column that holds the truth."
        )
    if task != "auto":
        if task == "regression" and not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise InvalidSpecError(f"the label holds {kind}, not numbers", where="task", mend="Use classification.")
        return task, "named by the loop"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind):
        return "classification", "the label is text" if not pa.types.is_boolean(kind) else "the label is true or false"
    values = column.drop_null().cast(pa.float64(), safe=False).to_numpy()
    values = np.unique(values[np.isfinite(values)])
    if len(values) <= MOST_INTEGER_CLASSES and np.all(values == np.floor(values)):
        return "classification", f"the label takes {len(values)} whole numbers"
    whole = "whole numbers" if np.all(values == np.floor(values)) else "numbers"
    return "regression", f"the label takes {len(values)} different {whole}"


def _classes(column: pa.ChunkedArray) -> tuple[tuple[str, ...], ClassKind]:
    kind = _decoded(column).type
    found = np.unique([word for word in texts(column).tolist() if word != ""])
    if pa.types.is_boolean(kind):
        return tuple(found.tolist()), "boolean"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return tuple(found.tolist()), "text"
    ordered = tuple(sorted(found.tolist(), key=float))
    return ordered, "integer" if all(float(word).is_integer() for word in ordered) else "number"


def _role(
    name: str, label: str, timestamp: str | None, subject: str | None, ignored: Sequence[str]
) -> tuple[Kind, str] | None:
    if name == label:
        return "ignored", "it is the label"
    if name == timestamp:
        return "timestamp", "it is the event time"
    if name == subject:
        return "ignored", "it names the subject"
    if name in ignored:
        return "ignored", "the loop leaves it out"
    return None


def _kind(column: pa.ChunkedArray) -> tuple[Kind, str]:
    column = _decoded(column)
    kind, rows = column.type, len(column)
    present = rows - column.null_count
    if present == 0:
        return "ignored", "every value is missing"
    distinct = len(compute.unique(column.drop_null()))
    if pa.types.is_boolean(kind):
        return "number", "it is true or false, taken as 1 and 0"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        # A constant is kept: the world may change, and what was left out then could not be seen.
        return "number", f"it holds numbers, {distinct} different" if distinct > 1 else "it holds one number so far"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        if distinct == present and present >= _ID_ROWS:
            return "ignored", "every row has another text: an id"
        if distinct > _MOST_CATEGORIES and distinct > present / 2:
            return "ignored", f"{distinct} different texts in {present} rows: free text"
        return "category", f"it holds {distinct} different texts" if distinct > 1 else "it holds one text so far"
    if pa.types.is_temporal(kind):
        return "ignored", "a time that is not the event time"
    return "ignored", f"{kind} cannot be learned from"


def _must_have(table: pa.Table, name: str, where: str) -> None:
    if name not in table.column_names:
        near = difflib.get_close_matches(name, table.column_names, n=1)
        mend = f"Did you mean {near[0]!r}?" if near else f"The data has {', '.join(table.column_names[:20])}."
        raise InvalidSpecError(f"there is no column {name!r}", where=where, mend=mend)
