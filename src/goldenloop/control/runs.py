"""From a cause to a run, and from a run to a verdict.

    decision that fired ──prepare──▶ run ──(engine)──▶ run ended ──assess──▶ version, verdict ──▶ golden, rollout or refusal

Each arrow ends in one transaction, and each step is asked for again after a crash, so a cause leads to one run (its key is unique) and a
run to one version (registered by its id), whatever dies in between.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from sqlalchemy import select, update
from sqlalchemy.engine import RowMapping

from goldenloop.control.admitting import admit, await_approval
from goldenloop.control.environments import keep_lock
from goldenloop.control.graphing import keep_version
from goldenloop.control.memory import LoopMemory, MonitorMemory
from goldenloop.control.progress import MEMORY, MONITORS, set_back
from goldenloop.control.view import LoopView
from goldenloop.control.watching import watched
from goldenloop.control.work.records import Assessed, Assessment, Preparation, Prepared
from goldenloop.control.world import Storyteller, World
from goldenloop.core.durations import parse_duration
from goldenloop.core.errors import GoldenloopError, UnavailableError
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import RunState, Verdict, VersionState
from goldenloop.features.schema import Schema
from goldenloop.monitors.analyst import Span
from goldenloop.monitors.reference import Reference
from goldenloop.pipelines.runs import ArtifactInput, RunRequest, find_model, insert_run, model_file, outputs
from goldenloop.pipelines.standard import auto_code, load_auto
from goldenloop.registry import versions
from goldenloop.registry.versions import Evaluation, ModelVersion, NewVersion
from goldenloop.standards.loop import PipelineSource
from goldenloop.standards.pipeline_ir import read_pipeline
from goldenloop.store import memories
from goldenloop.store.database import Transaction, insert_ignoring
from goldenloop.store.tables import decisions, runs


def ask_for_run(
    transaction: Transaction, view: LoopView, *, key: str, kind: str, text: str, event_us: int, now_us: int
) -> bool:
    """Record that a run is wanted for a cause that no trigger found: the first version, or a person. Whether it is a new cause."""
    query = select(decisions.c.id).where(decisions.c.cause_key == key)
    if transaction.execute(query).first() is not None:
        return False
    values = {
        "namespace": view.namespace,
        "loop": view.name,
        "cause_key": key,
        "fired": True,
        "reason": text,
        "evidence": {"kind": kind, "text": text},
        "settled": False,
        "event_us": event_us,
        "created_us": now_us,
    }
    return transaction.execute(insert_ignoring(transaction, decisions).values(**values)).rowcount > 0


def under_way(transaction: Transaction, view: LoopView) -> str:
    """What is going on between a cause and its verdict, in words; "" where nothing is."""
    waiting = select(decisions.c.reason).where(
        decisions.c.namespace == view.namespace,
        decisions.c.loop == view.name,
        decisions.c.fired,
        decisions.c.settled.is_(False),
    )
    if transaction.execute(waiting).first() is not None:
        return "preparing a run"
    going = select(runs.c.id).where(
        runs.c.namespace == view.namespace, runs.c.loop == view.name, runs.c.settled.is_(False)
    )
    row = transaction.execute(going).first()
    return "" if row is None else f"run {row.id}"


def never_began(transaction: Transaction, view: LoopView) -> str:
    """Why the first version of a loop was not even tried, as of the last attempt; "" where it was, or is waited for."""
    query = (
        select(decisions.c.run_id, decisions.c.settled, decisions.c.evidence)
        .where(decisions.c.cause_key.like(f"{view.uid}/%"), decisions.c.fired)
        .order_by(decisions.c.id.desc())
    )
    row = transaction.execute(query).first()
    return "" if row is None or row.run_id is not None else str(row.evidence.get("failed", ""))


class RunReconciler:
    """Moves one loop's causes and runs on by one look."""

    def __init__(self, world: World, view: LoopView) -> None:
        self._world = world
        self._view = view

    def advance(self) -> bool:
        """Start what is wanted, settle what has ended; whether something moved."""
        return self._launch() or self._settle()

    # cause → run

    def _launch(self) -> bool:
        with self._world.database.read() as transaction:
            query = (
                select(decisions)
                .where(
                    decisions.c.namespace == self._view.namespace,
                    decisions.c.loop == self._view.name,
                    decisions.c.fired,
                    decisions.c.settled.is_(False),
                )
                .order_by(decisions.c.id)
            )
            decision = transaction.execute(query).mappings().first()
            memory = self._memory(transaction)
            champion = versions.golden(transaction, self._view.namespace, self._view.name)
        if decision is None:
            return False
        key = f"prepare/{decision['cause_key']}"
        result = self._world.jobs.result(key, "prepare", self._preparation(decision, memory, key))
        if result is None:
            return False
        if isinstance(result, GoldenloopError):
            self._give_up(decision, f"the data could not be prepared: {result}")
            self._world.jobs.forget(key)
            return True
        prepared = msgspec.json.decode(result, type=Prepared)
        try:
            self._start(decision, prepared, memory, None if champion is None else champion.folder)
        except UnavailableError:
            raise
        except GoldenloopError as error:
            self._give_up(decision, f"the run could not be started: {error}")
        self._world.jobs.forget(key)
        return True

    def _preparation(self, decision: RowMapping, memory: LoopMemory | None, key: str) -> Preparation:
        spec = self._view.spec
        known = memory is not None and memory.grid is not None
        logged = self._logged_rows(memory, decision["event_us"], key) if known and memory is not None else None
        return Preparation(
            source=spec.data.source,
            label=spec.data.label,
            timestamp=spec.data.timestamp,
            subject=spec.data.subject,
            protected=spec.data.protected,
            task=spec.task,
            metric=spec.metric,
            window=spec.data.window,
            windows_size=spec.windows.size,
            schema=None if memory is None else msgspec.convert(memory.data_schema, Schema),
            logged=logged,
            until_us=decision["event_us"] if known else None,
        )

    def _logged_rows(self, memory: LoopMemory, until_us: int, key: str) -> str | None:
        """Write the labelled rows that were logged, as far as the loop's window reaches back."""
        window = self._view.spec.data.window
        path = self._world.jobs.folder(key).with_suffix(".logged.parquet")
        if path.exists():
            return str(path)
        span = Span(
            namespace=self._view.namespace,
            service=self._view.name,
            start_us=0 if window == "all" else until_us - parse_duration(window),
            end_us=until_us,
            as_of_us=until_us,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._world.database.read() as transaction:
            monitors = memories.recall(transaction, self._view.namespace, self._view.name, MONITORS, MonitorMemory)
        broken = () if monitors is None else monitors.broken
        return self._world.analyst.training_rows(span, memory.label, memory.timestamp, str(path), broken).path

    def _start(self, decision: RowMapping, prepared: Prepared, memory: LoopMemory | None, champion: str | None) -> None:
        """Insert the run. Cause, run and first memory are one transaction."""
        world, view = self._world, self._view
        source = view.spec.pipeline if isinstance(view.spec.pipeline, PipelineSource) else PipelineSource()
        ir = source.ir if source.ir is not None else load_auto()
        root = read_pipeline(ir).root
        offered: dict[str, ArtifactInput] = {
            "data": ArtifactInput(uri=world.artifacts.put(Path(prepared.data)), type="system.Dataset"),
            "evaluation_data": ArtifactInput(uri=world.artifacts.put(Path(prepared.evaluation)), type="system.Dataset"),
        }
        history = None if prepared.history is None else world.artifacts.put(Path(prepared.history))
        if champion is not None:
            offered["champion"] = ArtifactInput(uri=champion, type="system.Model")
        parameters: JsonObject = {"label": prepared.label, "timestamp": prepared.timestamp, "task": prepared.task}
        request = RunRequest(
            namespace=view.namespace,
            name=f"{view.name}-{decision['evidence']['kind']}",
            loop=view.name,
            pipeline=ir,
            platform=source.platform,
            parameters={
                **{name: value for name, value in parameters.items() if name in root.input_parameters},
                **source.parameters,
            },
            inputs={name: artifact for name, artifact in offered.items() if name in root.input_artifacts},
            cause={
                **decision["evidence"],
                "key": decision["cause_key"],
                "data": {name: artifact.uri for name, artifact in offered.items()},
                "history": history,
                "dataVersion": prepared.data_version,
                "schema": msgspec.to_builtins(prepared.schema),
                "trainedUntil": prepared.trained_until_us,
            },
            cause_key=decision["cause_key"],
            code={
                **(source.code if source.ir is not None else auto_code()),
                "environment": keep_lock(world.artifacts),
            },
            event_us=decision["event_us"],
        )
        now_us = world.clock.now_us()
        with world.database.write() as transaction:
            run_id = insert_run(transaction, request, now_us=now_us)
            transaction.execute(
                update(decisions).where(decisions.c.id == decision["id"]).values(settled=True, run_id=run_id)
            )
            memory = memory or LoopMemory(
                uid=view.uid,
                task=prepared.task,
                metric=prepared.metric,
                label=prepared.label,
                timestamp=prepared.timestamp,
                data_schema=msgspec.to_builtins(prepared.schema),
                choices=prepared.choices,
                size=prepared.size,
            )
            memories.remember(transaction, view.namespace, view.name, MEMORY, memory)
            if run_id is not None:
                rows = prepared.data_version["rows"]
                story = Storyteller(transaction, view.namespace, view.name, self._moment(decision, prepared), now_us)
                story.tell("Run", f"run {run_id} trains on {rows} rows: {decision['reason']}", run=run_id, rows=rows)

    def _give_up(self, decision: RowMapping, why: str) -> None:
        world, view = self._world, self._view
        with world.database.write() as transaction:
            evidence = {**decision["evidence"], "failed": why}
            transaction.execute(
                update(decisions).where(decisions.c.id == decision["id"]).values(settled=True, evidence=evidence)
            )
            self._remember_failure(transaction, why, decision["event_us"])
            story = Storyteller(transaction, view.namespace, view.name, decision["event_us"], world.clock.now_us())
            story.tell("RunFailed", f"{why}; the champion stays", cause=decision["cause_key"])

    # run → verdict

    def _settle(self) -> bool:
        ended = [state.value for state in (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELED)]
        with self._world.database.read() as transaction:
            query = (
                select(runs)
                .where(
                    runs.c.namespace == self._view.namespace,
                    runs.c.loop == self._view.name,
                    runs.c.settled.is_(False),
                    runs.c.state.in_(ended),
                )
                .order_by(runs.c.created_us)
            )
            run = transaction.execute(query).mappings().first()
            memory = self._memory(transaction)
            champion = versions.golden(transaction, self._view.namespace, self._view.name)
            model = (
                find_model(transaction, run["id"]) if run is not None and run["state"] == RunState.SUCCEEDED else None
            )
            made = [] if run is None else outputs(transaction, run["id"])
        if run is None or memory is None:
            return False
        if run["state"] != RunState.SUCCEEDED:
            self._fail(run, f"run {run['id']} {run['state'].lower()}: {run['error'] or 'cancelled'}")
            return True
        if model is None:
            self._fail(run, f"run {run['id']} gave no model: name one output `model`, or have only one of type Model")
            return True
        key = f"assess/{run['id']}"
        try:
            request = self._assessment(run, memory, model.uri, None if champion is None else champion.folder)
        except UnavailableError:
            raise
        except GoldenloopError as error:
            self._fail(run, f"the model of run {run['id']} cannot be assessed: {error}")
            return True
        result = self._world.jobs.result(key, "assess", request)
        if result is None:
            return False
        if isinstance(result, GoldenloopError):
            self._fail(run, f"the model of run {run['id']} cannot be served: {result}")
        else:
            logged: JsonObject = {output.port: output.properties for output in made if output.type == "system.Metrics"}
            self._register(run, memory, model.artifact_id, msgspec.json.decode(result, type=Assessed), logged)
        self._world.jobs.forget(key)
        return True

    def _assessment(self, run: RowMapping, memory: LoopMemory, model: str, champion: str | None) -> Assessment:
        local, cause = self._world.artifacts.local, run["cause"]
        history, window = cause["history"], self._view.spec.data.window
        return Assessment(
            model=str(model_file(self._world.artifacts, model)),
            data=str(local(cause["data"]["data"])),
            evaluation=str(local(cause["data"]["evaluation_data"])),
            history=None if history is None or champion is not None else str(local(history)),
            schema=msgspec.convert(cause["schema"], Schema),
            size=memory.size,
            span_us=None if window == "all" else parse_duration(window),
            champion=None if champion is None else str(local(champion)),
            margin=self._view.spec.rollout.margin,
            protected=self._view.spec.data.protected,
            judging=self._view.spec.evaluation,
            custom=tuple(each for each in watched(self._view, ()) if each.type == "custom"),
        )

    def _register(
        self, run: RowMapping, memory: LoopMemory, artifact_id: str, found: Assessed, logged: JsonObject
    ) -> None:
        world, view = self._world, self._view
        if found.conversion.get("runtime") == "process":
            world.sign(Path(found.folder))  # the run has ended: nothing of it can change the model any more
        folder = world.artifacts.put(Path(found.folder))
        reference = msgspec.json.decode((Path(found.folder) / "reference.json").read_bytes(), type=Reference)
        now_us = world.clock.now_us()
        event_us = self._now(memory, run)
        with world.database.write() as transaction:
            champion = versions.golden(transaction, view.namespace, view.name)
            version = versions.register(
                transaction,
                NewVersion(
                    namespace=view.namespace,
                    model=view.name,
                    run_id=run["id"],
                    artifact_id=artifact_id,
                    digest=found.digest,
                    folder=folder,
                    signature=found.signature,
                    metrics={**found.metrics, "logged": logged},
                    conversion=found.conversion,
                    data_version=run["cause"]["dataVersion"],
                    code_version=run["code"],
                    trained_until_us=run["cause"]["trainedUntil"],
                ),
                now_us=now_us,
            )
            if world.attestor is not None:
                world.attestor.sign(transaction, version, now_us=now_us)
            versions.record_evaluation(
                transaction,
                Evaluation(
                    namespace=view.namespace,
                    model=view.name,
                    challenger=version.number,
                    champion=None if champion is None else champion.number,
                    verdict=found.verdict,
                    reason=found.reason,
                    evidence=found.evidence,
                    decided_by="gate",
                ),
                now_us=now_us,
            )
            keep_version(transaction, version, found.verdict, found.reason, now_us=now_us)
            transaction.execute(update(runs).where(runs.c.id == run["id"]).values(settled=True))
            story = Storyteller(transaction, view.namespace, view.name, event_us, now_us)
            memory = msgspec.structs.replace(
                memory, trained_until_us=self._trained_until(run, memory), failed="", refused_us=memory.refused_us
            )
            facts = {"version": version.number, "run": run["id"]}
            if found.verdict is not Verdict.PASS:
                versions.move(transaction, version, VersionState.REFUSED)
                story.tell("Refused", f"version {version.number} is refused: {found.reason}", **facts)
                memory = set_back(memory, found.reason, event_us)
            else:
                memory = self._go_on(story, memory, version, champion, reference, reason=found.reason)
            memories.remember(transaction, view.namespace, view.name, MEMORY, memory)

    def _go_on(
        self,
        story: Storyteller,
        memory: LoopMemory,
        version: ModelVersion,
        champion: ModelVersion | None,
        reference: Reference,
        *,
        reason: str,
    ) -> LoopMemory:
        """What a version that passed the gate leads to: a person is asked first, where the Loop wants it."""
        if self._view.spec.approval == "required" and self._world.has_people:
            await_approval(story, version, reason=reason)
            return memory
        version = versions.move(story.transaction, version, VersionState.BLESSED)
        story.tell(
            "Blessed", f"version {version.number} is blessed: {reason}", version=version.number, run=version.run_id
        )
        return admit(story, self._world, self._view, memory, version=version, champion=champion, reference=reference)

    def _fail(self, run: RowMapping, why: str) -> None:
        world, view = self._world, self._view
        with world.database.write() as transaction:
            transaction.execute(update(runs).where(runs.c.id == run["id"]).values(settled=True))
            memory = self._memory(transaction)
            event_us = run["event_us"] if memory is None else self._now(memory, run)
            self._remember_failure(transaction, why, event_us)
            story = Storyteller(transaction, view.namespace, view.name, event_us, world.clock.now_us())
            story.tell("RunFailed", f"{why}; the champion stays", run=run["id"])

    def _remember_failure(self, transaction: Transaction, why: str, event_us: int) -> None:
        memory = self._memory(transaction)
        if memory is not None:
            memory = set_back(memory, why, event_us)
            memories.remember(transaction, self._view.namespace, self._view.name, MEMORY, memory)

    def _memory(self, transaction: Transaction) -> LoopMemory | None:
        memory = memories.recall(transaction, self._view.namespace, self._view.name, MEMORY, LoopMemory)
        return memory if memory is not None and memory.uid == self._view.uid else None

    def _now(self, memory: LoopMemory, run: RowMapping) -> int:
        """The loop's own time: its last tick, or before the first one the end of the data that the run was given."""
        if memory.tick_us is not None:
            return memory.tick_us
        until = run["cause"]["trainedUntil"]
        return int(until if self._view.spec.replay and until is not None else run["event_us"])

    def _moment(self, decision: RowMapping, prepared: Prepared) -> int:
        if self._view.spec.replay and decision["evidence"]["kind"] == "first" and prepared.trained_until_us is not None:
            return prepared.trained_until_us
        return int(decision["event_us"])

    def _trained_until(self, run: RowMapping, memory: LoopMemory) -> int | None:
        """Labels that came after this moment are new."""
        until = run["cause"]["trainedUntil"]
        if memory.tick_us is not None:
            return int(run["event_us"])
        return None if until is None else int(until)
