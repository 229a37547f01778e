"""Seeded worlds in which the whole ring turns on a fake clock.

Everything of control is real: database, reconcilers, ticks, rollouts, analyst, routing. What costs time is a stand-in that says the
truth about itself: a model is a rule with a known error rate in each regime of the world, a run trains one in virtual time, and an
assessment reads its verdict from the rule. A control process may die at any numbered point between two effects on the outside.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection, event, select, update

from goldenloop.control.memory import RolloutMemory
from goldenloop.control.progress import ROLLOUT
from goldenloop.control.replaying import InProcessRouter, Journal, Replayed, ReplayRow, ReplayWorld
from goldenloop.control.ring import Ring
from goldenloop.control.view import LOOP, LoopView
from goldenloop.control.work.records import Assessed, Assessment, Preparation, Prepared
from goldenloop.control.world import World
from goldenloop.core.clock import HOUR, MINUTE, SECOND, VirtualClock
from goldenloop.core.errors import GoldenloopError, InvalidSpecError
from goldenloop.core.ids import digest_text, uuid7
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import Verdict
from goldenloop.core.routing import RoutingTable
from goldenloop.core.signatures import Column, Signature
from goldenloop.features.schema import ColumnSchema, Schema
from goldenloop.monitors.analyst import LogAnalyst
from goldenloop.monitors.reference import Reference, split_watch
from goldenloop.monitors.windows import choose_size
from goldenloop.payloads.records import Answer
from goldenloop.pipelines.runs import MODEL, artifact_record
from goldenloop.pipelines.standard import load_auto
from goldenloop.rollouts.decide import earned_steps
from goldenloop.standards.pipeline_ir import FromTask, read_pipeline
from goldenloop.standards.tabular import Batch, Layout
from goldenloop.store import memories, resources
from goldenloop.store.artifacts import Artifacts
from goldenloop.store.database import Database, sqlite_url
from goldenloop.store.tables import (
    artifact_tasks,
    artifacts,
    decisions,
    evaluations,
    measurements,
    runs,
    tasks,
    timeline,
)
from goldenloop.store.tables import versions as version_table

ORIGIN_US = 1_000 * HOUR
NAMESPACE, LOOP_NAME = "default", "sim"
SIGNATURE = Signature(
    inputs=tuple(Column(name=name, kind="number") for name in ("x", "noise", "regime", "truth")),
    task="classification",
    classes=("0", "1"),
)
SCHEMA = Schema(
    columns=tuple(ColumnSchema(name=name, kind="number", reason="given", stored="double") for name in SIGNATURE.names),
    label="label",
    label_reason="given",
    task="classification",
    task_reason="given",
    classes=("0", "1"),
)
REFERENCE_WINDOWS = 30
_IDS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A model whose error rate is known: `errors[r]` in regime r, the last one in all later regimes."""

    errors: tuple[float, ...]
    salt: float
    trained_in: int = 0
    loads: bool = True  # whether a worker can load it
    fails: float = 0.0  # the share of requests at which it breaks

    def error_in(self, regime: int) -> float:
        return self.errors[min(regime, len(self.errors) - 1)]


