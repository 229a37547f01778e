"""What a loop would have done: a recorded stream replayed through the real decisions on a virtual clock, beside simpler policies.

The first part of the stream is the warm-up: the first version is trained on it, as a loop's data source. The rest arrives row by row in
its own time; labels become known when the stream says (`label_timestamp`), or after the loop's delay. Windows are numbered from the start
of the stream.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import select

from goldenloop.control.memory import LoopMemory
from goldenloop.control.progress import MEMORY
from goldenloop.control.replaying import LocalReplay, Replayed, ReplayedRow, ReplayRow, ReplayWorld
from goldenloop.control.work.records import Comparison
from goldenloop.core.clock import MINUTE, SECOND, from_text, to_text
from goldenloop.core.durations import parse_duration
from goldenloop.core.errors import GoldenloopError, InvalidSpecError, UnavailableError
from goldenloop.core.json import Json, JsonObject
from goldenloop.core.signatures import Task
from goldenloop.features.schema import Schema, event_times, infer_schema
from goldenloop.features.times import parse_times
from goldenloop.lineage.baselines import Baseline, Baselines
from goldenloop.monitors.windows import grid_for
from goldenloop.pipelines.runs import model_file, outputs
from goldenloop.registry import versions
from goldenloop.standards.documents import convert
from goldenloop.standards.loop import LoopSpec
from goldenloop.stats.losses import metrics
from goldenloop.store import memories
from goldenloop.store.tables import runs

LOOP_POLICY = "loop"  # the Loop as it is written
LABEL_TIMESTAMP = "label_timestamp"
WARM_UP = 0.25  # of the rows
FEWEST_ROWS = 100  # of the warm-up
_COMPARISON_SECONDS = 3_600.0
_ROW_TIMES = "row_time"  # the column that numbers rows where the stream has no time: one a second
_ROW_ORIGIN_US = from_text("2000-01-01T00:00:00Z")
_KINDS = {
    "drift": "data drift",
    "multivariateDrift": "data drift",
    "predictionDrift": "prediction drift",
    "performance": "concept drift",
    "conceptDrift": "concept drift",
}  # of other monitors the name says it


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """One alarm or warning: what watched, the feature (empty where it is no single one), the statistic and what it passed."""

    monitor: str
    feature: str
    kind: str
    value: float | None
    threshold: float | None


class Window(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One window: `alarms` are those under the promise, `warnings` the fast track's. `run` is the id of the run that began in it."""

    index: int
    start: str
    end: str
    rows: int
    alarms: tuple[Alarm, ...] = ()
    warnings: tuple[Alarm, ...] = ()
    triggered: bool = False
    run: str | None = None
    promoted: bool = False
    rolled_back: bool = False


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The metric of a policy, over all rows after the warm-up and by window (None: no labels)."""

    overall: float | None
    windows: tuple[float | None, ...]


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """The loop beside never retraining and retraining at every `every`-th window, all on the same rows."""

    metric: str
    loop: Policy
    never: Policy
    periodic: Policy


class Backtest(msgspec.Struct, frozen=True, kw_only=True):
    """What would have happened. `runs` counts triggered retrainings, not the first training."""

    windows: tuple[Window, ...]
    runs: int
    promotions: int
    rollbacks: int
    quality: Quality


@dataclass(frozen=True, slots=True)
class Told:
    """A backtest, and what a report shows beside it."""

    backtest: Backtest
    replayed: Replayed
    warm_up_rows: int
    warm_up_windows: int
    live_rows: int
    every: int
    periodic_runs: int
    policy: str = LOOP_POLICY  # what stands in the loop's place


@dataclass(frozen=True, slots=True)
class Stream:
    """A recorded stream in the order of its time, cut in two."""

    table: pa.Table
    schema: Schema
    times: np.ndarray
    known_us: np.ndarray | None  # when each label became known, if the stream says
    live: int  # the number of the first row after the warm-up

    @staticmethod
    def of(table: pa.Table, spec: LoopSpec, *, warm_up: float) -> Stream:
        """Infer what the columns are, order the rows and cut off the warm-up. Raises InvalidSpecError."""
        if not 0.01 <= warm_up <= 0.9:
            raise InvalidSpecError(
                f"{warm_up} is not a part of the stream", where="--warm-up", mend="Give 0.25, for example."
            )
        known_us = None
        if LABEL_TIMESTAMP in table.column_names:
            known_us, _ = parse_times(table.column(LABEL_TIMESTAMP), name=LABEL_TIMESTAMP)
            table = table.drop_columns([LABEL_TIMESTAMP])
        data = spec.data
        timestamp = data.timestamp or ("timestamp" if "timestamp" in table.column_names else None)

        def infer(named: str | None) -> Schema:
            return infer_schema(
                table,
                label=None if data.label == "auto" else data.label,
                timestamp=named,
                subject=data.subject,
                protected=data.protected,
                task=spec.task,
            )

        schema = infer(timestamp)
        if schema.timestamp is None:
            moments = _ROW_ORIGIN_US + np.arange(len(table), dtype=np.int64) * SECOND
            table = table.append_column(_ROW_TIMES, pa.array(moments, type=pa.timestamp("us", tz="UTC")))
            schema = infer(_ROW_TIMES)
        times = event_times(table, schema)
        order = times.argsort(kind="stable")
        live = int(len(table) * warm_up)
        if live < FEWEST_ROWS or len(table) - live < 1:
            raise InvalidSpecError(
                f"the stream has {len(table)} rows; {live} of them are the warm-up",
                where="--data",
                mend=f"Give a longer stream, or a larger --warm-up: at least {FEWEST_ROWS} rows are needed to begin.",
            )
        # Rows of one moment are not torn apart: the warm-up ends before the first of them.
        ordered = times[order]
        live = int(np.searchsorted(ordered, ordered[live], side="left")) or live
        return Stream(table.take(pa.array(order)), schema, ordered, None if known_us is None else known_us[order], live)

    def rows(self) -> list[ReplayRow]:
        """The rows after the warm-up."""
        names = [column.name for column in self.schema.inputs]
        live = self.table.slice(self.live)
        columns = [live.column(name).to_pylist() for name in names]
        labels = live.column(self.schema.label).to_pylist()
        made = []
        for place, (event_us, values, label) in enumerate(
            zip(self.times[self.live :].tolist(), zip(*columns, strict=True), labels, strict=True)
        ):
            known_us = None if self.known_us is None else int(self.known_us[self.live + place])
            made.append(ReplayRow(event_us, dict(zip(names, values, strict=True)), label, known_us))
        return made


@dataclass(slots=True)
class _Answers:
    """The label and the loop's answer of every labelled row."""

    times: list[int] = field(default_factory=list)
    labels: list[object] = field(default_factory=list)
    answers: list[object] = field(default_factory=list)

    def add(self, answered: ReplayedRow) -> None:
        if answered.row.label is not None and answered.answer is not None:
            self.times.append(answered.row.event_us)
            self.labels.append(answered.row.label)
            self.answers.append(answered.answer[0])


