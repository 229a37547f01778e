"""Preparing a run: the source and the logged rows become a training set and a later evaluation set.

A row that is both in the source and logged is counted once: where event time and features are equal, the logged one is left out.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from goldenloop.control.memory import Choice
from goldenloop.control.work.records import Preparation, Prepared
from goldenloop.core.clock import to_text
from goldenloop.core.durations import parse_duration
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.signatures import Task
from goldenloop.features.schema import Schema, event_times, infer_schema
from goldenloop.features.source import content_version, read_source, write_parquet
from goldenloop.monitors.windows import WindowSize, choose_size

EVALUATION_SHARE = 0.2  # of the window, the latest part
FEWEST_ROWS = 40
# What production measures of each task once labels are there; the first is the usual one.
METRICS: dict[Task, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1"),
    "regression": ("mae", "rmse", "r2"),
}
_SEED = 7  # of the split of rows without a time; the same rows are split alike each time
TIME = "__event_time_us"


def prepare(request: Preparation, folder: Path) -> Prepared:
    """Do it. Raises InvalidSpecError where the data cannot be used, naming file and column."""
    source = None if request.source is None else read_source(request.source)
    if source is None and request.logged is None:
        raise InvalidSpecError(
            "there is nothing to train on", where="spec.data.source", mend="Give a CSV or Parquet file."
        )
    first = source if source is not None else pq.read_table(request.logged)
    schema = request.schema or infer_schema(
        first,
        label=None if request.label == "auto" else request.label,
        timestamp=request.timestamp,
        subject=request.subject,
        protected=request.protected,
        task=request.task,
    )
    rows = _together(schema, source, request.logged, request.until_us)
    timed = bool(schema.timestamp)
    times = rows.column(TIME).to_numpy()
    size = choose_size(request.windows_size, times if timed else None)
    recent = rows
    if request.window != "all" and timed:
        recent = rows.filter(pc.greater(rows.column(TIME), int(times[-1]) - parse_duration(request.window)))
    training, evaluation = _split(recent, timed=timed)
    files = {"data": training, "evaluation": evaluation, **({"history": rows} if request.schema is None else {})}
    for name, table in files.items():
        write_parquet(_with_time(table, schema), folder / f"{name}.parquet")
    version = content_version(training.drop_columns([TIME]))
    last = int(times[-1]) if timed else None
    return Prepared(
        schema=schema,
        task=schema.task,
        metric=_metric(request.metric, schema.task),
        label=schema.label,
        timestamp=schema.timestamp or "",
        choices=_choices(schema, request, size),
        size=size,
        data=str(folder / "data.parquet"),
        evaluation=str(folder / "evaluation.parquet"),
        history=str(folder / "history.parquet") if "history" in files else None,
        data_version={
            **msgspec.to_builtins(version),
            "rows": training.num_rows,
            "evaluationRows": evaluation.num_rows,
            "from": to_text(int(recent.column(TIME)[0].as_py())) if timed else None,
            "until": to_text(last) if last is not None else None,
            "source": request.source,
        },
        trained_until_us=last,
    )


def _together(schema: Schema, source: pa.Table | None, logged: str | None, until_us: int | None) -> pa.Table:
    """All labelled rows by time, with their time in a column of its own; without one, in the order in which they stand."""
    parts = []
    inputs = [column.name for column in schema.inputs]
    names = [*inputs, schema.label, *([schema.timestamp] if schema.timestamp else [])]
    for table in (source, None if logged is None else pq.read_table(logged)):
        if table is None:
            continue
        for name in names:
            if name not in table.column_names:
                table = table.append_column(name, pa.nulls(table.num_rows))
        times = event_times(table, schema)
        kept = table.select([name for name in names if name != schema.timestamp])
        parts.append(kept.append_column(TIME, pa.array(times, type=pa.int64())))
    rows = parts[0] if len(parts) == 1 else _united(parts)
    rows = rows.filter(pc.is_valid(rows.column(schema.label)))
    if schema.timestamp:
        if until_us is not None:
            rows = rows.filter(pc.less(rows.column(TIME), until_us))
        rows = rows.sort_by(TIME)
    if rows.num_rows < FEWEST_ROWS:
        raise InvalidSpecError(
            f"{rows.num_rows} labelled rows are too few to train and evaluate on",
            where="spec.data",
            mend=f"At least {FEWEST_ROWS} are needed.",
        )
    return rows


def _united(parts: list[pa.Table]) -> pa.Table:
    """One table of the source and the logged rows, each row once."""
    first, second = parts
    types = {field.name: field.type for field in first.schema}
    try:
        second = pa.table({name: _cast(second.column(name), types[name]) for name in first.column_names})
    except pa.ArrowInvalid as error:
        raise InvalidSpecError(
            f"the logged rows do not fit the source: {error}",
            where="spec.data.source",
            mend="A column changed its type.",
        ) from error
    seen = set(zip(*(first.column(name).to_pylist() for name in first.column_names), strict=True))
    fresh = [
        row not in seen for row in zip(*(second.column(name).to_pylist() for name in first.column_names), strict=True)
    ]
    return pa.concat_tables([first, second.filter(pa.array(fresh, type=pa.bool_()))])


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_integer(kind) and pa.types.is_floating(column.type):
        return column.cast(pa.float64()).cast(kind)
    return column.cast(kind)


def _split(rows: pa.Table, *, timed: bool) -> tuple[pa.Table, pa.Table]:
    """Training and evaluation rows: the latest fifth evaluates; rows without a time are dealt by a fixed seed."""
    if not timed:
        order = np.random.default_rng(_SEED).permutation(rows.num_rows)
        rows = rows.take(pa.array(order))
    cut = rows.num_rows - max(1, round(rows.num_rows * EVALUATION_SHARE))
    return rows.slice(0, cut), rows.slice(cut)


def _with_time(table: pa.Table, schema: Schema) -> pa.Table:
    """The table as pipelines see it: the event time under the name of the timestamp column."""
    times = table.column(TIME)
    table = table.drop_columns([TIME])
    if schema.timestamp:
        table = table.append_column(schema.timestamp, times.cast(pa.timestamp("us")).cast(pa.timestamp("us", tz="UTC")))
    return table


def _metric(asked: str, task: Task) -> str:
    known = METRICS[task]
    if asked == "auto":
        return known[0]
    if asked not in known:
        raise InvalidSpecError(
            f"{asked!r} is no metric of {task}", where="spec.metric", mend=f"Known: {', '.join(known)}."
        )
    return asked


def _choices(schema: Schema, request: Preparation, size: WindowSize) -> dict[str, Choice]:
    given = "given"
    metric = _metric(request.metric, schema.task)
    return {
        "task": Choice(value=schema.task, why=schema.task_reason),
        "label": Choice(value=schema.label, why=schema.label_reason),
        "timestamp": Choice(
            value=schema.timestamp or "none", why=given if request.timestamp else "a column stored as a time, or none"
        ),
        "metric": Choice(value=metric, why=given if request.metric != "auto" else f"the usual one for {schema.task}"),
        "windows": Choice(value=size.text, why=size.why),
        **{f"column {column.name}": Choice(value=column.kind, why=column.reason) for column in schema.columns},
    }
