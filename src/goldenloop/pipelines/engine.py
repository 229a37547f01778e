"""The engine: starts the steps whose inputs exist, and records what they gave.

A run is a `Tree`, noted in the database by a `StoreBook`. What makes it safe to kill at any instruction:

- a step's end (state, outputs, artifacts, lineage) and all that follows from it (the next steps' start, the end of what
  holds it, the run's end) is one transaction;
- trees in memory are what the database says: one that may differ, because a transaction failed or somebody else changed
  the run, is dropped and made again from it;
- a step that the database calls running and that has no process here has lost it: it is started again in a fresh
  folder, and that counts as no failed attempt;
- a result for an attempt that is not the present one of a running step is thrown away.

Bounds: `parallelism` steps over all runs, given turn by turn to the run that has the fewest among those of the highest
priority; as many runs as `_OPEN_RUNS` are under way at once; per step those of `Limits`.
"""

from __future__ import annotations

import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from sqlalchemy import select, update

from goldenloop.core.clock import SECOND, Clock
from goldenloop.core.errors import GoldenloopError, UnavailableError
from goldenloop.core.phases import RunState
from goldenloop.pipelines.book import StoreBook
from goldenloop.pipelines.executor import Executor, Limits, StepResult
from goldenloop.pipelines.graph_records import keep_run
from goldenloop.pipelines.launching import Flight, step_request
from goldenloop.pipelines.outcomes import Ended, outcome_of
from goldenloop.pipelines.runs import UNFINISHED, cancel_run
from goldenloop.pipelines.stand_ins import Cupboard
from goldenloop.pipelines.starting import OpenRun, Starter, load_run
from goldenloop.store.artifacts import Artifacts
from goldenloop.store.database import Database, Transaction
from goldenloop.store.tables import artifacts, runs, tasks

