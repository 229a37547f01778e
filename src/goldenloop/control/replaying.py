"""Replaying a recorded stream without servers: the same ring, on a clock that follows the stream.

What differs from the running platform is only who carries things from here to there: requests are answered in this process by the table
in force, the payload log is a list, and time is what the rows say. Models, windows, alarms, runs, assessments and rollouts are the real
ones, and a row waits wherever the platform would let its request wait, so the same rows lead to the same decisions at the same event
times. Two differences are left, and neither reaches a decision about data or evidence: latencies are those of this process, and which
single requests fall into a canary's share depends on their ids.
"""

from __future__ import annotations

import heapq
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import msgspec
from sqlalchemy import event, func, select

from goldenloop.control.jobs import LocalJobs, SharedExecutor
from goldenloop.control.memory import LoopMemory
from goldenloop.control.progress import MEMORY
from goldenloop.control.ring import Ring
from goldenloop.control.runs import under_way
from goldenloop.control.view import LOOP, LoopView
from goldenloop.control.world import World
from goldenloop.core.clock import MINUTE, SECOND, SystemClock, VirtualClock, to_text
from goldenloop.core.errors import GoldenloopError, InvalidSpecError, UnavailableError
from goldenloop.core.json import Json, JsonObject
from goldenloop.core.routing import RoutingTable, Service
from goldenloop.lineage import timeline
from goldenloop.monitors.analyst import LogAnalyst
from goldenloop.payloads.records import Answer, Label, Prediction, Record, Value
from goldenloop.pipelines.engine import Engine
from goldenloop.pipelines.local import LocalExecutor
from goldenloop.pipelines.zygote import PREIMPORTED
from goldenloop.registry import versions
from goldenloop.serving.dataplane import Deployed
from goldenloop.serving.scorers import LocalScorer, Scorer
from goldenloop.serving.scoring import TableModel
from goldenloop.serving.unconverted import load_version
from goldenloop.standards.tabular import Batch, Layout
from goldenloop.store import memories, resources
from goldenloop.store.artifacts import Artifacts
from goldenloop.store.database import Database, Transaction, sqlite_url
from goldenloop.store.tables import measurements, runs

LONGEST_WAIT_SECONDS = 1_800.0  # for what a row waits for; a run may take a while
_ROWS_AT_ONCE = 256  # rows that are scored together, where nothing is decided between them
_LOOK_SECONDS = 0.25
_STANDSTILLS = 3  # looks in a row that change nothing while a row waits and nothing is under way
_PARALLEL_STEPS = 2
_ORIGIN_US = 1_000_000  # of the virtual clock, where there are no rows
_JOBS_IMPORT = ("skl2onnx", "onnxruntime", "goldenloop.control.work.prepare", "goldenloop.control.work.assess")
_TIMELINE_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class ReplayRow:
    """A row of a stream: when it happened, its features by name, what turned out to be true, and when that became known.

    `label` None: never known. `known_us` None: when the replay's own delay and delivery say.
    """

    event_us: int
    features: dict[str, Json]
    label: Value = None
    known_us: int | None = None


@dataclass(frozen=True, slots=True)
class ReplayedRow:
    """What was answered to a row, by which version; `answer` None where every version failed."""

    row: ReplayRow
    prediction: str
    version: str
    answer: Answer | None


