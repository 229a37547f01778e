"""Making a version again: the run that made it is run once more, and both models answer the same rows.

What a run is given lies in the artifact store under its digest, so the data are the same bytes or they are not there; a file that was
changed in place is found before anything runs. The second run belongs to no loop: nothing follows from it, and no version is registered.
"""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
from sqlalchemy import select, update
from sqlalchemy.engine import RowMapping

from goldenloop.control.apart import work_apart
from goldenloop.control.environments import differences, keep_lock
from goldenloop.control.home import Home
from goldenloop.control.work.records import Remade, Remaking
from goldenloop.control.world import World
from goldenloop.core.errors import ConflictError, GoldenloopError, InvalidSpecError, NotFoundError
from goldenloop.core.json import Json, JsonObject
from goldenloop.core.phases import RunState
from goldenloop.features.schema import Schema
from goldenloop.pipelines.runs import ArtifactInput, RunRequest, find_model, insert_run, model_file
from goldenloop.registry import versions
from goldenloop.registry.versions import ModelVersion
from goldenloop.store.artifacts import Artifacts
from goldenloop.store.tables import artifacts as artifact_table
from goldenloop.store.tables import runs

KIND = "reproduce"
METRIC_TOLERANCE = 1e-6
_COMPARE_SECONDS = 80.0  # a client waits for 90


def ask(world: World, namespace: str, model: str, number: int) -> JsonObject:
    """Start the run that makes a version again; return its id.

    Raises NotFoundError for a version that is not there and for data that are gone, InvalidSpecError for a version that no run of a loop
    here made, ConflictError for data that are not what the run was given.
    """
    with world.database.read() as transaction:
        version = versions.get(transaction, namespace, model, number)
        run = _run_of(transaction.execute(select(runs).where(runs.c.id == version.run_id)).mappings().first(), version)
    given = {name: msgspec.convert(_known(each), ArtifactInput) for name, each in run["inputs"].items()}
    for name, artifact in {**run["cause"]["data"], **{name: each.uri for name, each in given.items()}}.items():
        check_kept(world.artifacts, name, artifact)
    request = RunRequest(
        namespace=namespace,
        name=f"{model}-{number}-again",
        pipeline=run["pipeline"]["pipeline_spec"],
        platform=run["pipeline"]["platform_spec"],
        parameters=run["parameters"],
        inputs=given,
        cause={
            "kind": KIND,
            "text": f"version {number} of {model} is made again",
            "model": model,
            "version": number,
            "run": version.run_id,
        },
        code={**run["code"], "environment": keep_lock(world.artifacts)},
        event_us=run["event_us"],
        caching=False,  # what a step did then is what is to be seen again
    )
    with world.database.write() as transaction:
        again = insert_run(transaction, request, now_us=world.clock.now_us())
        transaction.execute(update(runs).where(runs.c.id == again).values(settled=True))
    return {"run": again, "of": version.run_id}


def report(world: World, home: Home, identity: str) -> JsonObject:
    """How far the second run came, and once it has ended what is equal. Raises NotFoundError where it is no run that reproduces."""
    with world.database.read() as transaction:
        again = transaction.execute(select(runs).where(runs.c.id == identity)).mappings().first()
        if again is None or again["cause"].get("kind") != KIND:
            raise NotFoundError(f"{identity!r} is no run that makes a version again", mend="See: goldenloop reproduce.")
        cause = again["cause"]
        version = versions.get(transaction, again["namespace"], cause["model"], cause["version"])
        before = _run_of(
            transaction.execute(select(runs).where(runs.c.id == version.run_id)).mappings().first(), version
        )
        ended = again["state"] == RunState.SUCCEEDED
        model = find_model(transaction, identity) if ended else None
        query = select(artifact_table.c.digest).where(artifact_table.c.id == version.artifact_id)
        digest = transaction.scalar(query)
    told: JsonObject = {
        "model": version.model,
        "version": version.number,
        "run": identity,
        "of": version.run_id,
        "state": again["state"],
        "environment": _environment(world.artifacts, before["code"]),
    }
    if not ended or model is None:
        over = again["state"] in (RunState.FAILED, RunState.CANCELED) or ended
        why = again["error"] or ("it gave no model" if ended else "cancelled")
        return {**told, "ended": over, "reproduced": False, "why": [f"the second run came to nothing: {why}"]}
    data = before["cause"]["data"]
    request = Remaking(
        served=str(world.artifacts.local(version.folder)),
        model=str(model_file(world.artifacts, model.uri)),
        data=str(check_kept(world.artifacts, "data", data["data"])),
        evaluation=str(check_kept(world.artifacts, "evaluation_data", data["evaluation_data"])),
        schema=msgspec.convert(before["cause"]["schema"], Schema),
    )
    try:
        made = work_apart("remake", request, Remade, home, seconds=_COMPARE_SECONDS)
    except GoldenloopError as error:
        return {**told, "ended": True, "reproduced": False, "why": [f"the models cannot be compared: {error}"]}
    return {**told, "ended": True, **_compared(version, made, digest == model.digest)}


