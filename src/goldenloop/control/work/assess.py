"""Assessing what a run trained: its served form, its answers on the evaluation set beside the champion's, the verdict, and the reference.

The model file is loaded here and nowhere else; this process holds no keys and writes only its own folder.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from goldenloop.control.work.checking import Judged, answered, checks_of, evidence_of
from goldenloop.control.work.records import Assessed, Assessment
from goldenloop.control.work.references import kinds_of, make_reference, read_reference
from goldenloop.core.errors import RefusedError
from goldenloop.core.ids import digest_file
from goldenloop.core.json import JsonObject
from goldenloop.core.signatures import Signature, Task
from goldenloop.evaluation.checks import Check, concluded
from goldenloop.evaluation.gate import Evaluation, Thresholds, judge
from goldenloop.evaluation.slices import slices_of
from goldenloop.features.schema import columns_for
from goldenloop.monitors.reference import losses_of
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
    conversion = serve_form(Path(request.model), data, label=schema.label, ignore=not_inputs, out=served)
    file = served / (GRAPH_FILE if conversion.runtime == "onnx" else OBJECT_FILE)
    model = load_version(served)
    champion = None if request.champion is None else load_version(Path(request.champion))
    inherited = None if request.champion is None else read_reference(Path(request.champion))
    scale = inherited.loss_scale if inherited is not None else scale_of(schema.task, data, schema.label)
    labels = np.array(evaluation.column(schema.label).to_pylist(), dtype=object)
    answers = score_table(model, evaluation)
    challenger = evidence_of(answers, model.signature)
    beside = None if champion is None else evidence_of(answered(champion, evaluation), champion.signature)
    cuts = slices_of(columns_for(evaluation, schema), kinds_of(schema), declared=request.protected)
    judged = judge(
        schema.task,
        labels,
        challenger,
        champion=beside,
        classes=model.signature.classes,
        slices=cuts,
        training_rows=data.num_rows,
        agreement=conversion.labels_agreeing,
        baseline=trivial_answer(schema.task, data, schema.label),
        scale=scale,
        thresholds=Thresholds(margin=request.margin),
    )
    looked_at = Judged(data=data, evaluation=evaluation, labels=labels, scale=scale, protected=cuts)
    models = {"challenger": model} if champion is None else {"challenger": model, "champion": champion}
    checks = checks_of(request, looked_at, models, challenger, beside, file=file, folder=folder)
    verdict, reason = concluded(judged.verdict, judged.reason, checks)
    lost = losses_of(schema.task, answers, labels.tolist(), scale)
    # Without a label nothing is known, and nothing is the worst: such a version is not let through.
    evaluated_loss = 1.0 if bool(np.isnan(lost).all()) else float(np.nanmean(lost))
    reference = make_reference(
        request, model, data, evaluation, scale=scale, expected=evaluated_loss, inherited=inherited
    )
    (served / "reference.json").write_bytes(msgspec.json.encode(reference))
    _keep_explainer(Path(request.model), data, model.signature, served)
    metrics: JsonObject = {
        **{name: value for name, value in judged.challenger_metrics.items() if value is not None},
        "evaluated_loss": evaluated_loss,
        "expected_loss": reference.expected_loss,
        "row_microseconds": _row_microseconds(model, data),
        "size_bytes": file.stat().st_size,
    }
    return Assessed(
        verdict=verdict,
        reason=reason,
        evidence=_shown(judged, checks),
        folder=str(served),
        digest=digest_file(file),
        signature=model.signature,
        conversion=msgspec.to_builtins(conversion),
        metrics=metrics,
        expected_loss=reference.expected_loss,
    )


def serve_form(path: Path, data: pa.Table, *, label: str, ignore: frozenset[str], out: Path) -> Conversion:
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


def trivial_answer(task: Task, data: pa.Table, label: str) -> str | float:
    """What somebody says who knows the training labels and nothing else."""
    values = [value for value in data.column(label).to_pylist() if value is not None]
    if task == "regression":
        return float(np.mean(values))
    names, counts = np.unique([str(value) for value in values], return_counts=True)
    return str(names[int(np.argmax(counts))])


def scale_of(task: Task, data: pa.Table, label: str) -> float:
    """The loss that counts as one, from the training labels."""
    if task == "classification":
        return 1.0
    return loss_scale(np.array(data.column(label).to_pylist(), dtype=object))


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


def _shown(evaluation: Evaluation, checks: tuple[Check, ...]) -> JsonObject:
    shown: JsonObject = msgspec.to_builtins(evaluation)
    shown["checks"] = msgspec.to_builtins(checks)
    return shown