_LOSSES = 3  # how often a step may lose its process and start again before it is called failed
_OPEN_RUNS = 64  # runs under way at once; others wait, the oldest of the highest priority first
_STARTS = 200  # steps that one transaction starts or finds in the cache


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    """An unfinished run as the database has it. `revision` counts what others than the engine did to it."""

    id: str
    state: RunState
    revision: int
    priority: int


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
        self._book = StoreBook(clock)
        self._starter = Starter(kept, self._book, Cupboard(folder), folder=self._folder)
        self._flights: dict[str, Flight] = {}  # by request id
        self._canceled: set[str] = set()  # of those, the ones that were asked to end
        self._results: list[StepResult] = []  # what has ended and is not looked at yet
        self._unrecorded: list[Ended] = []
        self._losses: Counter[str] = Counter()
        self._runs: dict[str, OpenRun] = {}
        self._revisions: dict[str, int] = {}  # of the runs in memory
        # Removing folders takes its time, and nothing waits for it.
        self._sweeper = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sweeper")
        self._tidy_all()

    def advance(self) -> bool:
        """Look once and do what is due; return whether anything moved. Raises UnavailableError where the database or the
        artifact store does not answer; nothing is lost then.
        """
        self._collect()
        with self._database.read() as transaction:
            heads = _read_heads(transaction)
        self._forget(heads)
        if not self._unrecorded and not self._is_due(heads):
            return False
        try:
            with self._database.write() as transaction:
                launches, ended, moved = self._turn(transaction)
        except BaseException:
            self._runs.clear()  # what they say may not be what the database says
            raise
        recorded, self._unrecorded = self._unrecorded, []
        for one in recorded:
            self._flights.pop(one.flight.request_id, None)
            self._canceled.discard(one.flight.request_id)
            if not one.lost:
                self._sweep(one.flight.files.work)
        for flight in launches:
            self._launch(flight)
        for run_id in ended:
            self._tidy(run_id)
        return moved or bool(recorded)

    def wait(self, seconds: float) -> None:
        """Return when a step has ended, a retry is due, `wake` is called, or the time is over."""
        if self._unrecorded:
            return
        moments = [due for run in self._runs.values() if (due := run.tree.next_us()) is not None]
        if moments:
            seconds = min(seconds, max(0.0, (min(moments) - self._clock.now_us()) / SECOND))
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
        return self._starter.files(run_id, step, attempt).log

    def close(self) -> None:
        """End the steps' processes; what was running starts again with the next engine."""
        self._executor.close()
        self._sweeper.shutdown()

    # What has ended

    def _collect(self) -> None:
        """Take results and keep what the steps wrote; the database does not know it yet."""
        self._results += self._executor.poll()
        while self._results:
            result = self._results[0]
            flight = self._flights.get(result.id)
            if flight is not None:
                self._unrecorded.append(outcome_of(flight, result, self._kept, now_us=self._clock.now_us()))
            del self._results[0]

    def _record(self, transaction: Transaction, ended: Ended) -> None:
        """Note an attempt's end, once: only where it is the present attempt at a step that runs."""
        flight = ended.flight
        run = self._runs.get(flight.run_id)
        node = run.tree.running.get(flight.task_id) if run is not None else None
        if run is None or node is None or flight.request_id in self._canceled:
            return
        if ended.lost:
            self._losses[flight.task_id] += 1
            if self._losses[flight.task_id] <= _LOSSES:
                run.tree.lose(node)
                return
            run.tree.fail_attempt(node, f"step {flight.name!r} lost its process {_LOSSES + 1} times")
        elif ended.failure is not None:
            (run.tree.fail if ended.final else run.tree.fail_attempt)(node, ended.failure)
        else:
            rows = [record for listed in ended.records.values() for record in listed]
            if rows:
                transaction.execute(artifacts.insert(), rows)
            read = {port: [artifact.id for artifact in listed] for port, listed in flight.inputs.items()}
            self._starter.succeed(transaction, run.tree, node, ended.outputs, read=read)
        self._losses.pop(flight.task_id, None)

    # What is due

    def _is_due(self, heads: list[_Head]) -> bool:
        if any(head.id not in self._runs for head in heads[:_OPEN_RUNS]):
            return True
        now_us = self._clock.now_us()
        has_room = len(self._flights) < self._parallelism
        return has_room and any(run.tree.has_next(now_us) for run in self._runs.values())

    def _forget(self, heads: list[_Head]) -> None:
        """Drop runs that have ended or were changed by somebody else, and end their steps; the results are thrown away."""
        known = {head.id: head.revision for head in heads}
        for run_id in [run_id for run_id in self._runs if known.get(run_id) != self._revisions[run_id]]:
            del self._runs[run_id]
        for request_id, flight in self._flights.items():
            is_stray = known.get(flight.run_id) != self._revisions.get(flight.run_id)
            if is_stray and request_id not in self._canceled:
                self._executor.cancel(request_id)
                self._canceled.add(request_id)

    def _turn(self, transaction: Transaction) -> tuple[list[Flight], list[str], bool]:
        """All of one look that the database sees; return what is to be launched, the runs that ended, and whether
        anything moved.
        """
        heads = _read_heads(transaction)
        self._forget(heads)
        self._book.begin(transaction)
        unknown = [head for head in heads[:_OPEN_RUNS] if head.id not in self._runs]
        for head in unknown:
            self._open(transaction, head)
        for one in self._unrecorded:
            self._record(transaction, one)
        launches, done_at_once = self._start(transaction, heads)
        self._book.flush()
        ended = [(run.id, state) for run in self._runs.values() if (state := run.tree.ended) is not None]
        for run_id, state in ended:
            self._end_run(transaction, run_id, state, _first_error(transaction, run_id, state))
        return launches, [run_id for run_id, _ in ended], bool(unknown or launches or done_at_once or ended)

    def _open(self, transaction: Transaction, head: _Head) -> None:
        """Take a run into memory: begin it, or go on with it."""
        row = transaction.execute(select(runs).where(runs.c.id == head.id)).mappings().one()
        try:
            run = load_run(row, self._book, folder=self._folder / head.id)
        except GoldenloopError as error:  # written by another version of this program
            self._end_run(transaction, head.id, RunState.FAILED, str(error))
            return
        self._runs[head.id], self._revisions[head.id] = run, head.revision
        if head.state is RunState.PENDING:
            begun = {"state": RunState.RUNNING.value, "started_us": self._clock.now_us()}
            transaction.execute(update(runs).where(runs.c.id == head.id).values(**begun))
            run.tree.begin()
        else:
            alive = (flight.task_id for name, flight in self._flights.items() if name not in self._canceled)
            run.tree.resume(alive)

    def _end_run(self, transaction: Transaction, run_id: str, state: RunState, error: str | None) -> None:
        ended = {"state": state.value, "error": error, "finished_us": self._clock.now_us()}
        going_on = (runs.c.id == run_id, runs.c.state.in_(UNFINISHED))
        if transaction.execute(update(runs).where(*going_on).values(**ended)).rowcount:
            self._book.flush()
            keep_run(transaction, run_id, now_us=self._clock.now_us())

    # Starting

    def _start(self, transaction: Transaction, heads: list[_Head]) -> tuple[list[Flight], int]:
        """Start steps, as many as there is room for, turn by turn. Return those to launch, and how many ended at once:
        found in the cache, or not possible.
        """
        waiting = {head.id: head for head in heads if head.id in self._runs}
        for run in self._runs.values():
            run.tree.release(self._book.now_us())
        going_on = self._flights.keys() - {one.flight.request_id for one in self._unrecorded}
        busy = Counter(self._flights[request_id].run_id for request_id in going_on)
        free = self._parallelism - len(going_on)
        launches: list[Flight] = []
        done_at_once = 0
        while waiting and len(launches) < free and done_at_once < _STARTS:
            # The first of equals is the oldest.
            chosen = min(waiting.values(), key=lambda head: (-head.priority, busy[head.id]))
            run = self._runs[chosen.id]
            node = run.tree.next_step()
            if node is None:
                del waiting[chosen.id]
                continue
            flight = self._starter.start(transaction, run, node)
            if flight is None:
                done_at_once += 1
            else:
                launches.append(flight)
                busy[chosen.id] += 1
        return launches, done_at_once

    def _launch(self, flight: Flight) -> None:
        self._flights[flight.request_id] = flight
        try:
            Path(flight.facts["workspace_path"]).mkdir(parents=True, exist_ok=True)
            self._executor.submit(step_request(flight, self._kept, self._limits))
        except (GoldenloopError, OSError) as error:
            failure = f"step {flight.name!r} could not be started: {error}"
            final = not isinstance(error, UnavailableError)
            self._unrecorded.append(Ended(flight=flight, failure=failure, final=final))

    # Tidying

    def _tidy(self, run_id: str) -> None:
        """Forget a run that has ended and remove its work folders; logs stay."""
        self._runs.pop(run_id, None)
        self._revisions.pop(run_id, None)
        self._sweep(self._folder / run_id / "workspace")
        self._sweeper.submit(_remove_work, self._folder / run_id)

    def _sweep(self, folder: Path) -> None:
        self._sweeper.submit(shutil.rmtree, folder, ignore_errors=True)

    def _tidy_all(self) -> None:
        """Remove the work folders of runs that ended while nobody looked."""
        if not self._folder.is_dir():
            return
        with self._database.read() as transaction:
            unfinished = set(transaction.execute(select(runs.c.id).where(runs.c.state.in_(UNFINISHED))).scalars())
        for folder in self._folder.iterdir():
            if folder.name not in unfinished:
                self._tidy(folder.name)