class RuleModel:
    """A rule as workers hold it: it knows the truth and is wrong as often as it should be."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.signature = SIGNATURE
        self.layout = Layout(SIGNATURE)

    def score(self, batch: Batch) -> tuple[Answer, ...]:
        _, noise, regime, truth = batch.numbers.T
        luck = (noise * 7919.0 + self.rule.salt) % 1.0
        if self.rule.fails and bool(np.any((noise * 104729.0) % 1.0 < self.rule.fails)):
            raise GoldenloopError("the rule broke")
        errors = np.array([self.rule.error_in(int(each)) for each in regime])
        said = np.where(luck < errors, 1 - truth, truth).astype(int)
        return tuple((str(value), (0.9, 0.1) if value == 0 else (0.1, 0.9)) for value in said.tolist())


def load_rule(folder: Path) -> RuleModel:
    rule = msgspec.json.decode((folder / "rule.json").read_bytes(), type=Rule)
    if not rule.loads:
        raise InvalidSpecError("the file is no model", where=str(folder))
    return RuleModel(rule)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A world: what the stream does, how labels come, and what runs give.

    `train(number, regime)` is the rule that the number-th run (from 0, the first version) trains while the world is in a regime; None
    where the run fails. `regime(window)` is the chance of each row of a window to lie in the next regime: 0.0 all in regime 0, 1.5 half
    in regime 1 and half in regime 2.
    """

    train: Callable[[int, int], Rule | None]
    regime: Callable[[int], float] = lambda _: 0.0
    season: Callable[[int], float] = lambda _: 0.0  # moves x, and nothing else
    windows: int = 40
    rows_per_window: int = 40
    label_delay_us: int = HOUR
    missing_labels: float = 0.0
    biased_delay: bool = False  # labels 1 come at once, labels 0 when they are due
    strict_gate: bool = True
    broken_preparations: frozenset[int] = frozenset()  # numbers of the runs whose data cannot be prepared
    spec: JsonObject = field(default_factory=dict)
    replay: bool = True

    def document(self) -> JsonObject:
        spec: JsonObject = {
            "data": {"source": "past.parquet", "label": "label"},
            "labels": {"delay": f"{self.label_delay_us // SECOND}s"},
            "windows": {"size": "1h"},
            "replay": self.replay,
            "retrain": {"falseAlarmWindows": 50, "cooldown": "1h", "maxRunsPerDay": 8, "minNewLabels": 20},
            "rollout": {"maxDuration": "1d"},
        }
        return {
            "apiVersion": "goldenloop.dev/v1alpha1",
            "kind": "Loop",
            "metadata": {"name": LOOP_NAME},
            "spec": {**spec, **self.spec},
        }

    def rows(self, seed: int) -> list[ReplayRow]:
        generator = np.random.default_rng(seed)
        found = []
        for window in range(self.windows):
            level = self.regime(window)
            for place in range(self.rows_per_window):
                event_us = ORIGIN_US + window * HOUR + place * (HOUR // self.rows_per_window)
                truth = int(generator.random() < 0.5)
                regime = int(level) + int(generator.random() < level % 1)
                features = {
                    "x": float(generator.normal() + self.season(window)),
                    "noise": float(generator.random()),
                    "regime": float(regime),
                    "truth": float(truth),
                }
                label = None if generator.random() < self.missing_labels else str(truth)
                delay_us = 0 if self.biased_delay and truth == 1 else self.label_delay_us
                found.append(ReplayRow(event_us, features, label, event_us + delay_us))
        return found

    def regime_at(self, event_us: int | None) -> int:
        window = 0 if event_us is None else max(0, (event_us - ORIGIN_US) // HOUR)
        return round(self.regime(window))


class Crash(BaseException):
    """The control process is gone, at this very point. Not an Exception: nobody handles it."""


class Points:
    """Numbered points at which control may die. `deaths` are the numbers at which it does."""

    def __init__(self, deaths: frozenset[int] = frozenset()) -> None:
        self.passed = 0
        self.deaths = deaths

    def reach(self) -> None:
        self.passed += 1
        if self.passed in self.deaths:
            raise Crash


class MortalDatabase(Database):
    """Control may die before a transaction is kept, and just after."""

    def __init__(self, url: str, points: Points) -> None:
        super().__init__(url)
        self._points = points
        event.listen(self.engine, "connect", _careless)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with super().write() as transaction:
            yield transaction
            self._points.reach()
        self._points.reach()


class MortalRouter:
    """Control's side of the router; the router itself outlives control."""

    def __init__(self, router: InProcessRouter, points: Points) -> None:
        self._router = router
        self._points = points

    def publish(self, table: RoutingTable) -> None:
        self._points.reach()
        self._router.publish(table)
        self._points.reach()

    def held(self, namespace: str, service: str) -> tuple[int, int] | None:
        return self._router.held(namespace, service)

    def settle(self) -> bool:
        return self._router.settle()

    def failures(self) -> dict[str, str]:
        return self._router.failures()


class RuleRuns:
    """Runs that take virtual time and train rules. Knows nothing but what is in the database."""

    DURATION_US = 10 * SECOND

    def __init__(self, database: Database, kept: Artifacts, clock: VirtualClock, scenario: Scenario) -> None:
        self._database = database
        self._kept = kept
        self._clock = clock
        self._scenario = scenario

    def advance(self) -> bool:
        now_us = self._clock.now_us()
        with self._database.read() as transaction:
            listed = transaction.execute(select(runs).order_by(runs.c.created_us, runs.c.id)).mappings().all()
        moved = False
        for number, run in enumerate(listed):
            if run["state"] == "PENDING":
                self._set(run["id"], {"state": "RUNNING", "started_us": now_us})
                moved = True
            elif run["state"] == "RUNNING" and now_us - run["started_us"] >= self.DURATION_US:
                self._end(number, run["id"], run["event_us"], now_us)
                moved = True
        return moved

    def _set(self, run: str, values: dict[str, object]) -> None:
        with self._database.write() as transaction:
            transaction.execute(update(runs).where(runs.c.id == run).values(**values))

    def _end(self, number: int, run: str, event_us: int | None, now_us: int) -> None:
        regime = 0 if number == 0 else self._scenario.regime_at(event_us)
        rule = self._scenario.train(number, regime)
        if rule is None:
            self._set(run, {"state": "FAILED", "finished_us": now_us, "error": "the step died"})
            return
        address = self._kept.put_bytes(msgspec.json.encode(msgspec.structs.replace(rule, trained_in=regime)))
        task, port = _model_port()
        record = artifact_record(MODEL, "model", address, {}, now_us=now_us)
        row = {
            "id": uuid7(),
            "run_id": run,
            "name": task,
            "component": "train",
            "state": "SUCCEEDED",
            "outputs": {"parameters": {}, "artifacts": {port: [record["id"]]}},
            "finished_us": now_us,
        }
        link = {"task_id": row["id"], "direction": "OUTPUT", "port": port, "artifact_id": record["id"]}
        with self._database.write() as transaction:
            transaction.execute(tasks.insert().values(**row))
            transaction.execute(artifacts.insert().values(**record))
            transaction.execute(artifact_tasks.insert().values(**link))
            transaction.execute(update(runs).where(runs.c.id == run).values(state="SUCCEEDED", finished_us=now_us))


class RuleJobs:
    """Preparation and assessment, honest and quick. A job takes one look; it may be asked for again after a crash."""

    def __init__(self, folder: Path, points: Points, scenario: Scenario) -> None:
        self._folder = folder
        self._points = points
        self._scenario = scenario
        self._begun: set[str] = set()

    def result(self, key: str, kind: str, request: msgspec.Struct) -> msgspec.Raw | GoldenloopError | None:
        self._points.reach()
        if key not in self._begun:
            self._begun.add(key)
            return None
        folder = self.folder(key)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            made = self._make(kind, request, folder)
        except GoldenloopError as error:
            return error
        return msgspec.Raw(msgspec.json.encode(made))

    def forget(self, key: str) -> None:
        self._points.reach()
        self._begun.discard(key)
        shutil.rmtree(self.folder(key), ignore_errors=True)

    def folder(self, key: str) -> Path:
        return self._folder / digest_text(key)[:16]

    def _make(self, kind: str, request: msgspec.Struct, folder: Path) -> msgspec.Struct:
        if kind == "prepare":
            assert isinstance(request, Preparation)
            return self._prepare(request, folder)
        assert isinstance(request, Assessment)
        return self._assess(request, folder)

    def _prepare(self, request: Preparation, folder: Path) -> Prepared:
        if request.schema is not None and request.until_us is not None:
            for broken in self._scenario.broken_preparations:
                if request.until_us // HOUR == (ORIGIN_US + broken * HOUR) // HOUR:
                    raise InvalidSpecError("the source is gone", where="spec.data.source")
        for name in ("data", "evaluation"):
            pq.write_table(pa.table({"x": [1.0]}), folder / f"{name}.parquet")
        until_us = request.until_us if request.until_us is not None else ORIGIN_US
        return Prepared(
            schema=SCHEMA,
            task="classification",
            metric="accuracy",
            label="label",
            timestamp="",
            choices={},
            size=choose_size(request.windows_size, None),
            data=str(folder / "data.parquet"),
            evaluation=str(folder / "evaluation.parquet"),
            history=None,
            data_version={"rows": 1},
            trained_until_us=until_us,
        )

    def _assess(self, request: Assessment, folder: Path) -> Assessed:
        rule = msgspec.json.decode(Path(request.model).read_bytes(), type=Rule)
        better = True
        if request.champion is not None and self._scenario.strict_gate:
            champion = msgspec.json.decode((Path(request.champion) / "rule.json").read_bytes(), type=Rule)
            better = rule.error_in(rule.trained_in) <= champion.error_in(rule.trained_in)
        served = folder / "served"
        served.mkdir(exist_ok=True)
        (served / "rule.json").write_bytes(msgspec.json.encode(rule))
        expected = rule.error_in(rule.trained_in)
        (served / "reference.json").write_bytes(_reference(expected, self._scenario.rows_per_window))
        return Assessed(
            verdict=Verdict.PASS if better else Verdict.FAIL,
            reason="the rule is no worse" if better else "the rule is worse",
            evidence={},
            folder=str(served),
            digest=digest_text(msgspec.json.encode(rule).decode()),
            signature=SIGNATURE,
            conversion={},
            metrics={},
            expected_loss=expected,
        )


class Simulation:
    """One world from a seed. Control can be killed and started again; the stream and the router go on."""

    def __init__(self, folder: Path, scenario: Scenario, *, deaths: frozenset[int] = frozenset()) -> None:
        self.scenario = scenario
        self.points = Points()
        self.deaths = 0
        self.turns = 0
        self._folder = folder
        self._journal = Journal()
        self.clock = VirtualClock(ORIGIN_US)
        self.router = InProcessRouter(self._journal, self.clock, load_model=load_rule)  # type: ignore[arg-type]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_empty_database(folder.parent), folder / "state.db")
        self.world, self._ring = self._control()
        with self.world.database.write() as transaction:
            resources.create(transaction, LOOP, NAMESPACE, scenario.document(), now_us=ORIGIN_US)
        self.points.deaths = frozenset(self.points.passed + death for death in deaths)
        self.replay = ReplayWorld(
            world=self.world,
            router=self.router,
            clock=self.clock,
            namespace=NAMESPACE,
            loop=LOOP_NAME,
            ring=self,  # type: ignore[arg-type]
            wait=lambda: self.clock.advance(SECOND),
            on_turn=self.check_safety,
        )

    # a ring that may die

    def advance(self) -> bool:
        self.turns += 1
        try:
            return self._ring.advance()
        except Crash:
            self.deaths += 1
            self.world.database.close()
            self.world, self._ring = self._control()
            self.replay.world = self.world
            return True

    def _control(self) -> tuple[World, Ring]:
        """A control process: nothing of an earlier one but the database, the artifacts and the table in force."""
        database = MortalDatabase(sqlite_url(self._folder / "state.db"), self.points)
        kept = Artifacts(str(self._folder / "artifacts"), cache=self._folder / "cache")
        world = World(
            database=database,
            artifacts=kept,
            clock=self.clock,
            runs=RuleRuns(database, kept, self.clock, self.scenario),
            jobs=RuleJobs(self._folder / "jobs", self.points, self.scenario),
            analyst=LogAnalyst(self._journal.reader()),
            router=MortalRouter(self.router, self.points),
        )
        return world, Ring(world, self.router.table)

    # the stream

    def go(self, rows: list[ReplayRow], *, portion: int | None = None) -> Replayed:
        """Send all rows, in one go or in portions, and end. Live loops get a look after every few rows."""
        self.replay.begin()
        if self.scenario.replay:
            for start in range(0, len(rows), portion or len(rows)):
                self.replay.send(rows[start : start + (portion or len(rows))])
            self.replay.finish()
        else:
            self._go_live(rows)
        return self.replay.result()

    def _go_live(self, rows: list[ReplayRow]) -> None:
        due: list[tuple[int, str, str]] = []
        look_every_us = 15 * MINUTE
        look_us = 0
        for row in rows:
            self.clock.advance(max(0, row.event_us - self.clock.now_us()))
            answered = self.router.answer(NAMESPACE, LOOP_NAME, [row])[0]
            if row.label is not None and row.known_us is not None:
                due.append((row.known_us, answered.prediction, str(row.label)))
            for known_us, prediction, label in [each for each in due if each[0] <= row.event_us]:
                self.router.label(prediction, label, known_us)
            due = [each for each in due if each[0] > row.event_us]
            if row.event_us >= look_us:
                self.advance()
                self.check_safety()
                look_us = row.event_us + look_every_us
        for _ in range(20):
            self.clock.advance(look_every_us)
            self.advance()
            self.check_safety()

    # what must hold at every moment

    def check_safety(self) -> None:
        with self.world.database.read() as transaction:
            listed = transaction.execute(select(version_table.c.number, version_table.c.state))
            states = {row.number: row.state for row in listed}
            golden = [number for number, state in states.items() if state == "Golden"]
            assert len(golden) <= 1, "two golden versions"
            passed = select(evaluations.c.challenger).where(evaluations.c.verdict == "pass")
            blessed = set(transaction.execute(passed).scalars())
            assert set(golden) <= blessed, "a version is golden that nobody blessed"
            quarantined = {str(number) for number, state in states.items() if state == "Quarantined"}
            for service in self.router.table.services:
                serving = {service.champion, *service.shadows, *(route.version for route in service.routes)}
                assert not serving & quarantined, "a quarantined version is served"
            started = transaction.execute(select(runs.c.cause_key)).scalars().all()
            assert len(started) == len(set(started)), "two runs of one cause"
            rollout = memories.recall(transaction, NAMESPACE, LOOP_NAME, ROLLOUT, RolloutMemory)
            if rollout is not None:
                self._check_share(transaction, rollout)

    def _check_share(self, transaction: Connection, rollout: RolloutMemory) -> None:
        view = LoopView.of(resources.get(transaction, LOOP, NAMESPACE, LOOP_NAME))
        terms = view.terms(rollout.alpha)
        best = max((float(point["benefit"]) for point in rollout.state.history), default=0.0)
        free = 0 if view.spec.rollout.shadow and not view.spec.labels.feedback else 1
        assert rollout.state.step <= max(free, earned_steps(best, terms)), "a share that was not earned"
        allowed = terms.shares[rollout.state.step - 1] if rollout.state.step else 0.0
        for service in self.router.table.services:
            assert sum(route.percent for route in service.routes) <= allowed, "more traffic than was earned"

    def check_history(self) -> None:
        """What must hold of everything that happened."""
        with self.world.database.read() as transaction:
            measured = transaction.execute(
                select(measurements.c.monitor, measurements.c.metric, measurements.c.feature, measurements.c.window)
            ).all()
            assert len(measured) == len(set(measured)), "a window was measured twice"
            promoted = select(timeline.c.facts, timeline.c.text).where(timeline.c.kind == "Promoted")
            for row in transaction.execute(promoted):
                earned = "by hand" in row.text or row.facts["benefit"] >= row.facts["threshold"]
                assert earned, "a promotion without evidence"
            unsettled = transaction.execute(select(decisions.c.id).where(decisions.c.fired, ~decisions.c.settled)).all()
            assert not unsettled, "a cause was forgotten"


def story(result: Replayed) -> list[tuple[str, str, str]]:
    """The timeline as kind, event time and text, without ids."""
    return [(str(line["kind"]), str(line["at"]), _IDS.sub("ID", str(line["text"]))) for line in result.timeline]


def kinds(result: Replayed) -> list[str]:
    return [str(line["kind"]) for line in result.timeline]


def simulate(
    folder: Path,
    scenario: Scenario,
    seed: int,
    *,
    deaths: frozenset[int] = frozenset(),
    portion: int | None = None,
    rows: list[ReplayRow] | None = None,
) -> tuple[Replayed, Simulation]:
    """One world, from its first row to its last decision, with every safety rule checked."""
    simulation = Simulation(folder, scenario, deaths=deaths)
    result = simulation.go(scenario.rows(seed) if rows is None else rows, portion=portion)
    simulation.check_history()
    return result, simulation


@cache
def _model_port() -> tuple[str, str]:
    scope = read_pipeline(load_auto()).root.scope
    assert scope is not None
    model = scope.artifacts["model"]
    assert isinstance(model, FromTask)
    return model.task, model.name


@cache
def _reference(expected: float, rows: int) -> bytes:
    """What is usual for a rule of this error rate, in windows of so many rows."""
    generator = np.random.default_rng(17)
    count = REFERENCE_WINDOWS * rows
    places = [np.arange(index * rows, (index + 1) * rows) for index in range(REFERENCE_WINDOWS)]
    said = np.array([str(int(value)) for value in generator.random(count) < 0.5], dtype=object)
    losses = generator.binomial(rows, expected, REFERENCE_WINDOWS) / rows - expected
    reference = Reference(
        task="classification",
        features=split_watch({"x": generator.normal(size=count)}, {"x": "number"}, places),
        answers=split_watch(
            {"class": said, "confidence": np.full(count, 0.9)}, {"class": "category", "confidence": "number"}, places
        ),
        loss_scale=1.0,
        usual_loss=expected,
        expected_loss=expected,
        loss_windows=tuple(float(loss) for loss in losses),
    )
    return msgspec.json.encode(reference)


_templates: dict[Path, Path] = {}


def _empty_database(folder: Path) -> Path:
    """A migrated database to copy: migrating takes longer than most worlds live."""
    if folder not in _templates:
        path = folder / "empty.db"
        database = Database(sqlite_url(path))
        database.migrate()
        with database.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        database.close()
        _templates[folder] = path
    return _templates[folder]


def _careless(connection: object, _record: object) -> None:
    """A simulation loses no power."""
    connection.execute("PRAGMA synchronous = OFF")  # type: ignore[attr-defined]