class WindowQuality(msgspec.Struct, frozen=True, kw_only=True):
    """The loop's metric on one window; None where too few labels were known in time."""

    window: int
    start_us: int
    end_us: int
    version: str
    labelled: int
    value: float | None


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay led to. `metric` names the quality; `windows` were closed, with or without labels."""

    timeline: tuple[JsonObject, ...]
    metric: str
    quality: tuple[WindowQuality, ...]
    rows: int
    windows: int
    runs: int
    promotions: int
    rollbacks: int
    champion: str | None


class Journal:
    """The payload log of a replay: a list. Each reader gets every record once, from the first."""

    def __init__(self) -> None:
        self._records: list[Record] = []

    def __len__(self) -> int:
        return len(self._records)

    def append(self, record: Record) -> None:
        """Keep a record."""
        self._records.append(record)

    def reader(self) -> Callable[[], list[Record]]:
        """A function that returns what was appended since its last call."""
        place = 0

        def read() -> list[Record]:
            nonlocal place
            found = self._records[place:]
            place += len(found)
            return found

        return read


class InProcessRouter:
    """Answers requests by the table in force; see `goldenloop.control.world.Router` and `goldenloop.serving.tables`.

    It outlives whoever publishes to it, as inference workers outlive a control process.
    """

    def __init__(
        self, journal: Journal, clock: VirtualClock, *, load_model: Callable[[Path], TableModel] = load_version
    ) -> None:
        self.table = RoutingTable(generation=0)
        self._journal = journal
        self._clock = clock
        self._load = load_model
        self._models: dict[tuple[str, str], Scorer] = {}
        self._deployed: dict[tuple[str, str], Deployed] = {}
        self._failures: dict[str, str] = {}
        self._waiting: dict[tuple[str, str], int] = {}
        self._answered = 0

    # control's side

    def publish(self, table: RoutingTable) -> None:
        reasons: dict[tuple[str, str], str] = {}
        for service in table.services:
            for served in service.versions:
                key = (served.path, served.digest)
                if key not in self._models and key not in reasons:
                    try:
                        self._models[key] = LocalScorer.of_table(self._load(Path(served.path)))
                    except GoldenloopError as error:
                        reasons[key] = str(error)
        deployed: dict[tuple[str, str], Deployed] = {}
        failures: dict[str, str] = {}
        for service in table.services:
            name = (service.namespace, service.name)
            wrong = {
                each.version: reasons[key] for each in service.versions if (key := (each.path, each.digest)) in reasons
            }
            failures |= {f"{service.namespace}/{service.name}/{version}": why for version, why in wrong.items()}
            if not wrong:
                models = {each.version: self._models[each.path, each.digest] for each in service.versions}
                deployed[name] = Deployed(service, models)
            elif name in self._deployed:
                deployed[name] = self._deployed[name]  # a service with a version that does not load stays as it was
        self.table, self._deployed, self._failures = table, deployed, failures

    def held(self, namespace: str, service: str) -> tuple[int, int] | None:
        event_us = self._waiting.get((namespace, service))
        return None if event_us is None else (event_us, event_us)

    def settle(self) -> bool:
        """Nothing is ever half-way here."""
        return True

    def failures(self) -> dict[str, str]:
        return dict(self._failures)

    def workers(self) -> int:
        return 1

    def serving(self, generation: int) -> bool:
        return self.table.generation >= generation

    def wanted(self) -> dict[tuple[str, str], bool]:
        """Nobody asks here to load or to unload anything."""
        return {}

    def written_down(self, wanted: dict[tuple[str, str], bool]) -> None:
        """There is nothing to write down."""

    # the sender's side

    def service(self, namespace: str, name: str) -> Service | None:
        """The service as it answers now, or None."""
        deployed = self._deployed.get((namespace, name))
        return None if deployed is None else deployed.service

    def must_wait(self, namespace: str, name: str, event_us: int) -> bool:
        """Whether a request of this event time waits: for the service itself, or for control."""
        service = self.service(namespace, name)
        if service is None:
            return True
        return service.hold_from_us is not None and event_us >= service.hold_from_us

    def wait_with(self, namespace: str, name: str, event_us: int | None) -> None:
        """Tell control which event time waits; None: nothing does."""
        if event_us is None:
            self._waiting.pop((namespace, name), None)
        else:
            self._waiting[namespace, name] = event_us

    def answer(self, namespace: str, name: str, rows: Sequence[ReplayRow]) -> list[ReplayedRow]:
        """Score and log rows that need not wait: one request a row. Raises InvalidSpecError for rows that the champion cannot take."""
        deployed = self._deployed[namespace, name]
        features = [row.features for row in rows]
        batches: dict[int, Batch | None] = {}
        for version in deployed.scorers:
            group = deployed.groups[version]
            if group not in batches:
                batches[group] = self._laid_out(deployed, version, features)
        scored = {version: self._score(deployed, version, batches, len(rows)) for version in deployed.scorers}
        return [self._log(deployed, row, place, batches, scored) for place, row in enumerate(rows)]

    def label(self, prediction: str, label: Value, observed_us: int) -> None:
        """Log the truth about a request."""
        arrival_us = self._clock.now_us()
        self._journal.append(
            Label(prediction=prediction, row=0, label=label, observed_us=observed_us, arrival_us=arrival_us)
        )

    def _laid_out(self, deployed: Deployed, version: str, features: list[dict[str, Json]]) -> Batch | None:
        layout = _layout(deployed, version)
        try:
            return layout.from_rows(features, where="rows", also=deployed.columns)
        except InvalidSpecError:
            if version == deployed.service.champion:
                raise
            return None

    def _score(
        self, deployed: Deployed, version: str, batches: dict[int, Batch | None], count: int
    ) -> list[Answer | str]:
        """One answer a row, or the reason why there is none."""
        batch, scorer = batches[deployed.groups[version]], deployed.models[version]
        if batch is None:
            return ["the rows do not fit this version"] * count
        try:
            return list(_answers(scorer, batch))
        except GoldenloopError:
            found: list[Answer | str] = []
            for place in range(count):
                one = Batch(1, batch.numbers[place : place + 1], batch.texts[place : place + 1])
                try:
                    found += _answers(scorer, one)
                except GoldenloopError as error:
                    found.append(str(error))
            return found

    def _log(
        self,
        deployed: Deployed,
        row: ReplayRow,
        place: int,
        batches: dict[int, Batch | None],
        scored: dict[str, list[Answer | str]],
    ) -> ReplayedRow:
        self._answered += 1
        # In the order of the rows, as ids of real requests are in the order of their arrival.
        identity = f"{self._answered >> 16:08x}-{self._answered & 0xFFFF:04x}-7000-8000-000000000000"
        version, reason = deployed.choose(asked=None, identity=identity, route_key=None)
        given = {scorer: answers[place] for scorer, answers in scored.items()}
        answers: dict[str, tuple[Answer, ...]] = {
            scorer: (found,) for scorer, found in given.items() if not isinstance(found, str)
        }
        failures = {scorer: found for scorer, found in given.items() if isinstance(found, str)}
        if version in failures:
            version, reason = deployed.service.champion, "fallback"
        batch = batches[deployed.groups[version]]
        assert batch is not None  # the champion's rows fit, and a version whose rows do not has failed
        one = Batch(1, batch.numbers[place : place + 1], batch.texts[place : place + 1])
        self._journal.append(
            Prediction(
                id=identity,
                alias=None,
                namespace=deployed.namespace,
                service=deployed.name,
                arrival_us=self._clock.now_us(),
                event_us=row.event_us,
                columns=deployed.models[version].columns,
                rows=1,
                numbers=one.numbers.tobytes(),
                texts=tuple(one.texts.ravel().tolist()),
                version=version,
                reason=reason,
                answers=answers,
                failures=failures,
                latency_us=0,
            )
        )
        found = answers.get(version)
        return ReplayedRow(row, identity, version, None if found is None else found[0])


def _layout(deployed: Deployed, version: str) -> Layout:
    layout = deployed.models[version].layout
    assert layout is not None  # loops make models of tables
    return layout


def _answers(scorer: Scorer, batch: Batch) -> tuple[Answer, ...]:
    answers = scorer.score(batch)
    assert isinstance(answers, tuple)  # as of every table
    return answers


@dataclass(slots=True)
class ReplayWorld:
    """A loop, its ring and its stream in one process. `wait` lets what is under way go on, and the clock with it.

    Rows are sent in the order of their event time; a row that would wait on the platform turns the ring until it may pass.
    """

    world: World
    router: InProcessRouter
    clock: VirtualClock
    namespace: str
    loop: str
    ring: Ring
    wait: Callable[[], None]
    delay_us: int = 0
    delivery_us: int = 1
    on_turn: Callable[[], None] = lambda: None
    _due: list[tuple[int, int, str, Value]] = field(default_factory=list)
    _labels: int = 0
    _sent: int = 0

    def begin(self) -> None:
        """Turn the ring until the first version answers. Raises GoldenloopError with the reason where there will be none."""
        self._turn_until(
            lambda: self.router.service(self.namespace, self.loop) is not None, "the loop has no first version"
        )

    def send(self, rows: Iterable[ReplayRow], on_answered: Callable[[ReplayedRow], None] | None = None) -> int:
        """Send rows, and the labels that are known by then; return how many rows were sent. May be called again with what follows.

        Raises InvalidSpecError where a row lies before the one sent last, or the champion cannot take it.
        """
        if isinstance(rows, Sequence):
            self._foresee(rows)
        sent = 0
        together: list[ReplayRow] = []
        last_us: int | None = None
        for row in rows:
            if last_us is not None and row.event_us < last_us:
                raise InvalidSpecError(
                    f"row {sent + len(together)} happened at {to_text(row.event_us)}, before the one above it",
                    where="rows",
                    mend="Sort the stream by its event time.",
                )
            last_us = row.event_us
            labels_are_due = bool(self._due) and self._due[0][0] <= row.event_us
            waits = self.router.must_wait(self.namespace, self.loop, row.event_us)
            if together and (waits or labels_are_due or len(together) == _ROWS_AT_ONCE):
                sent += self._answer(together, on_answered)
                together = []
            self._send_labels(row.event_us)
            if self.router.must_wait(self.namespace, self.loop, row.event_us):
                self._hold(row.event_us)
            together.append(row)
        if together:
            sent += self._answer(together, on_answered)
        return sent

    def _foresee(self, rows: Sequence[ReplayRow]) -> None:
        """Let control know when rows will happen: where it counts rows, it need not feel its way to the end of a window."""
        first = self._sent
        moments = [row.event_us for row in rows]

        def foresee(namespace: str, service: str, place: int) -> int | None:
            mine = (namespace, service) == (self.namespace, self.loop)
            return moments[place - first] if mine and 0 <= place - first < len(moments) else None

        self.world.foresee = foresee

    def finish(self) -> None:
        """Send the labels that are still due, and turn the ring until nothing is left to do."""
        self._send_labels(None)
        self._turn_until(lambda: False, "", ends_when_still=True)

    def result(self) -> Replayed:
        """What the replay has led to so far."""
        with self.world.database.read() as transaction:
            told = _whole_timeline(transaction, self.namespace, self.loop)
            memory = memories.recall(transaction, self.namespace, self.loop, MEMORY, LoopMemory)
            golden = versions.golden(transaction, self.namespace, self.loop)
            metric = "" if memory is None else memory.metric
            quality = _quality(transaction, self.namespace, self.loop, metric)
            mine = (runs.c.namespace == self.namespace, runs.c.loop == self.loop)
            count = transaction.scalar(select(func.count()).select_from(runs).where(*mine)) or 0
        summary = self.world.analyst.sync().get(f"{self.namespace}/{self.loop}")
        return Replayed(
            timeline=tuple(told),
            metric=metric,
            quality=quality,
            rows=0 if summary is None else summary.rows,
            windows=0 if memory is None else memory.closed,
            runs=count,
            promotions=sum(1 for line in told if line["kind"] == "Promoted"),
            rollbacks=sum(1 for line in told if line["kind"] == "RolledBack"),
            champion=None if golden is None else golden.name,
        )

    def _answer(self, rows: list[ReplayRow], on_answered: Callable[[ReplayedRow], None] | None) -> int:
        self.clock.advance(max(0, rows[-1].event_us - self.clock.now_us()))
        for answered in self.router.answer(self.namespace, self.loop, rows):
            row = answered.row
            if row.label is not None:
                known_us = row.known_us
                if known_us is None:
                    known_us = -(-(row.event_us + self.delay_us) // self.delivery_us) * self.delivery_us
                heapq.heappush(self._due, (known_us, self._labels, answered.prediction, row.label))
                self._labels += 1
            if on_answered is not None:
                on_answered(answered)
        self._sent += len(rows)
        return len(rows)

    def _send_labels(self, until_us: int | None) -> None:
        while self._due and (until_us is None or self._due[0][0] <= until_us):
            known_us, _, prediction, label = heapq.heappop(self._due)
            self.router.label(prediction, label, known_us)

    def _hold(self, event_us: int) -> None:
        self.router.wait_with(self.namespace, self.loop, event_us)
        self._turn_until(
            lambda: not self.router.must_wait(self.namespace, self.loop, event_us),
            f"the loop does not decide what lies before {to_text(event_us)}",
        )
        self.router.wait_with(self.namespace, self.loop, None)

    def _turn_until(self, reached: Callable[[], bool], trouble: str, *, ends_when_still: bool = False) -> None:
        end = time.monotonic() + LONGEST_WAIT_SECONDS
        still = 0
        while not reached():
            moved = self.ring.advance()
            self.on_turn()
            if moved:
                still = 0
                continue
            if self._is_busy():
                self.wait()
            else:
                still += 1
                if ends_when_still and still == _STANDSTILLS:
                    return
                if still == _STANDSTILLS or time.monotonic() > end:
                    raise UnavailableError(
                        f"{trouble}: {self._last_trouble()}", where=f"loops/{self.loop}", mend="The timeline says more."
                    )
                # What is looked at once a second is due then.
                self.clock.advance(SECOND)

    def _is_busy(self) -> bool:
        with self.world.database.read() as transaction:
            view = LoopView.of(resources.get(transaction, LOOP, self.namespace, self.loop))
            return bool(under_way(transaction, view))

    def _last_trouble(self) -> str:
        with self.world.database.read() as transaction:
            told = _whole_timeline(transaction, self.namespace, self.loop)
        troubles = [str(line["text"]) for line in told if line["kind"] in ("Error", "RunFailed", "Refused")]
        return troubles[-1] if troubles else "nothing says why"


class LocalReplay:
    """A `ReplayWorld` with a database, artifacts and step processes of its own in a folder. Close it, or use it with `with`."""

    def __init__(
        self,
        document: JsonObject,
        *,
        folder: Path,
        executor: LocalExecutor | None = None,
        delivery_us: int = 1,
        start_us: int = _ORIGIN_US,
    ) -> None:
        """`document` is a Loop as it is applied, its pipeline compiled. An `executor` that is given stays open.

        Raises InvalidSpecError for a document that is no Loop.
        """
        self._executor = executor or LocalExecutor(preimported=(*PREIMPORTED, *_JOBS_IMPORT))
        self._owns_executor = executor is None
        folder.mkdir(parents=True, exist_ok=True)
        self._database = Database(sqlite_url(folder / "state.db"))
        event.listen(self._database.engine, "connect", _without_sync)
        self._database.migrate()
        shared = SharedExecutor(self._executor)
        clock, journal = VirtualClock(start_us), Journal()
        artifacts = Artifacts(str(folder / "artifacts"), cache=folder / "cache")
        engine = Engine(
            self._database,
            artifacts,
            shared.side(jobs=False),
            clock,
            folder=folder,
            parallelism=_PARALLEL_STEPS,
        )
        router = InProcessRouter(journal, clock)
        world = World(
            database=self._database,
            artifacts=artifacts,
            clock=clock,
            runs=engine,
            jobs=LocalJobs(shared.side(jobs=True), folder / "jobs"),
            analyst=LogAnalyst(journal.reader()),
            router=router,
            has_people=False,
        )
        view = create_loop(world, document)

        def wait() -> None:
            begun = time.monotonic()
            engine.wait(_LOOK_SECONDS)
            clock.advance(round((time.monotonic() - begun) * SECOND))

        self.replay = ReplayWorld(
            world=world,
            router=router,
            clock=clock,
            namespace=view.namespace,
            loop=view.name,
            # What is looked at once a second is what a person may have changed, and people live by the wall clock.
            ring=Ring(world, router.table, unwatched=SystemClock()),
            wait=wait,
            delay_us=view.label_delay_us,
            delivery_us=delivery_us,
        )

    def __enter__(self) -> ReplayWorld:
        return self.replay

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database, and end the step processes if they are its own."""
        if self._owns_executor:
            self._executor.close()
        self._database.close()