def _remove_work(run_folder: Path) -> None:
    for work in run_folder.glob("*/attempt-*/work"):
        shutil.rmtree(work, ignore_errors=True)


def _read_heads(transaction: Transaction) -> list[_Head]:
    """The unfinished runs: those of the highest priority first, of those the ones under way, of those the oldest."""
    query = select(runs.c.id, runs.c.state, runs.c.revision, runs.c.priority, runs.c.created_us)
    rows = transaction.execute(query.where(runs.c.state.in_(UNFINISHED))).all()
    ordered = sorted(rows, key=lambda row: (-row.priority, row.state != RunState.RUNNING.value, row.created_us, row.id))
    return [
        _Head(id=row.id, state=RunState(row.state), revision=row.revision, priority=row.priority) for row in ordered
    ]


def _first_error(transaction: Transaction, run_id: str, state: RunState) -> str | None:
    """Why a run failed: the error of what failed first in it."""
    if state is not RunState.FAILED:
        return None
    failed = (tasks.c.run_id == run_id, tasks.c.state == RunState.FAILED.value, tasks.c.error.is_not(None))
    query = select(tasks.c.error).where(*failed).order_by(tasks.c.finished_us, tasks.c.id.desc()).limit(1)
    return transaction.execute(query).scalar_one_or_none()