def backtest(
    document: JsonObject,
    stream: Stream,
    *,
    folder: Path,
    every: int = 1,
    policy: str = LOOP_POLICY,
    rollout: Literal["gated", "instant"] = "gated",
    on_row: Callable[[int], None] | None = None,
) -> Told:
    """Replay a stream through a loop. `document` is a Loop whose pipeline is compiled; its data source becomes the warm-up.

    `policy` is one of `goldenloop.triggers.policies.NAMES`. With an `instant` rollout it is tried alone: what it trains answers from
    the next window on. The loop's own policy is then what going on costs.

    Raises InvalidSpecError for a wrong document or stream, UnavailableError where there is no first version, with the reason.
    """
    if every < 1:
        raise InvalidSpecError(f"every {every} windows is no policy", where="--every", mend="Give 1 or more.")
    folder.mkdir(parents=True, exist_ok=True)
    document = _with_source(document, stream, folder)
    if rollout == "gated":
        document = _with_policy(document, policy)
    spec = convert(document["spec"], LoopSpec)
    seen = _Answers()
    count = 0

    def on_answered(answered: ReplayedRow) -> None:
        nonlocal count
        seen.add(answered)
        count += 1
        if on_row is not None:
            on_row(count)

    with LocalReplay(
        document, folder=folder / "home", delivery_us=MINUTE, start_us=int(stream.times[stream.live])
    ) as replay:
        replay.begin()
        if rollout == "instant":
            named = "cost" if policy == LOOP_POLICY else policy
            return _alone(replay, stream, spec, named, folder=folder, every=every)
        replay.send(stream.rows(), on_answered)
        replay.finish()
        replayed = replay.result()
        memory = _memory(replay)
        starts = _starts(stream, memory)
        baselines = _compare(replay, stream, spec, memory, starts, folder=folder, every=every)
        with replay.world.database.read() as transaction:
            mine = (runs.c.namespace == replay.namespace, runs.c.loop == replay.loop)
            triggered = [
                row
                for row in transaction.execute(select(runs.c.id, runs.c.event_us, runs.c.cause).where(*mine)).all()
                if row.cause.get("kind") != "first"
            ]
    offset = _offset(stream, memory)
    windows = _windows(stream, memory, starts, offset, replayed, {row.id: row.event_us for row in triggered})
    nothing = (None,) * offset
    quality = Quality(
        metric=memory.metric,
        loop=_policy(seen, memory.metric, memory.task, starts, nothing),
        never=_of_baseline(baselines.policies["never"], nothing),
        periodic=_of_baseline(baselines.policies["periodic"], nothing),
    )
    return Told(
        backtest=Backtest(
            windows=windows,
            runs=len(triggered),
            promotions=replayed.promotions,
            rollbacks=replayed.rollbacks,
            quality=quality,
        ),
        replayed=replayed,
        warm_up_rows=stream.live,
        warm_up_windows=offset,
        live_rows=len(stream.times) - stream.live,
        every=every,
        periodic_runs=baselines.policies["periodic"].runs,
    )