def replay_rows(
    document: JsonObject,
    rows: Sequence[ReplayRow],
    *,
    folder: Path,
    executor: LocalExecutor | None = None,
    delay_us: int | None = None,
    delivery_us: int = MINUTE,
    on_answered: Callable[[ReplayedRow], None] | None = None,
) -> Replayed:
    """Replay rows through a loop, from its first version to the last decision that they allow.

    `document` is a Loop as it is applied: its pipeline compiled (or `auto`), its source readable; it replays whatever it says itself. The
    label of a row is known `delay_us` after it (None: the loop's own delay) and comes with the next delivery, one every `delivery_us`,
    unless the row says when. What it makes lies in `folder`.

    Raises InvalidSpecError for a wrong document or wrong rows, UnavailableError where there is no first version, with the reason.
    """
    start_us = rows[0].event_us if rows else _ORIGIN_US
    with LocalReplay(document, folder=folder, executor=executor, delivery_us=delivery_us, start_us=start_us) as replay:
        if delay_us is not None:
            replay.delay_us = delay_us
        replay.begin()
        replay.send(rows, on_answered)
        replay.finish()
        return replay.result()


def create_loop(world: World, document: JsonObject) -> LoopView:
    """Keep a Loop that replays, as if it had been applied. Raises InvalidSpecError."""
    spec = document.get("spec")
    if not isinstance(spec, dict):
        raise InvalidSpecError("there is no spec", where="spec", mend="Give a Loop as it is applied.")
    kept: JsonObject = {**document, "spec": {**spec, "replay": True}}
    namespace = str(resources.metadata_of(document).get("namespace", "default"))
    with world.database.write() as transaction:
        return LoopView.of(resources.create(transaction, LOOP, namespace, kept, now_us=world.clock.now_us()))


def _without_sync(connection: sqlite3.Connection, _record: object) -> None:
    """A replay that dies is begun anew: nothing of it has to outlive a power cut."""
    connection.execute("PRAGMA synchronous = OFF")


def _whole_timeline(transaction: Transaction, namespace: str, loop: str) -> list[JsonObject]:
    told: list[JsonObject] = []
    after = 0
    while page := timeline.read(transaction, namespace, loop, after=after, limit=_TIMELINE_PAGE):
        told += page
        after = int(str(page[-1]["sequence"]))
    return told


def _quality(transaction: Transaction, namespace: str, loop: str, metric: str) -> tuple[WindowQuality, ...]:
    query = (
        select(measurements)
        .where(
            measurements.c.namespace == namespace,
            measurements.c.loop == loop,
            measurements.c.monitor == "performance",
            measurements.c.metric == metric,
            measurements.c.slice == "",
        )
        .order_by(measurements.c.window)
    )
    return tuple(
        WindowQuality(
            window=row.window,
            start_us=row.start_us,
            end_us=row.end_us,
            version=row.version,
            labelled=row.rows,
            value=row.value,
        )
        for row in transaction.execute(query)
    )
