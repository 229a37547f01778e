"""Runs as records: asking for one, ending one, and reading what it gave. Each function works inside its caller's
transaction.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

import msgspec
from sqlalchemy import select, update

from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.core.ids import uuid7
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import RunState
from goldenloop.pipelines.artifact_records import artifact_record, find_artifact
from goldenloop.pipelines.graph_records import keep_run
from goldenloop.pipelines.values import Values, scope_outputs, values_of
from goldenloop.pipelines.warnings import warnings_of
from goldenloop.standards.kubernetes_platform import read_platform
from goldenloop.standards.pipeline_ir import Component, Pipeline, as_kind, fits, read_pipeline
from goldenloop.store.artifacts import Artifacts
from goldenloop.store.database import Transaction, insert_ignoring
from goldenloop.store.tables import artifact_tasks, artifacts, runs, tasks

UNFINISHED = (RunState.PENDING.value, RunState.RUNNING.value)
MODEL = "system.Model"
MODEL_NAMES = ("model.joblib", "model.pkl", "model.pickle")


class ArtifactInput(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact that is given to a run: its address, its type, and what is known about it."""

    uri: str
    type: str = "system.Artifact"
    metadata: JsonObject = {}


class RunRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is asked for. `cause_key` names its cause: one cause starts one run. `event_us` is the loop's time,
    not the clock's.
    """

    namespace: str
    name: str
    pipeline: JsonObject  # the specification, as JSON
    platform: JsonObject | None = None
    parameters: JsonObject = {}
    inputs: dict[str, ArtifactInput] = {}
    loop: str | None = None
    cause: JsonObject = {}
    cause_key: str | None = None
    code: JsonObject = {}  # commit, dirty, digest
    event_us: int | None = None
    caching: bool = True
    priority: int = 0  # among runs that wait for room, those of a higher priority start their steps first


class OutputArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact that a task of a run wrote (or found in the cache), by the port it came out of."""

    artifact_id: str
    task: str
    port: str
    type: str
    uri: str
    digest: str
    properties: JsonObject


def insert_run(transaction: Transaction, request: RunRequest, *, now_us: int) -> str | None:
    """Insert a pending run and return its id, or None where its cause has a run already.

    Raises InvalidSpecError, before anything is written, for a pipeline that cannot run here and for inputs that do not
    fit it.
    """
    pipeline = read_pipeline(request.pipeline)
    platform = read_platform(request.platform)
    parameters = checked_parameters(pipeline.root, request.parameters)
    _check_inputs(pipeline.root, request.inputs)
    identity = uuid7()
    row = {
        "id": identity,
        "namespace": request.namespace,
        "name": request.name,
        "loop": request.loop,
        "cause_key": request.cause_key,
        "cause": request.cause,
        "state": RunState.PENDING.value,
        "pipeline": {"pipeline_spec": request.pipeline, "platform_spec": request.platform, "caching": request.caching},
        "parameters": parameters,
        "inputs": {},
        "code": request.code,
        "event_us": request.event_us,
        "created_us": now_us,
        "settled": False,
        "priority": request.priority,
        "revision": 0,
        "warnings": warnings_of(pipeline, platform),
    }
    if transaction.execute(insert_ignoring(transaction, runs).values(**row)).rowcount == 0:
        return None
    given: JsonObject = {}
    for name, artifact in request.inputs.items():
        given[name] = {
            "uri": artifact.uri,
            "type": artifact.type,
            "metadata": artifact.metadata,
            "artifact_id": _known_artifact(transaction, name, artifact, now_us=now_us),
        }
    transaction.execute(update(runs).where(runs.c.id == identity).values(inputs=given))
    return identity


def cancel_run(transaction: Transaction, run_id: str, *, now_us: int) -> bool:
    """End a run that goes on; the engine ends its processes. Return whether it was going on. Raises NotFoundError."""
    ended = {"state": RunState.CANCELED.value, "finished_us": now_us}
    going_on = (runs.c.id == run_id, runs.c.state.in_(UNFINISHED))
    changed = transaction.execute(update(runs).where(*going_on).values(**ended, revision=runs.c.revision + 1))
    if changed.rowcount == 0:
        if transaction.execute(select(runs.c.id).where(runs.c.id == run_id)).first() is None:
            raise NotFoundError(f"there is no run {run_id}")
        return False
    transaction.execute(update(tasks).where(tasks.c.run_id == run_id, tasks.c.state.in_(UNFINISHED)).values(**ended))
    keep_run(transaction, run_id, now_us=now_us)
    return True


def outputs(transaction: Transaction, run_id: str) -> list[OutputArtifact]:
    """The artifacts that a run's tasks wrote, in the order in which their tasks ended."""
    query = (
        select(artifacts, artifact_tasks.c.port, tasks.c.name.label("task"))
        .join(artifact_tasks, artifact_tasks.c.artifact_id == artifacts.c.id)
        .join(tasks, tasks.c.id == artifact_tasks.c.task_id)
        .where(tasks.c.run_id == run_id, artifact_tasks.c.direction == "OUTPUT")
        .order_by(tasks.c.finished_us, tasks.c.name, artifact_tasks.c.port)
    )
    return [
        OutputArtifact(
            artifact_id=row.id,
            task=row.task,
            port=row.port,
            type=row.type,
            uri=row.uri,
            digest=row.digest,
            properties=row.properties,
        )
        for row in transaction.execute(query)
    ]


