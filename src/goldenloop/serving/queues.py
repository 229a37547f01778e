"""The queue of one service: requests that arrive in the same turn of the event loop are scored in one call. No timer is involved, so
a request that is alone waits for nobody.

Rules. Every version that takes part scores the same rows. What was scored together is logged in one write, and only then answered. Where a
call fails for several requests, each is scored alone, so that one cannot spoil the others. A queue has bounds; beyond them a request is
turned away (429). A request that has waited for `timeout_seconds` is answered so (504), and is in the log too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING

from goldenloop.core.errors import GoldenloopError, UnavailableError
from goldenloop.serving.metrics import Metrics
from goldenloop.serving.work import Result, Work, goes_together, joined, parts

if TYPE_CHECKING:
    from goldenloop.serving.dataplane import Deployed

LARGEST_QUEUE = 1024  # requests of one service that wait
LARGEST_QUEUE_ROWS = 2_000_000
LARGEST_BATCH = 4096  # rows scored in one call, unless one request has more


class TooManyError(UnavailableError):
    """The queue that the request would wait in is full."""


class TimedOutError(UnavailableError):
    """The model did not answer in the time that the service gives it."""


class Job:
    """One request on its way through a queue, and what is written down of it when it comes out.

    `works` maps each version that scores to its rows; `answers` and `failures` are filled in. `version` is the one that answers, `reason`
    why; `asked` says that the caller named it.
    """

    __slots__ = (
        "alias", "answers", "arrival_us", "asked", "begun", "deployed", "event_us", "failures", "future", "identity", "reason", "rows",
        "scored", "submitted", "timer", "took_us", "unit", "version", "works",
    )  # fmt: skip

    def __init__(
        self,
        deployed: Deployed,
        works: dict[str, Work],
        *,
        rows: int,
        identity: str,
        version: str,
        reason: str,
        arrival_us: int,
        event_us: int,
        future: asyncio.Future[None],
        alias: str | None = None,
        asked: bool = False,
        unit: str = "",
    ) -> None:
        self.deployed = deployed
        self.works = works
        self.rows = rows
        self.identity = identity
        self.alias = alias
        self.version = version
        self.reason = reason
        self.arrival_us = arrival_us
        self.event_us = event_us
        self.asked = asked
        self.unit = unit
        self.future = future
        self.answers: dict[str, Result] = {}
        self.failures: dict[str, GoldenloopError] = {}
        self.timer: asyncio.TimerHandle | None = None
        self.submitted = perf_counter()
        self.took_us: dict[str, int] = {}  # by version, where several score it
        self.begun = self.scored = 0.0  # when the call began that scored it, and when it had an answer


class ServiceQueue:
    """Batches the jobs of one service. `on_done` records jobs that are scored and resolves their futures."""

    def __init__(self, metrics: Metrics, on_done: Callable[[list[Job]], None]) -> None:
        self._metrics = metrics
        self._on_done = on_done
        self._loop = asyncio.get_running_loop()
        self._pending: deque[Job] = deque()
        self._rows = 0
        self._is_scheduled = False
        self._late: asyncio.TimerHandle | None = None  # the batcher's time, while it waits for more
        self._running = 0  # calls under way outside of the event loop
        self._tasks: set[asyncio.Task[None]] = set()

    def future(self) -> asyncio.Future[None]:
        """A future for a job. (To ask for the running loop each time would cost a system call.)"""
        return self._loop.create_future()

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits or runs."""
        return not self._pending and not self._running

    def submit(self, job: Job) -> asyncio.Future[None]:
        """Take a job; its future ends when it is scored and recorded. Raises TooManyError."""
        if len(self._pending) >= LARGEST_QUEUE or (self._pending and self._rows + job.rows > LARGEST_QUEUE_ROWS):
            raise TooManyError(
                f"{len(self._pending)} requests ({self._rows} rows) wait already",
                where=job.deployed.name,
                mend="Send it again later.",
            )
        self._pending.append(job)
        self._rows += job.rows
        batcher = job.deployed.service.batcher
        if batcher is not None and self._rows < batcher.max_batch_size and batcher.max_latency_ms > 0:
            if self._late is None:
                self._late = self._loop.call_later(batcher.max_latency_ms / 1000, self._schedule)
        elif not self._is_scheduled:
            self._schedule()
        return job.future

    def _schedule(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._is_scheduled = False
        while self._pending:
            first = self._pending[0]
            if first.future.done():  # timed out, or the client went away
                self._drop(first)
                continue
            models = first.deployed.models
            batch = [first] if len(self._pending) == 1 else self._next_batch(first)
            rows = sum([job.rows for job in batch])
            if all(models[version].is_inline(rows) for version in first.works):
                self._take(batch)
                self._score(batch)
            elif self._running < self._lanes(first.deployed):
                self._take(batch)
                self._running += 1
                self._arm(batch)
                task = self._loop.create_task(self._ask(batch))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                self._arm(self._pending)
                return

    def _lanes(self, deployed: Deployed) -> int:
        return max(deployed.models[version].lanes for version in deployed.scorers)

    def _next_batch(self, first: Job) -> list[Job]:
        """The jobs at the head of the queue that can be scored together with the first."""
        service = first.deployed.service
        most = LARGEST_BATCH if service.batcher is None else service.batcher.max_batch_size
        batch = [first]
        rows = first.rows
        if not first.deployed.is_batching:
            return batch
        at_once = service.concurrency or LARGEST_QUEUE
        for job in self._pending:
            if job is first:
                continue
            if rows + job.rows > most or len(batch) >= at_once or job.deployed is not first.deployed:
                break
            if job.works.keys() != first.works.keys() or any(
                not goes_together(work, job.works[version]) for version, work in first.works.items()
            ):
                break
            batch.append(job)
            rows += job.rows
        return batch

    def _take(self, batch: list[Job]) -> None:
        for job in batch:
            self._pending.popleft()
            self._rows -= job.rows

    def _drop(self, job: Job) -> None:
        self._pending.remove(job)
        self._rows -= job.rows

    def _score(self, batch: list[Job]) -> None:
        """Score on the event loop."""
        begun = perf_counter()
        first = batch[0]
        if len(batch) == 1:
            for version, work in first.works.items():
                started = perf_counter()
                try:
                    first.answers[version] = first.deployed.models[version].score(work)
                except GoldenloopError as error:
                    first.failures[version] = error
                _note_time(batch, version, started)
            self._finish(batch, begun)
            return
        counts = [job.rows for job in batch]
        shared: dict[int, Work] = {}  # versions that take the same columns are given the same rows
        for version, work in first.works.items():
            scorer = first.deployed.models[version]
            started = perf_counter()
            whole = shared.get(id(work))
            if whole is None:
                whole = shared[id(work)] = joined([job.works[version] for job in batch])
            try:
                results = parts(scorer.score(whole), counts)
            except GoldenloopError:
                for job in batch:
                    try:
                        job.answers[version] = scorer.score(job.works[version])
                    except GoldenloopError as own:
                        job.failures[version] = own
                _note_time(batch, version, started)
                continue
            for job, result in zip(batch, results, strict=True):
                job.answers[version] = result
            _note_time(batch, version, started)
        self._finish(batch, begun)

    async def _ask(self, batch: list[Job]) -> None:
        """Score outside of the event loop; all versions at the same time."""
        begun = perf_counter()
        try:
            await asyncio.gather(*[self._ask_one(batch, version) for version in batch[0].works])
            self._finish(batch, begun)
        finally:
            self._running -= 1
            if self._pending:
                self._schedule()

    async def _ask_one(self, batch: list[Job], version: str) -> None:
        deployed = batch[0].deployed
        scorer = deployed.models[version]
        seconds = deployed.service.timeout_seconds
        started = perf_counter()
        try:
            whole = joined([job.works[version] for job in batch])
            results = parts(await scorer.ask(whole, timeout_seconds=seconds), [job.rows for job in batch])
        except GoldenloopError as error:
            if len(batch) == 1 or not scorer.is_fault_of_one(error):
                for job in batch:
                    job.failures[version] = error
                return
            for job in batch:
                try:
                    job.answers[version] = await scorer.ask(job.works[version], timeout_seconds=seconds)
                except GoldenloopError as own:
                    job.failures[version] = own
            return
        for job, result in zip(batch, results, strict=True):
            job.answers[version] = result
        _note_time(batch, version, started)

    def _finish(self, batch: list[Job], begun: float) -> None:
        rows = sum(job.rows for job in batch)
        now = perf_counter()
        deployed = batch[0].deployed
        waited = sum(begun - job.submitted for job in batch)
        for version in batch[0].works:
            self._metrics.called(
                deployed.namespace, deployed.name, version, rows=rows, queue_seconds=waited, compute_seconds=now - begun
            )
        for job in batch:
            job.begun, job.scored = begun, now
            if job.timer is not None:
                job.timer.cancel()
        self._hand_over([job for job in batch if not job.future.done()])

    def _hand_over(self, jobs: list[Job]) -> None:
        """Have jobs recorded and answered. Whatever happens, nobody waits for ever."""
        try:
            self._on_done(jobs)
        except Exception as error:
            for job in jobs:
                if not job.future.done():
                    job.future.set_exception(error)

    def _arm(self, jobs: Sequence[Job] | deque[Job]) -> None:
        for job in jobs:
            seconds = job.deployed.service.timeout_seconds
            if job.timer is None and seconds is not None:
                job.timer = self._loop.call_later(seconds, self._expire, job, seconds)

    def _expire(self, job: Job, seconds: float) -> None:
        if job.future.done():
            return
        error = TimedOutError(
            f"no answer within {seconds:g} s", where=job.deployed.name, mend="Give the service a longer `timeout`."
        )
        job.answers.clear()
        job.failures = dict.fromkeys(job.works, error)
        self._hand_over([job])


def _note_time(batch: list[Job], version: str, started: float) -> None:
    """How long a version took, where there is another to compare it with."""
    if len(batch[0].works) > 1:
        took_us = round((perf_counter() - started) * 1_000_000)
        for job in batch:
            job.took_us[version] = took_us