def check_kept(artifacts: Artifacts, name: str, address: str) -> Path:
    """The file that was given to a run. Raises NotFoundError where it is gone, ConflictError where its content is another one."""
    try:
        path = artifacts.local(address)
    except NotFoundError:
        raise NotFoundError(
            f"what the run was given as {name!r} is not kept any more",
            where=address,
            mend="Put the file back from a copy of the artifact folder; nothing else can make this version again.",
        ) from None
    damaged = artifacts.damaged(address)
    if damaged:
        raise ConflictError(
            f"what the run was given as {name!r} was changed since",
            where=str(path),
            mend="Put the file back from a copy of the artifact folder.",
        )
    return path


def _compared(version: ModelVersion, made: Remade, same_file: bool) -> JsonObject:
    recorded = version.data_version.get("columns")
    recorded = recorded if isinstance(recorded, dict) else {}
    moved: list[Json] = [name for name in sorted(recorded) if recorded[name] != made.columns.get(name)]
    metrics: JsonObject = {}
    unequal = []
    for name, before in made.metrics_before.items():
        after = made.metrics.get(name)
        equal = before == after or (
            before is not None and after is not None and math.isclose(before, after, abs_tol=METRIC_TOLERANCE)
        )
        metrics[name] = {"before": before, "again": after, "equal": equal}
        unequal += [] if equal else [name]
    same_form = made.digest == version.digest
    why: list[Json] = []
    if moved:
        why.append(f"the training data moved: columns {', '.join(map(str, moved))} are not what was recorded")
    if made.alike < made.rows:
        why.append(f"{made.rows - made.alike} of {made.rows} evaluation rows are answered otherwise")
    if unequal:
        why.append(f"metrics differ: {', '.join(unequal)}")
    return {
        "reproduced": not why,
        "why": why,
        "data": {"equal": not moved, "columns": len(made.columns), "moved": moved},
        "modelFile": {"equal": same_file},
        "servedForm": {"equal": same_form, "before": version.digest, "again": made.digest},
        "metrics": metrics,
        "answers": {"rows": made.rows, "alike": made.alike, "farthest": made.farthest},
    }


def _environment(artifacts: Artifacts, code: JsonObject) -> JsonObject:
    told = differences(artifacts, code.get("environment"))
    if told is None:
        return {"equal": None, "differences": [], "note": "the environment of the first run is not on record"}
    shown: list[Json] = list(told)
    return {"equal": not told, "differences": shown, "note": ""}


def _run_of(run: RowMapping | None, version: ModelVersion) -> RowMapping:
    """The run that made a version. Raises InvalidSpecError where no run of a loop here did."""
    if run is None or "data" not in run["cause"]:
        raise InvalidSpecError(
            f"version {version.number} of {version.model!r} was made by no run of a loop of this installation",
            where="VERSION",
            mend="What was registered from elsewhere is made again where it came from.",
        )
    return run


def _known(given: JsonObject) -> JsonObject:
    return {name: given[name] for name in ("uri", "type", "metadata")}