def run_outputs(transaction: Transaction, run_id: str) -> Values:
    """What the run gives, parameters and ids of artifacts, as far as its tasks have ended. Raises NotFoundError."""
    scope = _pipeline_of(transaction, run_id).root_scope
    query = select(tasks.c.name, tasks.c.state, tasks.c.outputs, tasks.c.error)
    rows = transaction.execute(query.where(tasks.c.run_id == run_id, tasks.c.scope == ""))
    ended = {row.name: _Ended(RunState(row.state), values_of(row.outputs), row.error) for row in rows}
    return scope_outputs(scope, {name: ended.get(name, _NOT_BEGUN) for name in scope.tasks})


def output_parameters(transaction: Transaction, run_id: str) -> JsonObject:
    """The values of the run's own output parameters, as far as its tasks have ended. Raises NotFoundError."""
    return run_outputs(transaction, run_id).parameters


def find_model(transaction: Transaction, run_id: str) -> OutputArtifact | None:
    """The run's challenger: its output named `model`; else what the last task with a port named `model` wrote; else its
    only Model.
    """
    found = outputs(transaction, run_id)
    if "model" in _pipeline_of(transaction, run_id).root_scope.artifacts:
        given = run_outputs(transaction, run_id).artifacts.get("model", ())
        return next((output for output in found if output.artifact_id in given), None)
    models = [output for output in found if output.type == MODEL]
    named = [output for output in models if output.port == "model"]
    if named:
        return named[-1]
    return models[0] if len({model.artifact_id for model in models}) == 1 else None


def model_file(kept: Artifacts, uri: str) -> Path:
    """The file of a model artifact on this machine: the artifact itself, or in a folder `model.joblib` or its only
    file.

    Raises NotFoundError where the artifact is gone, InvalidSpecError where nobody can say which file it is.
    """
    path = kept.local(uri)
    if not path.is_dir():
        return path
    for name in MODEL_NAMES:
        if (path / name).is_file():
            return path / name
    files = [member for member in path.rglob("*") if member.is_file() and not member.name.startswith(".")]
    if len(files) == 1:
        return files[0]
    raise InvalidSpecError(
        f"the model artifact holds {len(files)} files and none is named model.joblib",
        where=uri,
        mend="Let the training step write one file to model.path, or model.joblib in that folder.",
    )


def checked_parameters(root: Component, given: JsonObject) -> JsonObject:
    """Return the parameters of a run in their kinds, without defaults. Raises InvalidSpecError with the place of what
    is wrong.
    """
    known = root.input_parameters
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            listed = f"Did you mean {near[0]!r}?" if near else f"It takes {', '.join(known) or 'none'}."
            raise InvalidSpecError(f"the pipeline has no parameter {name!r}", where=f"parameters.{name}", mend=listed)
        if value is not None and not fits(value, known[name].type):
            raise InvalidSpecError(
                f"{value!r} is not of type {known[name].type}",
                where=f"parameters.{name}",
                mend=f"Give {_EXAMPLES.get(known[name].type, 'nothing: it is filled in')}.",
            )
    missing = [name for name, spec in known.items() if not spec.optional and given.get(name) is None]
    if missing:
        raise InvalidSpecError(
            f"the pipeline needs {', '.join(missing)}", where="parameters", mend="Give each a value."
        )
    values: JsonObject = {}
    for name, spec in known.items():
        chosen = given.get(name)
        if chosen is not None:
            values[name] = as_kind(chosen, spec, where=f"parameters.{name}")
        elif spec.has_default:
            values[name] = spec.default
    return values


_EXAMPLES = {
    "STRING": "a text",
    "NUMBER_INTEGER": "a whole number",
    "NUMBER_DOUBLE": "a number",
    "BOOLEAN": "true or false",
    "LIST": "a list",
    "STRUCT": "an object",
}


def _check_inputs(root: Component, given: dict[str, ArtifactInput]) -> None:
    for name in given:
        if name not in root.input_artifacts:
            near = difflib.get_close_matches(name, root.input_artifacts, n=1)
            listed = f"Did you mean {near[0]!r}?" if near else f"It takes {', '.join(root.input_artifacts) or 'none'}."
            raise InvalidSpecError(f"the pipeline has no artifact input {name!r}", where=f"inputs.{name}", mend=listed)
    missing = [name for name, spec in root.input_artifacts.items() if not spec.optional and name not in given]
    if missing:
        raise InvalidSpecError(
            f"the pipeline needs the artifacts {', '.join(missing)}", where="inputs", mend="Give each one."
        )


def _known_artifact(transaction: Transaction, name: str, given: ArtifactInput, *, now_us: int) -> str:
    """The id of the artifact: that of an equal one if it is there, so that runs on the same data meet in the lineage
    graph.
    """
    same = find_artifact(transaction, kind=given.type, name=name, uri=given.uri, properties=given.metadata)
    if same is not None:
        return same
    record = artifact_record(given.type, name, given.uri, given.metadata, now_us=now_us)
    transaction.execute(artifacts.insert().values(**record))
    return str(record["id"])


@dataclass(frozen=True, slots=True)
class _Ended:
    """A task of the root as others see it."""

    state: RunState
    outputs: Values
    error: str | None


_NOT_BEGUN = _Ended(RunState.PENDING, Values(), None)


def _pipeline_of(transaction: Transaction, run_id: str) -> Pipeline:
    document = transaction.execute(select(runs.c.pipeline).where(runs.c.id == run_id)).scalar_one_or_none()
    if document is None:
        raise NotFoundError(f"there is no run {run_id}")
    return read_pipeline(document["pipeline_spec"])
