"""Pipelines of shell steps, written as specifications, and a world to run them in."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
from sqlalchemy import Row, select

from goldenloop.core.clock import Clock, SystemClock
from goldenloop.core.ids import uuid7
from goldenloop.core.json import Json, JsonObject
from goldenloop.pipelines.engine import Engine
from goldenloop.pipelines.executor import Executor, StepRequest
from goldenloop.pipelines.runs import UNFINISHED, ArtifactInput, RunRequest, insert_run
from goldenloop.store.artifacts import Artifacts
from goldenloop.store.database import Database, sqlite_url
from goldenloop.store.tables import metadata, runs, tasks

PATIENCE_SECONDS = 60.0


def step(
    script: str,
    *,
    takes: dict[str, JsonObject] | None = None,
    reads: dict[str, JsonObject] | None = None,
    gives: dict[str, str] | None = None,
    writes: dict[str, str] | None = None,
    after: tuple[str, ...] = (),
    cache: bool = False,
    retries: int = 0,
    words: tuple[str, ...] = (),
) -> JsonObject:
    """A task and its component in one. `takes` and `reads` bind parameters and artifacts, `gives` and `writes` name outputs by type."""
    return {
        "script": script,
        "takes": takes or {},
        "reads": reads or {},
        "gives": gives or {},
        "writes": writes or {},
        "after": list(after),
        "cache": cache,
        "retries": retries,
        "words": list(words),
    }


def pipeline(
    steps: dict[str, JsonObject],
    *,
    parameters: dict[str, JsonObject] | None = None,
    artifacts: dict[str, JsonObject] | None = None,
    outputs: JsonObject | None = None,
) -> JsonObject:
    """A specification of the steps. A step's words follow its script as $0, $1 …"""
    components: JsonObject = {}
    executors: JsonObject = {}
    listed: JsonObject = {}
    for name, content in steps.items():
        components[f"comp-{name}"] = {
            "executorLabel": f"exec-{name}",
            "inputDefinitions": {
                "parameters": {port: {"parameterType": "STRING"} for port in content["takes"]},
                "artifacts": {port: {"artifactType": {"schemaTitle": "system.Dataset"}} for port in content["reads"]},
            },
            "outputDefinitions": {
                "parameters": {port: {"parameterType": kind} for port, kind in content["gives"].items()},
                "artifacts": {
                    port: {"artifactType": {"schemaTitle": kind}} for port, kind in content["writes"].items()
                },
            },
        }
        command = ["sh", "-ec", content["script"]]
        executors[f"exec-{name}"] = {
            "container": {"image": "python:3.11", "command": command, "args": content["words"]}
        }
        listed[name] = {
            "componentRef": {"name": f"comp-{name}"},
            "inputs": {"parameters": content["takes"], "artifacts": content["reads"]},
            "dependentTasks": content["after"],
            "cachingOptions": {"enableCache": True} if content["cache"] else {},
            "retryPolicy": {"maxRetryCount": content["retries"], "backoffDuration": "0s"},
        }
    return {
        "schemaVersion": "2.1.0",
        "pipelineInfo": {"name": "small"},
        "components": components,
        "deploymentSpec": {"executors": executors},
        "root": {
            "dag": {"tasks": listed, "outputs": outputs or {}},
            "inputDefinitions": {"parameters": parameters or {}, "artifacts": artifacts or {}},
        },
    }


def constant(value: Json) -> JsonObject:
    return {"runtimeValue": {"constant": value}}


def parameter_of(task: str, port: str) -> JsonObject:
    return {"taskOutputParameter": {"producerTask": task, "outputParameterKey": port}}


def artifact_of(task: str, port: str) -> JsonObject:
    return {"taskOutputArtifact": {"producerTask": task, "outputArtifactKey": port}}


@dataclass
class World:
    """An engine and what it stands on."""

    folder: Path
    database: Database
    kept: Artifacts
    engine: Engine

    def ask(
        self, specification: JsonObject, *, cause_key: str | None = None, caching: bool = True, **more: Json
    ) -> str | None:
        parameters = more.get("parameters", {})
        inputs = more.get("inputs", {})
        platform = more.get("platform")
        priority = more.get("priority", 0)
        assert platform is None or isinstance(platform, dict)
        assert isinstance(priority, int)
        assert isinstance(parameters, dict)
        assert isinstance(inputs, dict)
        request = RunRequest(
            namespace="default",
            name="small-1",
            pipeline=specification,
            platform=platform,
            priority=priority,
            parameters=parameters,
            inputs={name: ArtifactInput(uri=str(uri), type="system.Dataset") for name, uri in inputs.items()},
            cause_key=cause_key,
            caching=caching,
        )
        with self.database.write() as transaction:
            return insert_run(transaction, request, now_us=time.time_ns() // 1_000)

    def finish(self, *run_ids: str) -> None:
        """Turn the engine until these runs have ended."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while any(self.run(run_id).state in UNFINISHED for run_id in run_ids):
            while self.engine.advance():
                pass
            assert time.monotonic() < deadline, "the runs did not end"
            self.engine.wait(0.2)

    def go(self, specification: JsonObject, **more: Json) -> str:
        run_id = self.ask(specification, **more)  # type: ignore[arg-type]
        assert run_id is not None
        self.finish(run_id)
        return run_id

    def run(self, run_id: str) -> Row[tuple[object, ...]]:
        with self.database.read() as transaction:
            return transaction.execute(select(runs).where(runs.c.id == run_id)).one()

    def tasks(self, run_id: str) -> dict[str, Row[tuple[object, ...]]]:
        with self.database.read() as transaction:
            return {row.name: row for row in transaction.execute(select(tasks).where(tasks.c.run_id == run_id))}


def make_world(folder: Path, executor: Executor, *, parallelism: int = 4, clock: Clock | None = None) -> World:
    database = Database(sqlite_url(folder / "state.db"))
    with database.engine.begin() as connection:
        metadata.create_all(connection)
    kept = Artifacts(str(folder / "artifacts"), cache=folder / "cache")
    engine = Engine(database, kept, executor, clock or SystemClock(), folder=folder, parallelism=parallelism)
    return World(folder, database, kept, engine)


def request_of(component: object, folder: Path, name: str) -> StepRequest:
    """The request of a kfp component's step, as the engine makes it."""
    container = component.component_spec.implementation.container  # type: ignore[attr-defined]
    identity = uuid7()
    work = folder / identity
    work.mkdir()
    told = {"inputs": {}, "outputs": {"outputFile": str(work / "out.json")}}
    return StepRequest(
        id=identity,
        command=tuple(container.command),
        args=("--executor_input", msgspec.json.encode(told).decode(), "--function_to_execute", name),
        environment={"COLOUR": "green"},
        folder=str(work),
        log=str(folder / f"{identity}.log"),
    )
