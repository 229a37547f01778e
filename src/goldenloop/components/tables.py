"""The tables that components pass, and what a schema says about them beyond what models need: what new data must look like."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa

from goldenloop.core.errors import GoldenloopError, InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.features import schema as features
from goldenloop.features.source import content_version, read_artifact, write_parquet
from goldenloop.features.statistics import Family, describe
from goldenloop.features.times import parse_times
from goldenloop.tuning.tabular import frame_for

MOST_VOCABULARY = 100  # a column of more texts has no vocabulary that new data is held to
_RANGE_SLACK = 0.5  # of the range seen, on either side: the next thousand rows always hold a new extreme
_UNKNOWN_SLACK = 0.01  # share of the rows that may hold a text never seen
_MISSING_SLACK = 0.01


TaskChoice = Literal["auto", "classification", "regression"]


class Expectation(msgspec.Struct, frozen=True, kw_only=True):
    """What a column of new data must look like. Shares are 0..1; a person may edit the inferred ones and commit them.

    Without `values` any text is right; without a limit any number is.
    """

    name: str
    family: Family
    most_missing: float = 1.0
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[str, ...] = ()
    most_unknown: float = 0.0


class DataSchema(features.Schema, frozen=True, kw_only=True):
    """A schema with expectations. `dates` are columns whose hour, weekday and month models get beside the inputs."""

    dates: tuple[str, ...] = ()
    expectations: tuple[Expectation, ...] = ()


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """End a step with the one line that says what, where and how to mend it, instead of a traceback."""
    try:
        yield
    except GoldenloopError as error:
        sys.exit(str(error))


def infer(
    table: pa.Table,
    *,
    label: str = "",
    timestamp: str = "",
    subject: str = "",
    protected: Sequence[str] = (),
    ignored: Sequence[str] = (),
    dates: Sequence[str] = (),
    task: TaskChoice = "auto",
) -> DataSchema:
    """Say what each column is, and what new data must look like.

    Expected of new data: the same family of values; numbers within the range seen, widened by half of it on either side, but never
    below 0 where nothing was; of columns with at most 100 texts no others in more than 1 % of the rows; at most twice the share of
    missing values, and 1 %. Raises InvalidSpecError for names that are not there.
    """
    absent = [name for name in dates if name not in table.column_names]
    if absent:
        raise InvalidSpecError(
            f"there is no column {absent[0]!r}",
            where="dates",
            mend=f"The data has {', '.join(table.column_names[:20])}.",
        )
    if task not in get_args(TaskChoice):
        raise InvalidSpecError(f"{task!r} is no task", where="task", mend="Give auto, classification or regression.")
    left_out = {*ignored, *(name for name in dates if name != timestamp)}
    schema = features.infer_schema(
        table,
        label=label or None,
        timestamp=timestamp or None,
        subject=subject or None,
        protected=protected,
        ignored=sorted(left_out),
        task=task,
    )
    return DataSchema(
        **msgspec.structs.asdict(schema), dates=tuple(dates), expectations=tuple(_expectations(table, schema))
    )


def _expectations(table: pa.Table, schema: features.Schema) -> Iterator[Expectation]:
    needed = {column.name for column in schema.columns if column.kind != "ignored"} | {schema.label}
    for column in describe(table).columns:
        if column.name not in needed or column.rows == 0:
            continue
        share = column.missing / column.rows
        expected = Expectation(
            name=column.name,
            family=column.family,
            most_missing=1.0 if column.family == "nothing" else min(1.0, 2.0 * share + _MISSING_SLACK),
        )
        if column.quantiles and column.name != schema.timestamp:
            low, high = column.quantiles[0], column.quantiles[-1]
            room = _RANGE_SLACK * (high - low)
            expected = msgspec.structs.replace(
                expected, minimum=max(0.0, low - room) if low >= 0.0 else low - room, maximum=high + room
            )
        elif column.family == "text" and 0 < column.distinct <= MOST_VOCABULARY and column.name != schema.timestamp:
            words = np.unique([word for word in features.texts(table.column(column.name)).tolist() if word != ""])
            expected = msgspec.structs.replace(expected, values=tuple(words.tolist()), most_unknown=_UNKNOWN_SLACK)
        yield expected


def rows_for(table: pa.Table, schema: DataSchema) -> pd.DataFrame:
    """The rows as models take them: the schema's inputs by name, and its dates as microseconds since 1970, NaN where missing.

    Raises InvalidSpecError that names a column that is missing or does not hold what the schema says.
    """
    frame = frame_for(table, schema)
    for name in schema.dates:
        if name not in table.column_names:
            raise InvalidSpecError(f"there is no column {name!r}", where="dates", mend="Mend the data or the schema.")
        column = table.column(name)
        there = ~np.asarray(column.is_null())
        moments = np.full(table.num_rows, np.nan)
        if there.any():
            moments[there] = parse_times(column.filter(pa.array(there)), name=name)[0]
        frame[name] = moments
    return frame


def read_table(path: str) -> pa.Table:
    """Read a `Dataset`."""
    return read_artifact(Path(path))


def write_table(table: pa.Table, path: str) -> JsonObject:
    """Write a `Dataset`; return what its metadata should say: rows, columns, and the digest of its content."""
    version = content_version(table)
    write_parquet(table, Path(path))
    columns: JsonObject = dict(version.columns)
    return {"rows": version.rows, "digest": version.digest, "columns": columns}


def read_schema(path: str) -> DataSchema:
    """Read a schema, also one of `pipeline: auto`. Raises InvalidSpecError."""
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=DataSchema)
    except msgspec.DecodeError as error:
        raise InvalidSpecError(
            f"this is no schema: {error}", where="schema", mend="Give the output of infer_schema."
        ) from error
