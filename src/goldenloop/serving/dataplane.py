"""The data plane: which version answers, who else scores, and the record that is written before the answer goes out.

It knows no protocol, so that REST and gRPC share it. Everything here runs on one event loop; what is slow runs beside it (`scorers`).

Rules. A challenger's failure is recorded and never fails a request: where it was to answer, the champion does. A request that asked for a
version gets that one or an error. What cannot be logged is not answered. What was scored in one call is logged in one write.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Protocol

import msgspec
import numpy as np

from goldenloop.core.clock import Clock
from goldenloop.core.errors import GoldenloopError, InvalidSpecError, NotFoundError, UnavailableError
from goldenloop.core.ids import uuid7
from goldenloop.core.routing import Graph, RoutingTable, Service
from goldenloop.payloads.log import PayloadWriter
from goldenloop.payloads.records import Exchange, Label, LoggedTensor, Prediction, Record, Value
from goldenloop.serving.metrics import Metrics
from goldenloop.serving.queues import Job, ServiceQueue, TimedOutError, TooManyError
from goldenloop.serving.scorers import Scorer
from goldenloop.serving.work import Arrays, Document, Result, TensorWork, Work
from goldenloop.standards.open_inference.tensors import Tensor
from goldenloop.standards.tabular import Batch

LONGEST_HOLD_SECONDS = 60.0
LARGEST_HOLD = 1024  # requests of one service that may wait
SETTLING_TURNS = 8
SETTLING_SECONDS = 0.001
DEFAULT_NAMESPACE = "default"
_BUCKETS = 10_000


class HeldTooLongError(UnavailableError):
    """The request waited for control and nothing came."""


class ScoringFailedError(GoldenloopError):
    """The version that was to answer failed; this is the model's fault, not the caller's."""


class Question(Protocol):
    """A request that is read but not yet laid out for a version."""

    @property
    def alias(self) -> str | None:
        """The client's own id."""
        ...

    def work(self, scorer: Scorer, also: frozenset[str]) -> Work:
        """Lay it out for a version; `also` names columns that other versions take. Raises InvalidSpecError."""
        ...


class Answered(msgspec.Struct, frozen=True, eq=False):
    """What goes out."""

    identity: str
    version: str
    scorer: Scorer
    result: Result
    latency_us: int  # without the time that it waited for control


class Deployed:
    """A service with its versions loaded, as one table has it. Where `is_resident` is false they are not, and come with a request."""

    def __init__(
        self,
        service: Service,
        models: dict[str, Scorer],
        *,
        is_resident: bool = True,
        transformer: Scorer | None = None,
        explainer: Scorer | None = None,
    ) -> None:
        self.service = service
        self.models = models
        self.is_resident = is_resident
        self.transformer = transformer
        self.explainer = explainer
        self.namespace = service.namespace
        self.name = service.name
        layouts = [scorer.layout for scorer in models.values()]
        self.columns = frozenset(name for layout in layouts if layout is not None for name in layout.names)
        # Versions that take the same columns, or are of one other form, share a group, and so the rows of a request.
        kinds = [_kind(scorer) for scorer in models.values()]
        self.groups = {version: kinds.index(_kind(scorer)) for version, scorer in models.items()}
        # The champion and everything that takes part beside it, each once; all of them score every request.
        taking_part = (service.champion, *(route.version for route in service.routes), *service.shadows)
        self.scorers = tuple(dict.fromkeys(taking_part))
        self.is_batching = is_resident and all(models[version].form.batching for version in self.scorers)
        self.used_at = perf_counter()  # when a request came last, or it was loaded
        self._scorers_with: dict[str, tuple[str, ...]] = {}
        self.queue: ServiceQueue | None = None
        self.size_bytes = sum(scorer.size_bytes for scorer in models.values())

    def scorers_with(self, version: str) -> tuple[str, ...]:
        """The versions that score a request which `version` answers.

        In a loop all that take part score every request, and routing only picks whose answer goes out; elsewhere the others cost nothing.
        """
        found = self._scorers_with.get(version)
        if found is None:
            beside = self.service.shadows if self.service.loop is None else self.scorers
            found = tuple(dict.fromkeys((version, *beside) if version not in beside else beside))
            self._scorers_with[version] = found
        return found

    def choose(self, *, asked: str | None, identity: str, route_key: str | None) -> tuple[str, str]:
        """Return the version that answers, and why. Raises NotFoundError for a version that is not served."""
        if asked:
            if asked not in self.models:
                raise NotFoundError(
                    f"version {asked!r} of {self.name!r} is not served",
                    where=f"/v2/models/{self.name}/versions/{asked}",
                    mend=f"Served are {', '.join(self.models)}.",
                )
            return asked, "asked"
        if self.service.routes:
            bucket = _bucket(self.namespace, self.name, route_key or identity)
            upto = 0.0
            for route in self.service.routes:
                upto += route.percent * _BUCKETS / 100
                if bucket < upto:
                    return route.version, "sticky" if route_key else "canary"
            # From the other end, so that both grow with their share and nobody changes sides.
            if bucket >= (100 - self.service.baseline) * _BUCKETS / 100:
                return self.service.champion, "baseline"
        return self.service.champion, "champion"


