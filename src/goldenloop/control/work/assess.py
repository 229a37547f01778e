"""Assessing what a run trained: its served form, its answers on the evaluation set beside the champion's, the verdict, and the reference.

The model file is loaded here and nowhere else; this process holds no keys and writes only its own folder.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from goldenloop.control.work.records import Assessed, Assessment
from goldenloop.control.work.rolling import rolling_losses
from goldenloop.core.errors import RefusedError
from goldenloop.core.ids import digest_file
from goldenloop.core.json import JsonObject
from goldenloop.core.signatures import Signature, Task
from goldenloop.evaluation.gate import Evaluation, Evidence, Thresholds, judge
from goldenloop.evaluation.slices import slices_of
from goldenloop.features.schema import Schema, columns_for, event_times
from goldenloop.monitors.reference import (
    Kinds,
    Reference,
    Windows,
    answer_columns,
    expected_loss,
    inherited_watch,
    losses_of,
    split_watch,
)
from goldenloop.monitors.windows import WindowSize
from goldenloop.payloads.records import Answer
from goldenloop.serving.conversion import Conversion, convert
from goldenloop.serving.conversion.estimators import load_estimator
from goldenloop.serving.explanations import keep_explainer
from goldenloop.serving.models import GRAPH_FILE
from goldenloop.serving.scoring import TableModel, score_table
from goldenloop.serving.unconverted import OBJECT_FILE, keep_object, load_version
from goldenloop.stats.losses import loss_scale

_TIMED_ROWS = 200


def assess(request: Assessment, folder: Path) -> Assessed:
    """Do it. Raises RefusedError where the model cannot be brought into a served form, saying why."""
    data, evaluation = pq.read_table(request.data), pq.read_table(request.evaluation)
    schema = request.schema
    served = folder / "served"
    inputs = {column.name: column.kind for column in schema.inputs}
    not_inputs = frozenset(name for name in data.column_names if name not in inputs)
    conversion = _bring(Path(request.model), data, label=schema.label, ignore=not_inputs, out=served)
    file = served / (GRAPH_FILE if conversion.runtime == "onnx" else OBJECT_FILE)
    model = load_version(served)
    champion = None if request.champion is None else load_version(Path(request.champion))
    inherited = None if request.champion is None else _reference(Path(request.champion))
    scale = inherited.loss_scale if inherited is not None else _scale(schema.task, data, schema.label)
    labels = np.array(evaluation.column(schema.label).to_pylist(), dtype=object)
    answers = score_table(model, evaluation)
    verdict = judge(
        schema.task,
        labels,
        _evidence(answers, model.signature),
        champion=None if champion is None else _evidence(score_table(champion, evaluation), champion.signature),
        classes=model.signature.classes,
        slices=slices_of(columns_for(evaluation, schema), _kinds(schema), declared=request.protected),
        training_rows=data.num_rows,
        agreement=conversion.labels_agreeing,
        baseline=_baseline(schema.task, data, schema.label),
        scale=scale,
        thresholds=Thresholds(margin=request.margin),
    )
    evaluated_loss = float(np.nanmean(losses_of(schema.task, answers, labels.tolist(), scale)))
    reference = _make_reference(request, model, data, evaluation, scale, evaluated_loss, inherited)
    (served / "reference.json").write_bytes(msgspec.json.encode(reference))
    _keep_explainer(Path(request.model), data, model.signature, served)
    metrics: JsonObject = {
        **{name: value for name, value in verdict.challenger_metrics.items() if value is not None},
        "evaluated_loss": evaluated_loss,
        "expected_loss": reference.expected_loss,
        "row_microseconds": _row_microseconds(model, evaluation),
        "size_bytes": file.stat().st_size,
    }
    return Assessed(
        verdict=verdict.verdict,
        reason=verdict.reason,
        evidence=_shown(verdict),
        folder=str(served),
        digest=digest_file(file),
        signature=model.signature,
        conversion=msgspec.to_builtins(conversion),
        metrics=metrics,
        expected_loss=reference.expected_loss,
    )


def _bring(path: Path, data: pa.Table, *, label: str, ignore: frozenset[str], out: Path) -> Conversion:
    """The served form: converted, or where that changes answers or cannot be done, the model itself. Raises RefusedError for neither."""
    try:
        return convert(path, data, label=label, ignore=ignore, out=out)
    except RefusedError as refusal:
        if path.suffix == ".onnx":
            raise
        try:
            return keep_object(path, data, label=label, ignore=ignore, why=refusal.what, out=out)
        except RefusedError as error:
            raise refusal from error


def _make_reference(
    request: Assessment,
    model: TableModel,
    data: pa.Table,
    evaluation: pa.Table,
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
    return Reference(
        task=schema.task,
        features=features,
        answers=spoken,
        loss_scale=scale,
        usual_loss=usual_loss,
        expected_loss=expected_loss(expected, usual_loss, windows=evaluated),
        loss_windows=loss_windows,
    )


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


def _kinds(schema: Schema) -> Kinds:
    return {column.name: "number" if column.kind == "number" else "category" for column in schema.inputs}


def _evidence(answers: Sequence[Answer], signature: Signature) -> Evidence:
    said = np.empty(len(answers), dtype=object)
    said[:] = [value for value, _ in answers]
    if signature.task == "regression" or not signature.classes:
        return Evidence(answers=said)
    return Evidence(answers=said, probabilities=np.array([shares for _, shares in answers], dtype=np.float64))


def _baseline(task: Task, data: pa.Table, label: str) -> str | float:
    """What somebody says who knows the training labels and nothing else."""
    values = [value for value in data.column(label).to_pylist() if value is not None]
    if task == "regression":
        return float(np.mean(values))
    names, counts = np.unique([str(value) for value in values], return_counts=True)
    return str(names[int(np.argmax(counts))])


def _scale(task: Task, data: pa.Table, label: str) -> float:
    if task == "classification":
        return 1.0
    return loss_scale(np.array(data.column(label).to_pylist(), dtype=object))


def _reference(folder: Path) -> Reference:
    return msgspec.json.decode((folder / "reference.json").read_bytes(), type=Reference)


def _keep_explainer(path: Path, data: pa.Table, signature: Signature, served: Path) -> None:
    """A few training rows, beside the model, and what else explanations need."""
    estimator = None if path.suffix == ".onnx" else load_estimator(path)
    keep_explainer(served, signature, data, background="training rows", estimator=estimator)


def _row_microseconds(model: TableModel, table: pa.Table) -> float:
    """What one row costs, scored by itself: the median of up to 200, in microseconds."""
    durations = []
    for row in range(min(_TIMED_ROWS, table.num_rows)):
        one = table.slice(row, 1)
        begun = time.perf_counter_ns()
        score_table(model, one)
        durations.append(time.perf_counter_ns() - begun)
    return float(np.median(durations)) / 1_000


def _shown(evaluation: Evaluation) -> JsonObject:
    shown: JsonObject = msgspec.to_builtins(evaluation)
    return shown
