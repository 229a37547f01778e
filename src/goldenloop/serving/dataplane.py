"""The data plane: which version answers, who else scores, and the record that is written before the answer goes out.

It knows no protocol, so that REST and whatever follows share it. Everything here runs on one event loop.

Rules. A challenger's failure is recorded and never fails a request: where it was to answer, the champion does. A request that asked for a
version gets that one or an error. What cannot be logged is not answered.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from goldenloop.core.clock import Clock
from goldenloop.core.errors import GoldenloopError, InvalidSpecError, NotFoundError, UnavailableError
from goldenloop.core.ids import uuid7
from goldenloop.core.routing import RoutingTable, Service
from goldenloop.payloads.log import PayloadWriter
from goldenloop.payloads.records import Answer, Label, Prediction, Value
from goldenloop.serving.metrics import Metrics
from goldenloop.serving.models import Model
from goldenloop.standards.tabular import Batch, Layout

LONGEST_HOLD_SECONDS = 60.0
LARGEST_HOLD = 1024  # requests of one service that may wait
ROWS_IN_THE_LOOP = 256  # larger requests are scored in a thread, so that they do not hold up small ones
LARGEST_WORK = 64  # large requests that are scored or wait for a thread
SETTLING_TURNS = 8
SETTLING_SECONDS = 0.001
DEFAULT_NAMESPACE = "default"
_BUCKETS = 10_000


class HeldTooLongError(UnavailableError):
    """The request waited for control and nothing came."""


class TooManyError(UnavailableError):
    """The queue that the request would wait in is full."""


class ScoringFailedError(GoldenloopError):
    """The version that was to answer failed; this is the model's fault, not the caller's."""


class Question(Protocol):
    """A request that is read but not yet made rows of."""

    @property
    def alias(self) -> str | None:
        """The client's own id."""
        ...

    def batch(self, layout: Layout, also: frozenset[str]) -> Batch:
        """Make rows by a layout; `also` names columns that other versions take. Raises InvalidSpecError."""
        ...


@dataclass(frozen=True, slots=True)
class Answered:
    """What goes out."""

    identity: str
    version: str
    model: Model
    answers: tuple[Answer, ...]
    latency_us: int  # without the time that it waited for control


class Deployed:
    """A service with its versions loaded, as one table has it."""

    def __init__(self, service: Service, models: dict[str, Model]) -> None:
        self.service = service
        self.models = models
        self.namespace = service.namespace
        self.name = service.name
        self.columns = frozenset(name for model in models.values() for name in model.layout.names)
        # Versions that take the same columns share a group, and so the rows of a request.
        inputs = [models[version].signature.inputs for version in models]
        self.groups = {version: inputs.index(models[version].signature.inputs) for version in models}
        # The champion and everything that takes part beside it, each once; all of them score every request.
        taking_part = (service.champion, *(route.version for route in service.routes), *service.shadows)
        self.scorers = tuple(dict.fromkeys(taking_part))

    def choose(self, *, asked: str | None, identity: str, route_key: str | None) -> tuple[str, str]:
        """Return the version that answers, and why. Raises NotFoundError for a version that is not served."""
        if asked is not None:
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
        return self.service.champion, "champion"