def _alone(replay: ReplayWorld, stream: Stream, spec: LoopSpec, policy: str, *, folder: Path, every: int) -> Told:
    """A policy without rollouts: nothing is replayed but what it would have seen."""
    with replay.world.database.read() as transaction:
        memory = memories.recall(transaction, replay.namespace, replay.loop, MEMORY, LoopMemory)
    assert memory is not None  # the first version is there
    memory = msgspec.structs.replace(memory, grid=grid_for(memory.size, int(stream.times[stream.live])))
    starts = _starts(stream, memory)
    baselines = _compare(replay, stream, spec, memory, starts, folder=folder, every=every, policy=policy)
    chosen = baselines.policies["chosen"]
    replayed = msgspec.structs.replace(replay.result(), timeline=())
    offset = _offset(stream, memory)
    nothing = (None,) * offset
    trained = {offset + window: f"{policy}-{number}" for number, window in enumerate(chosen.trained, start=1)}
    windows = tuple(
        msgspec.structs.replace(window, triggered=True, run=trained[window.index], promoted=True)
        if window.index in trained
        else window
        for window in _windows(stream, memory, starts, offset, replayed, {})
    )
    quality = Quality(
        metric=memory.metric,
        loop=_of_baseline(chosen, nothing),
        never=_of_baseline(baselines.policies["never"], nothing),
        periodic=_of_baseline(baselines.policies["periodic"], nothing),
    )
    return Told(
        backtest=Backtest(windows=windows, runs=chosen.runs, promotions=chosen.runs, rollbacks=0, quality=quality),
        replayed=replayed,
        warm_up_rows=stream.live,
        warm_up_windows=offset,
        live_rows=len(stream.times) - stream.live,
        every=every,
        periodic_runs=baselines.policies["periodic"].runs,
        policy=policy,
    )


def _of_baseline(baseline: Baseline, nothing: tuple[None, ...]) -> Policy:
    return Policy(overall=baseline.overall, windows=(*nothing, *baseline.windows))


