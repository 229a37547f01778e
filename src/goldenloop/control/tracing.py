"""Why an answer was what it was: from a prediction's id back to payload, version, evaluation, run, data and code."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
from sqlalchemy import select

from goldenloop.control.home import Home
from goldenloop.control.jobs import Failure
from goldenloop.control.work.records import Explained, Explanation
from goldenloop.core.clock import to_text
from goldenloop.core.errors import GoldenloopError, NotFoundError, UnavailableError
from goldenloop.core.json import Json, JsonObject
from goldenloop.payloads.log import find
from goldenloop.payloads.records import Label, Prediction
from goldenloop.pipelines.runs import outputs
from goldenloop.registry import versions
from goldenloop.registry.versions import ModelVersion
from goldenloop.store.artifacts import Artifacts
from goldenloop.store.database import Database, Transaction
from goldenloop.store.tables import runs, tasks

_EXPLAIN_SECONDS = 60.0
_NEGLIGIBLE = 0.005  # contributions below this part of the largest are not put into words
_REASONS = {
    "champion": "the champion answers",
    "canary": "the challenger answers its share of the requests",
    "sticky": "the challenger answers the requests of this key",
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
    if not 0 <= row < len(prediction.rows):
        raise NotFoundError(f"prediction {identity} has {len(prediction.rows)} rows; there is no row {row}")
    with database.read() as transaction:
        version = versions.get(transaction, prediction.namespace, prediction.service, int(prediction.version))
        evaluation = versions.last_evaluation(transaction, prediction.namespace, prediction.service, version.number)
        run = _run(transaction, version)
    payload: JsonObject = dict(zip(prediction.columns, prediction.rows[row], strict=True))
    traced: JsonObject = {
        "prediction": {
            "id": prediction.id,
            "alias": prediction.alias,
            "row": row,
            "rows": len(prediction.rows),
            "at": to_text(prediction.event_us),
            "received": to_text(prediction.arrival_us),
            "namespace": prediction.namespace,
            "service": prediction.service,
            "version": prediction.version,
            "reason": prediction.reason,
            "why": _REASONS.get(prediction.reason, prediction.reason),
            "latencyMs": prediction.latency_us / 1_000,
        },
        "payload": payload,
        "answer": _answer(prediction, version, row),
        "others": {name: answers[row][0] for name, answers in prediction.answers.items() if name != prediction.version},
        "label": _label(labels, row),
        "version": versions.describe(version, evaluation),
        "evaluation": None if evaluation is None else msgspec.to_builtins(evaluation),
        "run": run,
        "data": version.data_version,
        "code": version.code_version,
    }
    if explain:
        traced.update(_explained(prediction, version, row, artifacts, home))
    return traced


def _answer(prediction: Prediction, version: ModelVersion, row: int) -> JsonObject:
    if prediction.version not in prediction.answers:
        return {"value": None, "probabilities": None, "failure": prediction.failures.get(prediction.version)}
    value, shares = prediction.answers[prediction.version][row]
    classes = version.signature.classes
    return {"value": value, "probabilities": dict(zip(classes, shares, strict=False)) if shares else None}


def _label(labels: list[Label], row: int) -> Json:
    for label in labels:
        if label.row == row:
            observed = None if label.observed_us is None else to_text(label.observed_us)
            return {"label": label.label, "observed": observed, "received": to_text(label.arrival_us)}
    return None


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


def _explained(prediction: Prediction, version: ModelVersion, row: int, artifacts: Artifacts, home: Home) -> JsonObject:
    """Attributions, computed by the version that answered, in a process of its own; or why there are none."""
    if prediction.version not in prediction.answers:
        return {"attributions": [], "explanation": "the version did not answer"}
    try:
        folder = artifacts.local(version.folder)
        request = Explanation(
            folder=str(folder),
            row=dict(zip(prediction.columns, prediction.rows[row], strict=True)),
            answer=prediction.answers[prediction.version][row][0],
        )
        explained = _run_explain(request, home)
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
        "explanation": f"the {explained.of} is {explained.score:.3f}; it is {explained.usual:.3f} on average",
    }


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _run_explain(request: Explanation, home: Home) -> Explained:
    folder = Path(tempfile.mkdtemp(dir=home.work, prefix="explain-"))
    try:
        (folder / "request.json").write_bytes(msgspec.json.encode(request))
        command = [sys.executable, "-m", "goldenloop.control.work.main", "explain", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_EXPLAIN_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise UnavailableError(f"the explanation took longer than {_EXPLAIN_SECONDS:.0f} s") from None
        if (folder / "failure.json").exists():
            raise msgspec.json.decode((folder / "failure.json").read_bytes(), type=Failure).error()
        if done.returncode != 0:
            raise UnavailableError(
                f"the explaining process ended with {done.returncode}: {done.stderr[-500:].decode()}"
            )
        return msgspec.json.decode((folder / "response.json").read_bytes(), type=Explained)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
