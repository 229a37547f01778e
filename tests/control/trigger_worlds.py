"""A small world for schedules and triggers: a database, a clock that is moved by hand, and a pipeline in the catalog."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import select, update

from goldenloop.control.causes import TRIGGER, TriggerView
from goldenloop.control.schedules import Schedules
from goldenloop.control.triggers import Triggers
from goldenloop.control.world import World
from goldenloop.core.clock import VirtualClock, from_text
from goldenloop.core.json import JsonObject
from goldenloop.pipelines.catalog import Label, create_pipeline, create_version
from goldenloop.pipelines.runs import UNFINISHED
from goldenloop.standards.kfp_packages import Package
from goldenloop.store import resources
from goldenloop.store.database import Database
from goldenloop.store.tables import decisions, runs

NOON = from_text("2026-01-31T12:00:00Z")
_STEP = {"container": {"image": "python:3.11", "command": ["true"], "args": []}}
PIPELINE: JsonObject = {
    "schemaVersion": "2.1.0",
    "pipelineInfo": {"name": "train"},
    "root": {
        "dag": {"tasks": {"fit": {"taskInfo": {"name": "fit"}, "componentRef": {"name": "comp-fit"}}}},
        "inputDefinitions": {
            "parameters": {
                "text": {"parameterType": "STRING", "defaultValue": "", "isOptional": True},
                "paths": {"parameterType": "LIST", "isOptional": True},
            }
        },
    },
    "components": {"comp-fit": {"executorLabel": "exec-fit"}},
    "deploymentSpec": {"executors": {"exec-fit": _STEP}},
}


class TriggerWorld:
    """What a test sees of it. `again` is a control process that was killed and started anew."""

    def __init__(self, database_url: str) -> None:
        self.clock = VirtualClock(NOON)
        self.database = Database(database_url)
        self.database.migrate()
        nothing = cast(Any, None)  # neither schedules nor triggers touch the rest
        self.world = World(
            database=self.database,
            artifacts=nothing,
            clock=self.clock,
            runs=nothing,
            jobs=nothing,
            analyst=nothing,
            router=nothing,
        )
        with self.database.write() as transaction:
            made = create_pipeline(transaction, Label(name="train"), namespace="default", now_us=NOON)
            create_version(transaction, made.id, Label(name="v1"), Package(pipeline=PIPELINE), now_us=NOON)
        self.pipeline_id = made.id
        self.again()

    def again(self) -> None:
        self.schedules = Schedules(self.world)
        self.triggers = Triggers(self.world)

    def advance(self, by_us: int = 0) -> None:
        """Let time pass, and look until nothing moves."""
        self.clock.advance(by_us)
        for _ in range(100):
            if not (self.schedules.advance() | self.triggers.advance()):
                return
        raise AssertionError("it does not come to rest")

    def apply(self, name: str, spec: JsonObject) -> TriggerView:
        with self.database.write() as transaction:
            document: JsonObject = {"metadata": {"name": name}, "spec": {"pipeline": "train", **spec}}
            made = resources.create(transaction, TRIGGER, "default", document, now_us=self.clock.now_us())
        view = TriggerView.of(made)
        assert view is not None
        return view

    def delete(self, name: str) -> None:
        with self.database.write() as transaction:
            resources.remove(transaction, TRIGGER, "default", name)

    def status(self, name: str) -> JsonObject:
        with self.database.read() as transaction:
            status = resources.get(transaction, TRIGGER, "default", name)["status"]
        assert isinstance(status, dict)
        return status

    def runs(self) -> list[Any]:
        """Rows of all runs, in the order in which they were made."""
        with self.database.read() as transaction:
            return list(transaction.execute(select(runs).order_by(runs.c.created_us, runs.c.id)))

    def decisions(self) -> list[tuple[str, bool, str]]:
        """Of each cause: what it was, whether a run came of it, and why."""
        with self.database.read() as transaction:
            rows = transaction.execute(select(decisions).order_by(decisions.c.id)).all()
        return [(row.evidence["text"], row.fired, row.reason) for row in rows]

    def finish(self, state: str = "SUCCEEDED") -> None:
        """End every run that goes on."""
        with self.database.write() as transaction:
            ended = {"state": state, "finished_us": self.clock.now_us()}
            transaction.execute(update(runs).where(runs.c.state.in_(UNFINISHED)).values(**ended))