def _with_policy(document: JsonObject, policy: str) -> JsonObject:
    """The Loop with a policy of this name in the place of its own. Raises InvalidSpecError for one that knows no rollouts."""
    if policy == LOOP_POLICY:
        return document
    spec = document["spec"]
    assert isinstance(spec, dict)
    given = spec.get("retrain")
    retrain: JsonObject = dict(given) if isinstance(given, dict) else {}
    retrain["reasons"], retrain["triggers"] = [], []
    if policy == "cost":
        retrain["reasons"] = ["cost"]
    elif policy.startswith("accuracy<"):
        below = msgspec.json.decode(policy.removeprefix("accuracy<"))
        retrain["triggers"] = [{"metric": "accuracy", "below": below}]
    elif policy != "never":
        raise InvalidSpecError(
            f"{policy!r} is not a policy that goes through rollouts",
            where="--policy",
            mend="Try it alone, with --rollout instant; loop, cost, never and accuracy<X go through rollouts.",
        )
    return {**document, "spec": {**spec, "retrain": retrain}}


def _with_source(document: JsonObject, stream: Stream, folder: Path) -> JsonObject:
    history = folder / "warm-up.parquet"
    pq.write_table(stream.table.slice(0, stream.live), history)
    spec = document["spec"]
    assert isinstance(spec, dict)
    data = spec.get("data")
    assert isinstance(data, dict)
    given: JsonObject = {
        **data, "source": str(history), "label": stream.schema.label, "timestamp": stream.schema.timestamp,
    }  # fmt: skip
    return {**document, "spec": {**spec, "data": given}}


def _memory(replay: ReplayWorld) -> LoopMemory:
    with replay.world.database.read() as transaction:
        memory = memories.recall(transaction, replay.namespace, replay.loop, MEMORY, LoopMemory)
    if memory is None or memory.grid is None:
        raise UnavailableError("the loop has not begun", where=f"loops/{replay.loop}", mend="Give a longer stream.")
    return memory


