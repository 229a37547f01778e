"""Why an answer was what it was: from a prediction's id back to payload, version, evaluation, run, data and code."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
from sqlalchemy import select

from goldenloop.control.apart import work_apart
from goldenloop.control.home import Home
from goldenloop.control.services.reconciler import MEMORY
from goldenloop.control.services.records import ServiceMemory, version_name
from goldenloop.control.work.records import Explanation
from goldenloop.core.clock import to_text
from goldenloop.core.errors import GoldenloopError, NotFoundError
from goldenloop.core.json import Json, JsonObject
from goldenloop.payloads.finding import find
from goldenloop.payloads.records import Exchange, Label, LoggedTensor, Prediction
from goldenloop.pipelines.runs import outputs
from goldenloop.registry import versions
from goldenloop.registry.versions import ModelVersion
from goldenloop.serving.explanations import Explained
from goldenloop.standards.open_inference.tensors import Tensor
from goldenloop.store.artifacts import Artifacts
from goldenloop.store.database import Database, Transaction
from goldenloop.store.memories import recall
from goldenloop.store.tables import flagged_rows, runs, tasks

_EXPLAIN_SECONDS = 60.0
_VALUES_SHOWN = 64  # of a tensor; larger ones are described
_NEGLIGIBLE = 0.005  # contributions below this part of the largest are not put into words
_REASONS = {
    "champion": "the champion answers",
    "canary": "the challenger answers its share of the requests",
    "sticky": "the challenger answers the requests of this key",
    "baseline": "the champion answers, as the baseline that the challenger is compared with",
    "fallback": "it was the challenger's turn and it could not, so the champion answers",
    "asked": "the request asked for this version",
}


def trace_prediction(
    database: Database, artifacts: Artifacts, home: Home, identity: str, *, row: int = 0, explain: bool = True
) -> JsonObject:
    """Everything about one answer. Raises NotFoundError where no such prediction is in the log."""
    prediction, labels = find(home.payloads, identity)
    if prediction is None:
        raise NotFoundError(
            f"no prediction {identity!r} is in the payload log",
            where=str(home.payloads),
            mend="Ids are in the header x-prediction-id of every answer.",
        )
    if isinstance(prediction, Exchange):
        return {**_told(prediction, row=0, rows=1), **_exchanged(prediction), "label": _label(labels, row)}
    if not 0 <= row < prediction.rows:
        raise NotFoundError(f"prediction {identity} has {prediction.rows} rows; there is no row {row}")
    with database.read() as transaction:
        version = _registered(transaction, prediction)
        evaluation, run = None, None
        flags = _flags(transaction, prediction, row)
        if version is not None:
            evaluation = versions.last_evaluation(transaction, prediction.namespace, prediction.service, version.number)
            run = _run(transaction, version)
    payload: JsonObject = {**prediction.row(row)}
    traced: JsonObject = {
        **_told(prediction, row=row, rows=prediction.rows),
        "payload": payload,
        "answer": _answer(prediction, version, row),
        "others": {name: answers[row][0] for name, answers in prediction.answers.items() if name != prediction.version},
        "label": _label(labels, row),
        "flags": flags,
        "version": None if version is None else versions.describe(version, evaluation),
        "evaluation": None if evaluation is None else msgspec.to_builtins(evaluation),
        "run": run,
        "data": None if version is None else version.data_version,
        "code": None if version is None else version.code_version,
    }
    if explain:
        traced.update(_explained(prediction, row, _folder(database, artifacts, prediction, version), home))
    return traced


def _folder(
    database: Database, artifacts: Artifacts, prediction: Prediction, version: ModelVersion | None
) -> Path | None:
    """Where the version that answered lies: one of a loop, or one that a person wrote, as far back as its revisions are remembered."""
    if version is not None:
        return artifacts.local(version.folder)
    with database.read() as transaction:
        memories = [
            recall(transaction, prediction.namespace, prediction.service, name, ServiceMemory)
            for name in MEMORY.values()
        ]
    tracks = [track for memory in memories if memory is not None for track in memory.tracks.items()]
    for name, track in tracks:
        for revision in track.revisions:
            if version_name(name, revision.number) == prediction.version and revision.made is not None:
                return artifacts.local(revision.made.address)
    return None


def _registered(transaction: Transaction, prediction: Prediction) -> ModelVersion | None:
    """The version that answered, if it is one that a loop made; a model that was applied by hand has no history here."""
    if not prediction.version.isdigit():
        return None
    try:
        return versions.get(transaction, prediction.namespace, prediction.service, int(prediction.version))
    except NotFoundError:
        return None


def _told(prediction: Prediction | Exchange, *, row: int, rows: int) -> JsonObject:
    return {
        "prediction": {
            "id": prediction.id,
            "alias": prediction.alias,
            "row": row,
            "rows": rows,
            "at": to_text(prediction.event_us),
            "received": to_text(prediction.arrival_us),
            "namespace": prediction.namespace,
            "service": prediction.service,
            "version": prediction.version,
            "reason": prediction.reason,
            "why": _REASONS.get(prediction.reason, prediction.reason),
            "latencyMs": prediction.latency_us / 1_000,
        }
    }


def _exchanged(exchange: Exchange) -> JsonObject:
    """What went in and came out of a model that takes no table; large tensors are described, not shown."""
    answer = exchange.answers.get(exchange.version)
    return {
        "payload": _shown(exchange.request),
        "answer": {
            "value": None if answer is None else _shown(answer),
            "probabilities": None,
            "failure": exchange.failures.get(exchange.version),
        },
        "others": {name: _shown(given) for name, given in exchange.answers.items() if name != exchange.version},
        "version": None,
        "evaluation": None,
        "run": None,
        "data": None,
        "code": None,
        "attributions": [],
        "explanation": "only models of tables are explained here",
    }


def _shown(given: tuple[LoggedTensor, ...] | bytes) -> JsonObject:
    if isinstance(given, bytes):
        return {"document": msgspec.json.decode(given)}
    shown: JsonObject = {}
    for name, datatype, shape, raw in given:
        told: JsonObject = {"datatype": datatype, "shape": list(shape), "bytes": len(raw)}
        if math.prod(shape) <= _VALUES_SHOWN:
            told["values"] = Tensor(name, datatype, shape, raw).json()  # type: ignore[arg-type,assignment]  # as it was logged
        shown[name] = told
    return shown


def _answer(prediction: Prediction, version: ModelVersion | None, row: int) -> JsonObject:
    if prediction.version not in prediction.answers:
        return {"value": None, "probabilities": None, "failure": prediction.failures.get(prediction.version)}
    value, shares = prediction.answers[prediction.version][row]
    classes = tuple(map(str, range(len(shares)))) if version is None else version.signature.classes
    return {"value": value, "probabilities": dict(zip(classes, shares, strict=False)) if shares else None}


def _label(labels: list[Label], row: int) -> Json:
    for label in labels:
        if label.row == row:
            observed = None if label.observed_us is None else to_text(label.observed_us)
            return {"label": label.label, "observed": observed, "received": to_text(label.arrival_us)}
    return None


def _flags(transaction: Transaction, prediction: Prediction, row: int) -> list[Json]:
    """What monitors found strange about this row."""
    query = select(flagged_rows).where(
        flagged_rows.c.namespace == prediction.namespace,
        flagged_rows.c.loop == prediction.service,
        flagged_rows.c.prediction == prediction.id,
        flagged_rows.c.row == row,
    )
    return [
        {
            "monitor": each.monitor,
            "window": each.window,
            "score": each.score,
            "threshold": each.threshold,
            "note": each.note,
        }
        for each in transaction.execute(query)
    ]


def _run(transaction: Transaction, version: ModelVersion) -> Json:
    row = transaction.execute(select(runs).where(runs.c.id == version.run_id)).mappings().first()
    if row is None:
        return None
    steps = transaction.execute(
        select(tasks.c.name, tasks.c.state, tasks.c.started_us, tasks.c.finished_us)
        .where(tasks.c.run_id == row["id"])
        .order_by(tasks.c.finished_us)
    )
    made = [
        {"task": each.task, "port": each.port, "type": each.type, "uri": each.uri}
        for each in outputs(transaction, row["id"])
    ]
    cause = row["cause"]
    return {
        "id": row["id"],
        "name": row["name"],
        "state": row["state"],
        "cause": {"kind": cause.get("kind"), "text": cause.get("text"), "key": cause.get("key")},
        "parameters": row["parameters"],
        "created": to_text(row["created_us"]),
        "steps": [{"name": step.name, "state": step.state} for step in steps],
        "artifacts": made,
    }


def _explained(prediction: Prediction, row: int, folder: Path | None, home: Home) -> JsonObject:
    """Attributions, computed by the version that answered, in a process of its own; or why there are none."""
    if prediction.version not in prediction.answers:
        return {"attributions": [], "explanation": "the version did not answer"}
    if folder is None:
        return {"attributions": [], "explanation": "the version that answered is not kept any more"}
    try:
        request = Explanation(
            folder=str(folder),
            row=prediction.row(row),
            answer=prediction.answers[prediction.version][row][0],
        )
        explained = work_apart("explain", request, Explained, home, seconds=_EXPLAIN_SECONDS)
    except GoldenloopError as error:
        return {"attributions": [], "explanation": f"cannot be explained: {error}"}
    largest = max((abs(part.contribution) for part in explained.attributions), default=0.0)
    shown: list[Json] = []
    for part in explained.attributions:
        direction = "raised" if part.contribution > 0 else "lowered"
        text = f"{part.name} = {_short(part.value)} {direction} the {explained.of} by {abs(part.contribution):.3f}"
        if abs(part.contribution) <= _NEGLIGIBLE * largest:
            text = f"{part.name} = {_short(part.value)} changed little"
        shown.append(
            {
                "feature": part.name,
                "value": part.value,
                "contribution": part.contribution,
                "error": part.error,
                "text": text,
            }
        )
    return {
        "attributions": shown,
        "explanation": f"the {explained.of} is {explained.score:.3f}; it is {explained.usual:.3f} on average over {explained.against}",
    }


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
