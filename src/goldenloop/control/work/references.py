"""Making the reference of the monitors, in the job process: the rows and the model itself are at hand only there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from goldenloop.control.work.records import Assessment
from goldenloop.control.work.rolling import rolling_losses
from goldenloop.features.schema import Schema, columns_for, event_times
from goldenloop.monitors import catalogue
from goldenloop.monitors.catalogue.base import Past, Window
from goldenloop.monitors.custom import fit_custom
from goldenloop.monitors.reference import (
    Columns,
    Kinds,
    Reference,
    Windows,
    answer_columns,
    expected_loss,
    inherited_watch,
    split_watch,
)
from goldenloop.monitors.windows import WindowSize
from goldenloop.payloads.records import Answer
from goldenloop.serving.scoring import TableModel, score_table


def make_reference(
    request: Assessment,
    model: TableModel,
    data: pa.Table,
    evaluation: pa.Table,
    *,
    scale: float,
    expected: float,
    inherited: Reference | None,
) -> Reference:
    """The first version looks at all of the past, later ones at what they were trained on."""
    schema, signature = request.schema, model.signature
    past = data if request.history is None else pq.read_table(request.history)
    windows = _windows(past, schema, request.size)
    kinds: Kinds = {column.name: column.kind for column in signature.inputs}
    columns = {name: values for name, values in columns_for(past, schema).items() if name in kinds}
    answers = score_table(model, past)
    said, said_kinds = answer_columns(signature, answers)
    if inherited is None:
        features, spoken = split_watch(columns, kinds, windows), split_watch(said, said_kinds, windows)
        usual = rolling_losses(past, schema, windows, span_us=request.span_us, scale=scale)
        level = float(usual.mean()) if len(usual) else expected
        usual_loss, loss_windows = level, tuple(float(value) - level for value in usual)
    else:
        features = inherited_watch(columns, kinds, windows, inherited.features.scales)
        spoken = inherited_watch(said, said_kinds, windows, inherited.answers.scales)
        usual_loss, loss_windows = inherited.usual_loss, ()
    evaluated = evaluation.num_rows / max(1.0, float(np.mean([len(rows) for rows in windows]))) if windows else 1.0
    reference = Reference(
        task=schema.task,
        features=features,
        answers=spoken,
        loss_scale=scale,
        usual_loss=usual_loss,
        expected_loss=expected_loss(expected, usual_loss, windows=evaluated),
        loss_windows=loss_windows,
    )
    watched = Past(
        training=_observed(past, answers, model, schema, scale),
        evaluation=_observed(evaluation, score_table(model, evaluation), model, schema, scale),
        windows=windows,
        score=lambda given, rows: model.predict(_as_scored(given, kinds), rows),
        protected=request.protected,
        counts_rows=request.size.size_us is None,
        first=inherited is None,
    )
    with np.errstate(all="ignore"):
        fitted, scores = catalogue.fit(watched)
        for settings in request.custom:
            with suppress(Exception):  # its windows will say what is wrong with it
                if (known := fit_custom(settings, watched)) is not None:
                    fitted[settings.name] = known
        reference = msgspec.structs.replace(reference, fitted=fitted, scores=scores, chosen=catalogue.choose(watched))
        if inherited is not None:
            return reference
        return msgspec.structs.replace(reference, scores={**scores, **catalogue.history(watched, reference)})


def _observed(table: pa.Table, answers: Sequence[Answer], model: TableModel, schema: Schema, scale: float) -> Window:
    """Rows of the past as monitors see those of a window."""
    times = event_times(table, schema) if schema.timestamp else np.arange(table.num_rows, dtype=np.int64)
    names = set(model.signature.names)
    return Window(
        start_us=int(times.min()) if len(times) else 0,
        end_us=int(times.max()) + 1 if len(times) else 0,
        signature=model.signature,
        event_us=times,
        columns={name: values for name, values in columns_for(table, schema).items() if name in names},
        answers=answers,
        labels=table.column(schema.label).to_pylist(),
        loss_scale=scale,
    )


def _as_scored(columns: Columns, kinds: Kinds) -> Columns:
    """Columns as a model takes them: a missing category is None."""
    given: Columns = {}
    for name, values in columns.items():
        given[name] = values
        if kinds.get(name) == "category":
            made = np.asarray(values).astype(object)
            made[made == ""] = None
            given[name] = made
    return given


def _windows(table: pa.Table, schema: Schema, size: WindowSize) -> Windows:
    """The past, cut as live rows will be, whole windows only and counted back from the end."""
    if size.size_us is not None and schema.timestamp:
        times = event_times(table, schema)
        back = (times[-1] - times) // size.size_us
        groups = [np.flatnonzero(back == index) for index in range(int(back.max()), -1, -1)]
        return [rows for rows in groups[1:] if len(rows)]
    count = size.rows or 0
    whole = table.num_rows // count if count else 0
    start = table.num_rows - whole * count
    return [np.arange(start + index * count, start + (index + 1) * count) for index in range(whole)]


def kinds_of(schema: Schema) -> Kinds:
    """How each input is compared: as a number, or as a category."""
    return {column.name: "number" if column.kind == "number" else "category" for column in schema.inputs}


def read_reference(folder: Path) -> Reference:
    """That of a version, beside its served form."""
    return msgspec.json.decode((folder / "reference.json").read_bytes(), type=Reference)