def _starts(stream: Stream, memory: LoopMemory) -> list[int]:
    """When each window after the warm-up begins, and, last, when the last one ends."""
    grid = memory.grid
    assert grid is not None  # `_memory` saw to it
    times = stream.times[stream.live :]
    if grid.size_us is not None:
        count = int((times[-1] - grid.origin_us) // grid.size_us) + 1
        return [grid.origin_us + index * grid.size_us for index in range(count + 1)]
    assert grid.rows is not None
    return [int(times[place]) for place in range(0, len(times), grid.rows)] + [int(times[-1]) + 1]


def _offset(stream: Stream, memory: LoopMemory) -> int:
    """How many windows the warm-up has."""
    grid = memory.grid
    assert grid is not None  # `_memory` saw to it
    if grid.size_us is not None:
        return int(-(-(grid.origin_us - int(stream.times[0])) // grid.size_us))
    assert grid.rows is not None
    return -(-stream.live // grid.rows)


def _windows(
    stream: Stream,
    memory: LoopMemory,
    starts: list[int],
    offset: int,
    replayed: Replayed,
    triggered: Mapping[str, int],
) -> tuple[Window, ...]:
    grid = memory.grid
    assert grid is not None  # `_memory` saw to it
    if grid.size_us is not None:
        earlier = [starts[0] - (offset - index) * grid.size_us for index in range(offset)]
    else:
        assert grid.rows is not None
        earlier = [int(stream.times[max(0, stream.live - (offset - index) * grid.rows)]) for index in range(offset)]
    edges = [*earlier, *starts]
    counts = np.histogram(stream.times, bins=np.array(edges))[0] if len(edges) > 1 else np.zeros(0)
    alarms: dict[int, list[Alarm]] = {}
    warnings: dict[int, list[Alarm]] = {}
    moved: dict[str, set[int]] = {"Promoted": set(), "RolledBack": set(), "Trigger": set()}

    def window_at(event_us: int) -> int:
        return min(max(int(np.searchsorted(edges, event_us, side="right")) - 1, 0), len(edges) - 2)

    for line in replayed.timeline:
        kind, facts = str(line["kind"]), line.get("facts")
        assert isinstance(facts, dict)
        if kind in ("Alarm", "Warning"):
            into = alarms if kind == "Alarm" else warnings
            into.setdefault(offset + int(str(facts["window"])), []).extend(_alarms(facts))
        elif kind in moved:
            moved[kind].add(window_at(from_text(str(line["at"]))))
    begun = {window_at(event_us): run for run, event_us in triggered.items()}
    return tuple(
        Window(
            index=index,
            start=to_text(edges[index]),
            end=to_text(edges[index + 1]),
            rows=int(counts[index]),
            alarms=tuple(alarms.get(index, ())),
            warnings=tuple(warnings.get(index, ())),
            triggered=index in moved["Trigger"],
            run=begun.get(index),
            promoted=index in moved["Promoted"],
            rolled_back=index in moved["RolledBack"],
        )
        for index in range(len(edges) - 1)
    )


def _alarms(facts: JsonObject) -> list[Alarm]:
    monitor = str(facts["monitor"])
    named = facts.get("features")
    features = [str(name) for name in named] if isinstance(named, list) and named else [""]
    return [
        Alarm(
            monitor=monitor,
            feature=feature,
            kind=_KINDS.get(monitor, monitor),
            value=_number(facts.get("value")),
            threshold=_number(facts.get("threshold")),
        )
        for feature in features
    ]


def _number(value: Json) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _policy(seen: _Answers, metric: str, task: Task, starts: list[int], nothing: tuple[None, ...]) -> Policy:
    times = np.array(seen.times, dtype=np.int64)
    labels, answers = np.empty(len(times), dtype=object), np.empty(len(times), dtype=object)
    labels[:], answers[:] = seen.labels, seen.answers

    def measured(rows: np.ndarray) -> float | None:
        return metrics(task, labels[rows], answers[rows]).get(metric) if len(rows) else None

    places = np.searchsorted(np.array(starts), times, side="right") - 1
    by_window = tuple(measured(np.flatnonzero(places == index)) for index in range(len(starts) - 1))
    return Policy(overall=measured(np.arange(len(times))), windows=(*nothing, *by_window))


def _compare(
    replay: ReplayWorld,
    stream: Stream,
    spec: LoopSpec,
    memory: LoopMemory,
    starts: list[int],
    *,
    folder: Path,
    every: int,
    policy: str = "",
) -> Baselines:
    """What simpler policies would have reached, in a process of its own: it loads the loop's own estimator."""
    world = replay.world
    with world.database.read() as transaction:
        first = versions.get(transaction, replay.namespace, replay.loop, 1)
        assert first.run_id is not None  # a loop's versions come from runs
        models = [each for each in outputs(transaction, first.run_id) if each.type == "system.Model"]
    if not models:
        raise UnavailableError("the first run gave no model", where=str(first.run_id))
    place = folder / "comparison"
    place.mkdir(exist_ok=True)
    pq.write_table(stream.table, place / "stream.parquet")
    request = Comparison(
        stream=str(place / "stream.parquet"),
        estimator=str(model_file(world.artifacts, models[-1].uri)),
        first_version=str(world.artifacts.local(first.folder)),
        schema=stream.schema,
        metric=memory.metric,
        starts_us=tuple(starts),
        every=every,
        policy=policy,
        retrain=spec.retrain,
        span_us=None if spec.data.window == "all" else parse_duration(spec.data.window),
        delay_us=parse_duration(spec.labels.delay),
        known_us=None if stream.known_us is None else tuple(stream.known_us.tolist()),
    )
    (place / "request.json").write_bytes(msgspec.json.encode(request))
    command = [sys.executable, "-m", "goldenloop.control.work.main", "baselines", str(place)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMPARISON_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"the other policies took longer than {_COMPARISON_SECONDS:.0f} s") from None
    response = place / "response.json"
    if not response.exists():
        raise GoldenloopError(
            f"the other policies could not be computed: {done.stderr.decode(errors='replace')[-500:]}",
            mend="Is the model a scikit-learn estimator?",
        )
    return msgspec.json.decode(response.read_bytes(), type=Baselines)