def _kind(scorer: Scorer) -> object:
    return scorer.signature.inputs if scorer.signature is not None else scorer.form


def _unit(route_key: str) -> str:
    """What the log keeps of a route key: enough to tell two apart, not the key."""
    return hashlib.blake2b(route_key.encode(), digest_size=8).hexdigest()


def _bucket(namespace: str, name: str, key: str) -> int:
    digest = hashlib.blake2b(f"{namespace}/{name}/{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % _BUCKETS


@dataclass(slots=True)
class _Waiting:
    """The requests of one service that wait for control."""

    futures: dict[asyncio.Future[None], int] = field(default_factory=dict)  # → event time
    reported_us: int | None = None


class DataPlane:
    """Answers questions by the present table.

    `on_held` is told (namespace, service, event time) when control is waited for. `bring` loads a service whose versions are not here.
    """

    def __init__(
        self,
        *,
        writer: PayloadWriter,
        metrics: Metrics,
        clock: Clock,
        on_held: Callable[[str, str, int], None],
        bring: Callable[[Deployed], Awaitable[Deployed]] | None = None,
    ) -> None:
        self.generation = 0
        self.failed: dict[str, str] = {}  # `namespace/service/version` → why it could not be loaded
        self.metrics = metrics
        self.note: Callable[[Job, float], None] | None = None  # told of jobs that are done, where somebody watches
        self._writer = writer
        self._clock = clock
        self._on_held = on_held
        self._bring = bring
        self._deployed: dict[tuple[str, str], Deployed] = {}
        self._by_name: dict[str, Deployed | None] = {}  # None: in several namespaces and not in the default one
        self._by_host: dict[str, Service | Graph] = {}
        self._graphs: dict[tuple[str, str], Graph] = {}
        self._coming: frozenset[str] = frozenset()
        self._queues: dict[tuple[str, str], ServiceQueue] = {}
        self._writing: set[asyncio.Task[None]] = set()
        self._waiting: dict[tuple[str, str], _Waiting] = {}
        self._busy = 0  # requests to services that allow replay, and feedback, that do not wait for control
        self._begun = 0  # requests of any kind since the start
        self._stopping = False

    @property
    def is_ready(self) -> bool:
        """Whether a table is in force and every service in it answers."""
        return self.generation > 0 and not self.failed and not self._stopping

    @property
    def services(self) -> list[Deployed]:
        """All services that answer."""
        return list(self._deployed.values())

    def take_table(
        self,
        table: RoutingTable,
        deployed: dict[tuple[str, str], Deployed],
        failed: dict[str, str],
        *,
        coming: frozenset[str] = frozenset(),
    ) -> None:
        """Answer by this table from now on, and wake what waited for it. `coming` names services whose versions are being loaded."""
        self._deployed = deployed
        self._coming = coming
        by_name: dict[str, Deployed | None] = {}
        for (namespace, name), entry in deployed.items():
            if namespace == DEFAULT_NAMESPACE or name not in by_name:
                by_name[name] = entry
            elif (other := by_name[name]) is None or other.namespace != DEFAULT_NAMESPACE:
                by_name[name] = None
        self._by_name = by_name
        self._by_host = {host: service for service in table.services for host in service.hosts}
        self._by_host |= {host: graph for graph in table.graphs for host in graph.hosts}
        self._graphs = {(graph.namespace, graph.name): graph for graph in table.graphs}
        self._queues = {key: queue for key, queue in self._queues.items() if key in deployed or not queue.is_idle}
        if not coming:
            self.generation = table.generation
        self.failed = failed
        for key, waiting in list(self._waiting.items()):
            entry_now = deployed.get(key)
            hold_us = entry_now.service.hold_from_us if entry_now is not None else None
            for future, event_us in waiting.futures.items():
                if (hold_us is None or event_us < hold_us) and not future.done():
                    future.set_result(None)
            waiting.reported_us = None
        self.report_held()

    def replace(self, deployed: Deployed) -> None:
        """Put a service in the place of the one with its name: its versions were loaded, or let go."""
        key = (deployed.namespace, deployed.name)
        if self._by_name.get(deployed.name) is self._deployed.get(key):
            self._by_name[deployed.name] = deployed
        self._deployed[key] = deployed

    def report_held(self) -> None:
        """Tell control, anew, which services wait and up to which event time."""
        for (namespace, name), waiting in self._waiting.items():
            times = [event_us for future, event_us in waiting.futures.items() if not future.done()]
            if times:
                waiting.reported_us = max(times)
                self._on_held(namespace, name, waiting.reported_us)

    def is_idle(self, namespace: str, name: str) -> bool:
        """Whether no request to a service waits or is being scored."""
        queue = self._queues.get((namespace, name))
        return queue is None or queue.is_idle

    def find(self, name: str, namespace: str | None = None) -> Deployed:
        """Return the service of this name: that in the namespace, or else in the default one, or else the only one.

        Raises NotFoundError, UnavailableError.
        """
        entry = self._by_name.get(name) if namespace is None else self._deployed.get((namespace, name))
        if entry is not None:
            if not entry.service.loaded:
                raise UnavailableError(
                    f"the model {name!r} is unloaded", where=name, mend=f"POST /v2/repository/models/{name}/load"
                )
            return entry
        if namespace is None and name in self._by_name:
            raise NotFoundError(
                f"there are several services {name!r} and none in the namespace {DEFAULT_NAMESPACE!r}",
                where=name,
                mend="Give one of them another name, or say the namespace: /serving/NAMESPACE/NAME/…",
            )
        for failed, reason in self.failed.items():
            if failed.split("/")[1] == name:
                raise UnavailableError(f"the service {name!r} could not load its model: {reason}", where=failed)
        if name in self._coming:
            raise UnavailableError(f"the model {name!r} is being loaded", where=name, mend="Try again in a moment.")
        if self.generation == 0:
            raise UnavailableError("no routing table has been read yet", mend="Try again in a moment.")
        raise NotFoundError(
            f"there is no service {name!r}", where=name, mend=f"Served are {', '.join(self._by_name) or 'none yet'}."
        )

    @property
    def has_hosts(self) -> bool:
        """Whether any Host header means something."""
        return bool(self._by_host)

    def at_host(self, host: str) -> Service | Graph | None:
        """The service or graph that a Host header means, if any."""
        return self._by_host.get(host)

    def graph(self, namespace: str | None, name: str) -> Graph | None:
        """The graph of this name, if any; without a namespace that in the default one."""
        return self._graphs.get((namespace or DEFAULT_NAMESPACE, name))

    async def resident(self, deployed: Deployed) -> Deployed:
        """Return the service with its versions loaded. Raises UnavailableError where they cannot be."""
        if deployed.is_resident:
            return deployed
        if self._bring is None:
            raise UnavailableError(f"the model of {deployed.name!r} is not loaded", where=deployed.name)
        return await self._bring(deployed)

    async def answer(
        self,
        deployed: Deployed,
        question: Question,
        *,
        asked: str | None,
        route_key: str | None,
        given_event_us: int | None,
    ) -> Answered:
        """Score, log and answer one request.

        Raises NotFoundError for a version that is not served, InvalidSpecError for wrong rows, ScoringFailedError where the version that
        answers fails, TooManyError and TimedOutError, UnavailableError where the request cannot be logged or waited too long.
        """
        if not deployed.is_resident:
            deployed = await self.resident(deployed)
        if not deployed.service.replay:
            if given_event_us is not None:
                raise InvalidSpecError(
                    f"{deployed.name!r} does not let senders give event times",
                    where="event_time",
                    mend="Leave it out, or say `replay: true` in the Loop.",
                )
            return await self._answer(deployed, question, asked=asked, route_key=route_key, event_us=None)
        self._busy += 1
        try:
            if given_event_us is not None and self._must_wait(deployed, given_event_us):
                deployed = await self._hold(deployed, given_event_us)
            return await self._answer(deployed, question, asked=asked, route_key=route_key, event_us=given_event_us)
        finally:
            self._busy -= 1

    async def take_labels(self, labels: list[tuple[str, int, Value, int | None]]) -> int:
        """Log labels (prediction id or alias, row, label, observed at) and bring them to the disk; return how many."""
        self._busy += 1
        try:
            arrival_us = self._clock.now_us()
            self._writer.write(
                *[
                    Label(prediction=prediction, row=row, label=label, observed_us=observed_us, arrival_us=arrival_us)
                    for prediction, row, label, observed_us in labels
                ]
            )
            await self._writer.synced()
        finally:
            self._busy -= 1
        self.metrics.feedback(len(labels))
        return len(labels)

    async def settle(self) -> None:
        """Return when everything that had arrived is answered and logged, or waits for control."""
        while True:
            begun = self._begun
            # Turns of the loop: connections are accepted, what they sent is read, requests begin. The pause lets the system hand over
            # what it has; as long as something new begins, there may be more behind it.
            for _ in range(SETTLING_TURNS):
                await asyncio.sleep(0)
            await asyncio.sleep(SETTLING_SECONDS)
            if self._busy == 0 and self._begun == begun:
                return

    def begin(self) -> None:
        """Take note that a request begins to come in."""
        self._begun += 1

    def stop(self) -> None:
        """Send away what waits for control; nothing new waits."""
        self._stopping = True
        for waiting in self._waiting.values():
            for future in waiting.futures:
                if not future.done():
                    future.set_exception(HeldTooLongError("the server is stopping", mend="Send the request again."))

    def _must_wait(self, deployed: Deployed, event_us: int) -> bool:
        hold_us = deployed.service.hold_from_us
        return hold_us is not None and event_us >= hold_us

    async def _hold(self, deployed: Deployed, event_us: int) -> Deployed:
        """Wait until control has decided everything before this event time; return the service as it is then."""
        key = (deployed.namespace, deployed.name)
        waiting = self._waiting.setdefault(key, _Waiting())
        loop = asyncio.get_running_loop()
        end = loop.time() + LONGEST_HOLD_SECONDS
        while self._must_wait(deployed, event_us):
            if len(waiting.futures) >= LARGEST_HOLD:
                raise TooManyError(
                    f"{len(waiting.futures)} requests wait already", where=deployed.name, mend="Send it again later."
                )
            if self._stopping:
                raise HeldTooLongError("the server is stopping", mend="Send the request again.")
            future: asyncio.Future[None] = loop.create_future()
            waiting.futures[future] = event_us
            self._busy -= 1
            self.metrics.held(+1)
            if waiting.reported_us is None or event_us > waiting.reported_us:
                waiting.reported_us = event_us
                self._on_held(*key, event_us)
            try:
                async with asyncio.timeout_at(end):
                    await future
            except TimeoutError as error:
                raise HeldTooLongError(
                    f"the loop has not decided what lies before this event time within {LONGEST_HOLD_SECONDS:.0f} s",
                    where=deployed.name,
                    mend="Send the request again; `goldenloop describe loop` says what it waits for.",
                ) from error
            finally:
                self._busy += 1
                self.metrics.held(-1)
                del waiting.futures[future]
            now = self._deployed.get(key)
            if now is None:
                raise NotFoundError(f"the service {deployed.name!r} is gone", where=deployed.name)
            deployed = now
        return deployed

    async def _answer(
        self, deployed: Deployed, question: Question, *, asked: str | None, route_key: str | None, event_us: int | None
    ) -> Answered:
        arrival_us = self._clock.now_us()
        identity = uuid7(arrival_us // 1000)
        version, reason = deployed.choose(asked=asked, identity=identity, route_key=route_key)
        works = _lay_out(deployed, question, version, is_asked=bool(asked))
        rows = next(iter(works.values())).rows
        queue = self._queue(deployed)
        job = Job(
            deployed,
            works,
            rows=rows,
            identity=identity,
            alias=question.alias,
            version=version,
            reason=reason,
            arrival_us=arrival_us,
            event_us=arrival_us if event_us is None else event_us,
            asked=bool(asked),
            unit=_unit(route_key) if route_key and deployed.service.routes else "",
            future=queue.future(),
        )
        deployed.used_at = job.submitted
        await queue.submit(job)
        if self.note is not None:
            self.note(job, perf_counter())
        version = job.version
        failure = job.failures.get(version)
        if failure is not None:
            if isinstance(failure, TimedOutError) or deployed.models[version].is_away(failure):
                raise failure
            raise ScoringFailedError(f"version {version} of {deployed.name!r} failed: {failure}", where=identity)
        return Answered(
            identity, version, deployed.models[version], job.answers[version], self._clock.now_us() - arrival_us
        )

    def _queue(self, deployed: Deployed) -> ServiceQueue:
        if deployed.queue is None:
            # Services keep their queue from one table to the next: what waits in it counts against its bounds.
            key = (deployed.namespace, deployed.name)
            queue = self._queues.get(key)
            if queue is None:
                queue = self._queues[key] = ServiceQueue(self.metrics, self._record)
            deployed.queue = queue
        return deployed.queue

    def _record(self, jobs: list[Job]) -> None:
        """Write what jobs of one queue came to, in one piece, and let them answer."""
        now_us = self._clock.now_us()
        records: list[Record] = []
        for job in jobs:
            if job.failures or job.version not in job.answers:
                _settle_version(job)
            if job.deployed.service.log_payloads:
                records.append(_record_of(job, now_us))
        if records:
            try:
                self._writer.write(*records)
            except GoldenloopError as error:
                self.metrics.logged("failed", len(records))
                for job in jobs:
                    job.future.set_exception(error)
                return
            self.metrics.logged("written", len(records))
        for job in jobs:
            if job.failures:
                self._count_failures(job)
        if records and jobs[0].deployed.service.payload_mode == "durable":
            task = asyncio.get_running_loop().create_task(self._let_answer_when_synced(jobs))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)
            return
        for job in jobs:
            job.future.set_result(None)

    async def _let_answer_when_synced(self, jobs: list[Job]) -> None:
        try:
            await self._writer.synced()
        except GoldenloopError as error:
            self.metrics.logged("failed", len(jobs))
            for job in jobs:
                if not job.future.done():
                    job.future.set_exception(error)
            return
        for job in jobs:
            if not job.future.done():
                job.future.set_result(None)

    def _count_failures(self, job: Job) -> None:
        for failed in job.failures:
            if failed != job.version:
                self.metrics.shadow_failed(job.deployed.namespace, job.deployed.name, failed)


def _lay_out(deployed: Deployed, question: Question, version: str, *, is_asked: bool) -> dict[str, Work]:
    """The rows of a question for each version that scores it, laid out once for all that take the same. Raises InvalidSpecError."""
    scorers = deployed.scorers_with(version)
    if len(scorers) == 1:
        return {version: question.work(deployed.models[version], deployed.columns)}
    champion = deployed.service.champion
    by_group: dict[int, Work] = {}
    works: dict[str, Work] = {}
    for name in scorers:
        group = deployed.groups[name]
        work = by_group.get(group)
        if work is None:
            try:
                work = by_group[group] = question.work(deployed.models[name], deployed.columns)
            except InvalidSpecError:
                # Rows that are right for the champion and not for its challenger are the challenger's failure, not the caller's.
                if name == champion or (name == version and (is_asked or champion not in scorers)):
                    raise
                continue
        works[name] = work
    return works


def _settle_version(job: Job) -> None:
    """Where a challenger was to answer and could not, the champion answers."""
    if job.version in job.answers or job.asked:
        return
    if job.version not in job.works:
        job.failures.setdefault(job.version, InvalidSpecError("the rows do not fit what this version takes"))
    champion = job.deployed.service.champion
    if champion in job.works:
        job.version, job.reason = champion, "fallback"


def _record_of(job: Job, now_us: int) -> Record:
    scorer = job.deployed.models[job.version]
    failures = {version: str(error) for version, error in job.failures.items()}
    work = job.works[job.version]
    if isinstance(work, Batch):
        assert scorer.layout is not None  # it was laid out by it
        return Prediction(
            id=job.identity,
            alias=job.alias,
            namespace=job.deployed.namespace,
            service=job.deployed.name,
            arrival_us=job.arrival_us,
            event_us=job.event_us,
            columns=scorer.columns,
            rows=work.rows,
            numbers=work.numbers.tobytes(),
            texts=tuple(work.texts.ravel().tolist()),
            version=job.version,
            reason=job.reason,
            answers=job.answers,  # type: ignore[arg-type]  # a table's results are answers
            failures=failures,
            latency_us=now_us - job.arrival_us,
            unit=job.unit,
            scored_us=job.took_us,
        )
    return Exchange(
        id=job.identity,
        alias=job.alias,
        namespace=job.deployed.namespace,
        service=job.deployed.name,
        arrival_us=job.arrival_us,
        event_us=job.event_us,
        request=_logged(work.arrays if isinstance(work, TensorWork) else Document(work.document)),
        version=job.version,
        reason=job.reason,
        answers={version: _logged(result) for version, result in job.answers.items()},  # type: ignore[arg-type]
        failures=failures,
        latency_us=now_us - job.arrival_us,
    )


def _logged(given: Arrays | Document) -> tuple[LoggedTensor, ...] | bytes:
    """Tensors, or a document as JSON, as the log keeps them."""
    if isinstance(given, Document):
        return msgspec.json.encode(given.content, enc_hook=_plain)
    tensors = [Tensor.of_array(name, array) for name, array in given.items()]
    return tuple((tensor.name, tensor.datatype, tensor.shape, tensor.raw()) for tensor in tensors)


def _plain(value: object) -> object:
    """What JSON cannot say of a document: arrays become lists, raw bytes and everything else text."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return str(value)[:1_000]
