"""The engine: looks at the runs in the store, starts the steps whose inputs exist, and records what they gave. Level-
based.

What makes it safe to kill at any instruction:

- a step's end (state, outputs, artifacts, lineage) is one transaction; what follows from it (the next steps' start, the
  run's end) is in the same one or is found again at the next look;
- a step that the store calls running and that has no process here has lost it: it is started again in a fresh folder,
  and that counts as no failed attempt;
- a result for a task that is not running (any more) is thrown away.

Bounds: `parallelism` steps over all runs, given turn by turn to the run that has the fewest; per step those of
`Limits`.
"""

from __future__ import annotations

import shutil
from collections import Counter, deque
from pathlib import Path

import msgspec
from sqlalchemy import select, update

from goldenloop.core.clock import SECOND, Clock, to_text
from goldenloop.core.errors import GoldenloopError
from goldenloop.core.ids import digest_text, uuid7
from goldenloop.core.json import Json, JsonObject
from goldenloop.core.phases import RunState
from goldenloop.pipelines.executor import Executor, Limits, Outcome, StepRequest, StepResult, log_tail
from goldenloop.pipelines.placeholders import Surroundings, expand_words
from goldenloop.pipelines.plan import Decision, Plan, Step, StepOutputs, TaskView, Values, decide
from goldenloop.pipelines.python_step import match_python_step
from goldenloop.pipelines.runs import UNFINISHED, artifact_record, cancel_run, finished_steps
from goldenloop.pipelines.step_files import InputArtifact, StepFiles, executor_input, read_outputs
from goldenloop.standards.pipeline_ir import read_pipeline
from goldenloop.store.artifacts import Artifacts
from goldenloop.store.database import Database, Transaction, insert_ignoring
from goldenloop.store.tables import artifact_tasks, artifacts, runs, tasks

_LOSSES = 3  # how often a step may lose its process and start again before it is called failed
_CACHE_CANDIDATES = 5  # how many earlier results are looked at for one whose artifacts are still there


class _Run(msgspec.Struct, frozen=True, kw_only=True):
    """What of a run does not change while it goes on."""

    id: str
    namespace: str
    parameters: JsonObject
    artifacts: dict[str, str]  # ids of the inputs of the whole
    caching: bool
    facts: dict[str, str]
    plan: Plan


class _Flight(msgspec.Struct, frozen=True, kw_only=True):
    """A step that is to run, or runs."""

    request_id: str
    task_id: str
    run: _Run
    step: Step
    files: StepFiles
    parameters: JsonObject
    inputs: dict[str, InputArtifact]  # `path` is an address until the step is launched


class _Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a flight: outputs, or why there are none. `lost`: nobody knows; it is started again."""

    flight: _Flight
    parameters: JsonObject = {}
    records: dict[str, dict[str, Json]] = {}  # new artifact rows by port
    failure: str | None = None
    lost: bool = False


class _TaskRow(msgspec.Struct, frozen=True, kw_only=True):
    """A task's row, as far as it is needed to start it."""

    id: str
    attempt: int
    view: TaskView


class _Observed(msgspec.Struct, frozen=True, kw_only=True):
    """An unfinished run and what is due in it; a run without a plan has not begun."""

    id: str
    run: _Run | None = None
    rows: dict[str, _TaskRow] = {}
    decision: Decision = Decision()