def _bucket(namespace: str, name: str, key: str) -> int:
    digest = hashlib.blake2b(f"{namespace}/{name}/{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % _BUCKETS


@dataclass(slots=True)
class _Waiting:
    """The requests of one service that wait for control."""

    futures: dict[asyncio.Future[None], int] = field(default_factory=dict)  # → event time
    reported_us: int | None = None


class DataPlane:
    """Answers questions by the present table. `on_held` is told (namespace, service, event time) when control is waited for."""

    def __init__(
        self, *, writer: PayloadWriter, metrics: Metrics, clock: Clock, on_held: Callable[[str, str, int], None]
    ) -> None:
        self.generation = 0
        self.failed: dict[str, str] = {}  # `namespace/service/version` → why it could not be loaded
        self._writer = writer
        self._metrics = metrics
        self._clock = clock
        self._on_held = on_held
        self._deployed: dict[tuple[str, str], Deployed] = {}
        self._by_name: dict[
            str, Deployed | None
        ] = {}  # None where a name is in several namespaces and not in the default one
        self._waiting: dict[tuple[str, str], _Waiting] = {}
        self._busy = (
            0  # requests to services that allow replay, and feedback, that are under way and do not wait for control
        )
        self._begun = 0  # requests of any kind since the start
        self._large = 0
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
        self, table: RoutingTable, deployed: dict[tuple[str, str], Deployed], failed: dict[str, str]
    ) -> None:
        """Answer by this table from now on, and wake what waited for it."""
        self._deployed = deployed
        by_name: dict[str, Deployed | None] = {}
        for (namespace, name), entry in deployed.items():
            if namespace == DEFAULT_NAMESPACE or name not in by_name:
                by_name[name] = entry
            elif (other := by_name[name]) is None or other.namespace != DEFAULT_NAMESPACE:
                by_name[name] = None
        self._by_name = by_name
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

    def report_held(self) -> None:
        """Tell control, anew, which services wait and up to which event time."""
        for (namespace, name), waiting in self._waiting.items():
            times = [event_us for future, event_us in waiting.futures.items() if not future.done()]
            if times:
                waiting.reported_us = max(times)
                self._on_held(namespace, name, waiting.reported_us)

    def find(self, name: str) -> Deployed:
        """Return the service of this name: that in the default namespace, or the only one. Raises NotFoundError, UnavailableError."""
        entry = self._by_name.get(name)
        if entry is not None:
            return entry
        if name in self._by_name:
            raise NotFoundError(
                f"there are several services {name!r} and none in the namespace {DEFAULT_NAMESPACE!r}",
                where=name,
                mend="Give one of them another name.",
            )
        for failed, reason in self.failed.items():
            if failed.split("/")[1] == name:
                raise UnavailableError(f"the service {name!r} could not load its model: {reason}", where=failed)
        if self.generation == 0:
            raise UnavailableError("no routing table has been read yet", mend="Try again in a moment.")
        raise NotFoundError(
            f"there is no service {name!r}", where=name, mend=f"Served are {', '.join(self._by_name) or 'none yet'}."
        )

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
        answers fails, UnavailableError where the request cannot be logged or waited too long.
        """
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
            for prediction, row, label, observed_us in labels:
                self._writer.write(
                    Label(prediction=prediction, row=row, label=label, observed_us=observed_us, arrival_us=arrival_us)
                )
            await self._writer.synced()
        finally:
            self._busy -= 1
        self._metrics.feedback(len(labels))
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
            self._metrics.held(+1)
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
                self._metrics.held(-1)
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
        rows = _Rows(question, deployed)
        try:
            count = rows.of(version).rows
        except InvalidSpecError:
            if version == deployed.service.champion or asked is not None:
                raise
            # Rows that are right for the champion and not for its challenger are the challenger's failure, not the caller's.
            count = rows.of(deployed.service.champion).rows
        scorers = deployed.scorers if version in deployed.scorers else (version, *deployed.scorers)
        if count > ROWS_IN_THE_LOOP:
            answers, failures = await self._score_apart(deployed, scorers, rows)
        else:
            answers, failures = _score(deployed, scorers, rows)
        if version in failures and asked is None:
            version, reason = deployed.service.champion, "champion"
        model = deployed.models[version]
        record = Prediction(
            id=identity,
            alias=question.alias,
            namespace=deployed.namespace,
            service=deployed.name,
            arrival_us=arrival_us,
            event_us=arrival_us if event_us is None else event_us,
            columns=model.layout.names,
            rows=model.layout.values(rows.of(version)),
            version=version,
            reason=reason,
            answers=answers,
            failures=failures,
            latency_us=self._clock.now_us() - arrival_us,
        )
        try:
            self._writer.write(record)
            if deployed.service.payload_mode == "durable":
                await self._writer.synced()
        except UnavailableError:
            self._metrics.logged("failed")
            raise
        self._metrics.logged("written")
        for failed in failures:
            if failed != version:
                self._metrics.shadow_failed(deployed.namespace, deployed.name, failed)
        if version in failures:
            raise ScoringFailedError(
                f"version {version} of {deployed.name!r} failed: {failures[version]}", where=identity
            )
        return Answered(identity, version, model, answers[version], record.latency_us)

    async def _score_apart(
        self, deployed: Deployed, scorers: tuple[str, ...], rows: _Rows
    ) -> tuple[dict[str, tuple[Answer, ...]], dict[str, str]]:
        if self._large >= LARGEST_WORK:
            raise TooManyError(
                f"{self._large} large requests are being scored", where=deployed.name, mend="Send it again later."
            )
        self._large += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(None, _score, deployed, scorers, rows)
        finally:
            self._large -= 1


class _Rows:
    """The rows of one question, laid out once for all versions that take the same columns."""

    __slots__ = ("_batches", "_deployed", "_question")

    def __init__(self, question: Question, deployed: Deployed) -> None:
        self._question = question
        self._deployed = deployed
        self._batches: dict[int, Batch] = {}

    def of(self, version: str) -> Batch:
        """The rows as a version takes them. Raises InvalidSpecError."""
        group = self._deployed.groups[version]
        batch = self._batches.get(group)
        if batch is None:
            batch = self._question.batch(self._deployed.models[version].layout, self._deployed.columns)
            self._batches[group] = batch
        return batch


def _score(
    deployed: Deployed, scorers: tuple[str, ...], rows: _Rows
) -> tuple[dict[str, tuple[Answer, ...]], dict[str, str]]:
    """Let every scorer answer the same rows: the answers, and for each that failed the reason."""
    answers: dict[str, tuple[Answer, ...]] = {}
    failures: dict[str, str] = {}
    for scorer in scorers:
        try:
            answers[scorer] = deployed.models[scorer].score(rows.of(scorer))
        except GoldenloopError as error:
            failures[scorer] = str(error)
    return answers, failures