class Engine:
    """See the module. One thread calls it, except `cancel` and `wake`, which any thread may call."""

    def __init__(
        self,
        database: Database,
        kept: Artifacts,
        executor: Executor,
        clock: Clock,
        *,
        folder: Path,
        parallelism: int,
        limits: Limits | None = None,
    ) -> None:
        self._database = database
        self._kept = kept
        self._executor = executor
        self._clock = clock
        self._folder = folder.absolute() / "runs"
        self._parallelism = parallelism
        self._limits = limits or Limits()
        self._flights: dict[str, _Flight] = {}  # by task id
        self._unrecorded: list[_Ended] = []
        self._losses: Counter[str] = Counter()
        self._runs: dict[str, _Run] = {}
        self._next_us: int | None = None
        self._sweep()

    def advance(self) -> bool:
        """Look once and do what is due; return whether anything moved. Raises UnavailableError where the database does
        not answer.
        """
        self._unrecorded += self._collect()
        for one in self._unrecorded:
            self._flights.pop(one.flight.task_id, None)
        if not self._unrecorded:
            with self._database.read() as transaction:
                observed = self._observe(transaction)
            self._end_strays({one.id for one in observed})
            if not any(self._is_due(one) for one in observed):
                return False
        with self._database.write() as transaction:
            for one in self._unrecorded:
                self._record(transaction, one)
            observed = self._observe(transaction)
            finished = [one.id for one in observed if self._settle(transaction, one)]
            launches, cached = self._start(transaction, observed)
        moved = bool(self._unrecorded or finished or launches or cached or any(one.run is None for one in observed))
        self._unrecorded = []
        for flight in launches:
            self._launch(flight)
        for run_id in finished:
            self._tidy(run_id)
        return moved

    def wait(self, seconds: float) -> None:
        """Return when a step has ended, a retry is due, `wake` is called, or the time is over."""
        if self._unrecorded:
            return
        if self._next_us is not None:
            seconds = min(seconds, max(0.0, (self._next_us - self._clock.now_us()) / SECOND))
        self._executor.wait(seconds)

    def wake(self) -> None:
        """Let a `wait` end: there may be a new run."""
        self._executor.wake()

    def cancel(self, run_id: str) -> bool:
        """End a run and its steps; return whether it was going on. Raises NotFoundError."""
        with self._database.write() as transaction:
            canceled = cancel_run(transaction, run_id, now_us=self._clock.now_us())
        self.wake()
        return canceled

    def log_path(self, run_id: str, step: str, attempt: int) -> Path:
        """Where the output of an attempt is kept; the first attempt is 1."""
        return StepFiles(self._folder / run_id / step, attempt).log

    def close(self) -> None:
        """End the steps' processes; what was running starts again with the next engine."""
        self._executor.close()

    # What has ended

    def _collect(self) -> list[_Ended]:
        """Take results and keep what the steps wrote; the store does not know it yet."""
        by_request = {flight.request_id: flight for flight in self._flights.values()}
        results = self._executor.poll()
        return [self._ended(by_request[result.id], result) for result in results if result.id in by_request]

    def _ended(self, flight: _Flight, result: StepResult) -> _Ended:
        name = flight.step.name
        if result.outcome is Outcome.LOST:
            self._losses[flight.task_id] += 1
            if self._losses[flight.task_id] <= _LOSSES:
                return _Ended(flight=flight, lost=True)
            return _Ended(flight=flight, failure=f"step {name!r} lost its process {_LOSSES + 1} times")
        if not result.succeeded:
            tail = log_tail(flight.files.log)
            said = f"; the end of its log:\n{tail}" if tail else "; its log is empty"
            return _Ended(flight=flight, failure=f"step {name!r} {result.describe()}{said}")
        try:
            parameters, written = read_outputs(flight.step, flight.files)
            now_us = self._clock.now_us()
            records = {
                port: artifact_record(output.type, port, output.keep(self._kept), output.metadata, now_us=now_us)
                for port, output in written.items()
            }
        except (GoldenloopError, OSError, ValueError) as error:
            return _Ended(flight=flight, failure=f"step {name!r} ended well, but not with its outputs: {error}")
        return _Ended(flight=flight, parameters=parameters, records=records)

    def _record(self, transaction: Transaction, ended: _Ended) -> None:
        """Write a step's end, once: only over a task that is running."""
        flight = ended.flight
        now_us = self._clock.now_us()
        if ended.lost:
            self._change_running(transaction, flight, {"state": RunState.PENDING.value})
        elif ended.failure is not None:
            row = transaction.execute(select(tasks.c.attempt).where(tasks.c.id == flight.task_id)).scalar_one()
            policy = flight.step.task.retry
            changes: dict[str, object] = {"attempt": row + 1, "error": ended.failure}
            if row < policy.retries:
                changes |= {"state": RunState.PENDING.value, "not_before_us": now_us + policy.pause_us(row + 1)}
            else:
                changes |= {"state": RunState.FAILED.value, "finished_us": now_us}
            self._change_running(transaction, flight, changes)
        else:
            outputs = StepOutputs(ended.parameters, {port: str(record["id"]) for port, record in ended.records.items()})
            if self._succeed(transaction, flight, outputs, new=list(ended.records.values())):
                self._losses.pop(flight.task_id, None)

    def _succeed(
        self,
        transaction: Transaction,
        flight: _Flight,
        outputs: StepOutputs,
        *,
        new: list[dict[str, Json]] | None = None,
    ) -> bool:
        changes = {
            "state": RunState.SUCCEEDED.value,
            "outputs": msgspec.to_builtins(outputs),
            "finished_us": self._clock.now_us(),
            "error": None,
        }
        if not self._change_running(transaction, flight, changes):
            return False
        if new:
            transaction.execute(artifacts.insert(), new)
        arrows = [("INPUT", port, artifact.id) for port, artifact in flight.inputs.items()]
        arrows += [("OUTPUT", port, identity) for port, identity in outputs.artifacts.items()]
        for direction, port, identity in arrows:
            values = {"task_id": flight.task_id, "direction": direction, "port": port, "artifact_id": identity}
            transaction.execute(insert_ignoring(transaction, artifact_tasks).values(**values))
        return True

    def _change_running(self, transaction: Transaction, flight: _Flight, changes: dict[str, object]) -> bool:
        where = (tasks.c.id == flight.task_id, tasks.c.state == RunState.RUNNING.value)
        return transaction.execute(update(tasks).where(*where).values(**changes)).rowcount == 1

    # What is due

    def _observe(self, transaction: Transaction) -> list[_Observed]:
        query = (
            select(runs.c.id, runs.c.state).where(runs.c.state.in_(UNFINISHED)).order_by(runs.c.created_us, runs.c.id)
        )
        found = [
            self._observe_run(transaction, row.id, RunState(row.state)) for row in transaction.execute(query).all()
        ]
        self._next_us = min((one.decision.next_us for one in found if one.decision.next_us is not None), default=None)
        return found

    def _observe_run(self, transaction: Transaction, run_id: str, state: RunState) -> _Observed:
        if state is RunState.PENDING:
            return _Observed(id=run_id)
        run = self._runs.get(run_id) or self._load(transaction, run_id)
        columns = (tasks.c.id, tasks.c.name, tasks.c.state, tasks.c.attempt, tasks.c.not_before_us, tasks.c.error)
        rows = {
            row.name: _TaskRow(
                id=row.id,
                attempt=row.attempt,
                view=TaskView(
                    state=RunState(row.state),
                    alive=row.id in self._flights,
                    not_before_us=row.not_before_us,
                    error=row.error,
                ),
            )
            for row in transaction.execute(select(*columns).where(tasks.c.run_id == run_id))
        }
        decision = decide(run.plan, {name: row.view for name, row in rows.items()}, now_us=self._clock.now_us())
        return _Observed(id=run_id, run=run, rows=rows, decision=decision)

    def _is_due(self, one: _Observed) -> bool:
        decision = one.decision
        startable = bool(decision.start) and len(self._flights) < self._parallelism
        return one.run is None or startable or bool(decision.skip) or decision.end is not None

    def _load(self, transaction: Transaction, run_id: str) -> _Run:
        row = transaction.execute(select(runs).where(runs.c.id == run_id)).one()
        created = to_text(row.created_us)
        run = _Run(
            id=run_id,
            namespace=row.namespace,
            parameters=row.parameters,
            artifacts={name: given["artifact_id"] for name, given in row.inputs.items()},
            caching=row.pipeline["caching"],
            facts={
                "pipeline_job_name": row.name,
                "pipeline_job_resource_name": row.name,
                "pipeline_job_uuid": run_id,
                "pipeline_job_create_time_utc": created,
                "pipeline_job_schedule_time_utc": created,
                "pipeline_root": str(self._folder / run_id),
            },
            plan=Plan(read_pipeline(row.pipeline["pipeline_spec"])),
        )
        self._runs[run_id] = run
        return run

    def _settle(self, transaction: Transaction, one: _Observed) -> bool:
        """Begin a run, skip what will never start, end a run; return whether it ended."""
        if one.run is None:
            return not self._begin(transaction, one.id)
        now_us = self._clock.now_us()
        skipped = [one.rows[name].id for name in one.decision.skip]
        if skipped:
            changes = {"state": RunState.SKIPPED.value, "finished_us": now_us}
            transaction.execute(update(tasks).where(tasks.c.id.in_(skipped)).values(**changes))
        if one.decision.end is None:
            return False
        self._end_run(transaction, one.id, one.decision.end, one.decision.error)
        return True

    def _begin(self, transaction: Transaction, run_id: str) -> bool:
        try:
            run = self._load(transaction, run_id)
        except GoldenloopError as error:  # written by another version of this program
            self._end_run(transaction, run_id, RunState.FAILED, str(error))
            return False
        rows = [
            {
                "id": uuid7(),
                "run_id": run_id,
                "name": name,
                "component": step.component.name,
                "state": RunState.PENDING.value,
                "attempt": 0,
            }
            for name, step in run.plan.steps.items()
        ]
        if rows:
            transaction.execute(tasks.insert(), rows)
        begun = {"state": RunState.RUNNING.value, "started_us": self._clock.now_us()}
        transaction.execute(update(runs).where(runs.c.id == run_id).values(**begun))
        return True

    def _end_run(self, transaction: Transaction, run_id: str, state: RunState, error: str | None) -> None:
        ended = {"state": state.value, "error": error, "finished_us": self._clock.now_us()}
        transaction.execute(update(runs).where(runs.c.id == run_id, runs.c.state.in_(UNFINISHED)).values(**ended))

    # Starting

    def _start(self, transaction: Transaction, observed: list[_Observed]) -> tuple[list[_Flight], int]:
        """Mark steps as running, as many as there is room for, or done where the cache knows them. Returns both counts'
        things.
        """
        waiting = {one.id: deque(one.decision.start) for one in observed if one.decision.start}
        by_id = {one.id: one for one in observed}
        busy = Counter(flight.run.id for flight in self._flights.values())
        free = self._parallelism - len(self._flights)
        values: dict[str, Values] = {}
        launches: list[_Flight] = []
        done_at_once = 0
        while waiting and free > 0:
            run_id = min(waiting, key=lambda identity: busy[identity])  # the first of equals is the oldest
            name = waiting[run_id].popleft()
            if not waiting[run_id]:
                del waiting[run_id]
            one = by_id[run_id]
            assert one.run is not None
            if run_id not in values:
                finished = finished_steps(transaction, run_id)
                values[run_id] = Values(one.run.plan, one.run.parameters, one.run.artifacts, finished, one.run.facts)
            flight = self._start_step(transaction, one.run, one.rows[name], one.run.plan.steps[name], values[run_id])
            if flight is None:
                done_at_once += 1
            else:
                launches.append(flight)
                free -= 1
                busy[run_id] += 1
        return launches, done_at_once

    def _start_step(
        self, transaction: Transaction, run: _Run, row: _TaskRow, step: Step, values: Values
    ) -> _Flight | None:
        """Return the flight of a step that is now marked as running; None where it ended at once: found in the cache,
        or not possible.
        """
        now_us = self._clock.now_us()
        started = {"state": RunState.RUNNING.value, "started_us": now_us}
        try:
            facts = {**run.facts, "pipeline_task_name": step.name, "pipeline_task_uuid": row.id}
            inside = Values(values.plan, values.parameters, values.artifacts, values.finished, facts)
            parameters, identities = inside.inputs(step.frame, step.task, step.component)
        except GoldenloopError as error:
            failed = {**started, "state": RunState.FAILED.value, "finished_us": now_us, "error": str(error)}
            transaction.execute(update(tasks).where(tasks.c.id == row.id).values(**failed))
            return None
        found = {
            artifact.id: artifact
            for artifact in transaction.execute(select(artifacts).where(artifacts.c.id.in_(identities.values())))
        }
        inputs = {
            port: InputArtifact(
                id=identity, type=found[identity].type, path=found[identity].uri, metadata=found[identity].properties
            )
            for port, identity in identities.items()
        }
        key = _cache_key(step, parameters, inputs)
        noted = {"parameters": parameters, "artifacts": identities}
        transaction.execute(
            update(tasks).where(tasks.c.id == row.id).values(**started, inputs=noted, cache_key=key, not_before_us=None)
        )
        flight = _Flight(
            request_id=f"{row.id}/{uuid7()}",
            task_id=row.id,
            run=run,
            step=step,
            files=StepFiles(self._folder / run.id / step.name, row.attempt + 1),
            parameters=parameters,
            inputs=inputs,
        )
        if run.caching and step.task.caching:
            hit = self._cached(transaction, run.namespace, key)
            if hit is not None:
                origin, outputs = hit
                transaction.execute(update(tasks).where(tasks.c.id == row.id).values(cached_from=origin))
                self._succeed(transaction, flight, outputs)
                return None
        return flight

    def _cached(self, transaction: Transaction, namespace: str, key: str) -> tuple[str, StepOutputs] | None:
        """An earlier execution of the same thing on the same inputs, if what it wrote is still there."""
        query = (
            select(tasks.c.id, tasks.c.outputs)
            .join(runs, runs.c.id == tasks.c.run_id)
            .where(
                tasks.c.cache_key == key,
                tasks.c.state == RunState.SUCCEEDED.value,
                tasks.c.cached_from.is_(None),
                runs.c.namespace == namespace,
            )
            .order_by(tasks.c.finished_us.desc())
            .limit(_CACHE_CANDIDATES)
        )
        for row in transaction.execute(query).all():
            outputs = StepOutputs(**row.outputs)
            wanted = select(artifacts.c.uri).where(artifacts.c.id.in_(outputs.artifacts.values()))
            addresses = transaction.execute(wanted).scalars().all()
            if all(self._kept.exists(uri) for uri in addresses if uri.startswith("artifact:")):
                return row.id, outputs
        return None

    def _launch(self, flight: _Flight) -> None:
        step = flight.step
        self._flights[flight.task_id] = flight
        try:
            flight.files.prepare()
            local = {
                port: InputArtifact(id=given.id, type=given.type, path=self._local(given.path), metadata=given.metadata)
                for port, given in flight.inputs.items()
            }
            told = executor_input(step, flight.files, flight.parameters, local)
            facts = {**flight.run.facts, "pipeline_task_name": step.name, "pipeline_task_uuid": flight.task_id}
            surroundings = Surroundings(executor_input=told, facts=facts)
            container = step.component.container
            assert container is not None
            request = StepRequest(
                id=flight.request_id,
                command=_without_source(container.command, surroundings, step.name),
                args=expand_words(container.args, surroundings, where=step.name),
                environment=container.environment,
                folder=str(flight.files.work),
                log=str(flight.files.log),
                limits=self._limits,
            )
            self._executor.submit(request)
        except (GoldenloopError, OSError) as error:
            failure = f"step {step.name!r} could not be started: {error}"
            self._unrecorded.append(_Ended(flight=flight, failure=failure))

    def _local(self, address: str) -> str:
        return str(self._kept.local(address)) if address.startswith("artifact:") else address

    # Tidying

    def _end_strays(self, unfinished: set[str]) -> None:
        """End the steps of runs that have been ended by somebody else; their results come and are thrown away."""
        for flight in self._flights.values():
            if flight.run.id not in unfinished:
                self._executor.cancel(flight.request_id)

    def _tidy(self, run_id: str) -> None:
        """Forget a run that has ended and remove its work folders; logs stay."""
        self._runs.pop(run_id, None)
        for work in (self._folder / run_id).glob("*/attempt-*/work"):
            shutil.rmtree(work, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove the work folders of runs that ended while nobody looked."""
        if not self._folder.is_dir():
            return
        with self._database.read() as transaction:
            unfinished = set(transaction.execute(select(runs.c.id).where(runs.c.state.in_(UNFINISHED))).scalars())
        for folder in self._folder.iterdir():
            if folder.name not in unfinished:
                self._tidy(folder.name)


def _without_source(command: tuple[str, ...], surroundings: Surroundings, where: str) -> tuple[str, ...]:
    """Expand a command, but not the source of a Python component: braces in somebody's code are not ours."""
    return command if match_python_step(command) is not None else expand_words(command, surroundings, where=where)


def _cache_key(step: Step, parameters: JsonObject, inputs: dict[str, InputArtifact]) -> str:
    """What decides a step's outputs: what it runs, and the values and contents that it gets."""
    container = step.component.container
    assert container is not None
    given = {port: [artifact.path, artifact.type, artifact.metadata] for port, artifact in inputs.items()}
    ports = {port: spec.type for port, spec in step.component.output_artifacts.items()}
    parts = (msgspec.to_builtins(container), parameters, given, ports, sorted(step.component.output_parameters))
    return digest_text(*(msgspec.json.encode(part, order="deterministic").decode() for part in parts))
