"""A loop's report, gathered from what is on record: measurements, the timeline, runs and objectives.

It counts back from the end of the last window that was measured, not from now: a loop runs on event time, and the report of a replayed
year says the same whenever it is read. A monitor's findings are those of the last window that it measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
from sqlalchemy import func, select
from sqlalchemy.engine import Row

from goldenloop.control.memory import LoopMemory
from goldenloop.control.progress import MEMORY
from goldenloop.core.clock import SECOND, to_text
from goldenloop.core.errors import NotFoundError
from goldenloop.core.json import Json, JsonObject
from goldenloop.core.phases import Verdict
from goldenloop.standards.kubernetes import kind_named
from goldenloop.store import memories, resources
from goldenloop.store.database import Transaction
from goldenloop.store.tables import measurements, runs, timeline, versions

DEFAULT_SPAN = "30d"
_FINDINGS_SHOWN = 60  # of one monitor, those that fail first
_TRENDS_SHOWN = 24
_POINTS_SHOWN = 2_000  # windows of one trend, the last
_HAPPENINGS_SHOWN = 200
_RUNS_SHOWN = 50
_FEATURES_SHOWN = 15
_STOOD_OUT = ("Alarm", "Warning", "SchemaBroken")
_ORDER = (Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE, Verdict.PASS)


class Measured(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One measurement of a monitor's last window."""

    monitor: str
    metric: str
    feature: str
    slice: str
    value: float | None
    low: float | None
    high: float | None
    threshold: float | None
    verdict: Verdict
    note: str
    window: int
    version: str


class Monitored(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a monitor said last, and how many of its measurements each verdict had since the report begins."""

    monitor: str
    verdict: Verdict
    window: int
    end: str
    rows: int
    verdicts: dict[str, int]
    findings: tuple[Measured, ...]


class Point(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A value at the end of a window."""

    window: int
    end: str
    value: float | None
    low: float | None = None
    high: float | None = None
    threshold: float | None = None


class Trend(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A measurement of all rows over the windows."""

    monitor: str
    metric: str
    points: tuple[Point, ...]


class Happening(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A line of the timeline."""

    at: str
    kind: str
    text: str
    window: int | None


class Ran(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A run of the loop's pipeline, and how long it took on the wall clock."""

    id: str
    state: str
    cause: str
    at: str
    seconds: float | None


class LoopReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a report says. `start` and `end` are None where nothing has been measured."""

    namespace: str
    loop: str
    golden: int | None
    start: str | None
    end: str | None
    windows: int
    metric: str
    quality: tuple[Point, ...]
    monitors: tuple[Monitored, ...]
    trends: tuple[Trend, ...]
    stood_out: tuple[Happening, ...]  # alarms and warnings, the newest first
    counts: dict[str, int]  # of every kind of line of the timeline
    named_features: tuple[tuple[str, int], ...]
    actions: tuple[Happening, ...]  # what the loop did, the newest first
    objectives: tuple[JsonObject, ...]
    runs: tuple[Ran, ...]
    run_count: int
    run_seconds: float


def report_of(transaction: Transaction, namespace: str, loop: str, *, span_us: int) -> LoopReport:
    """Gather the report of the last `span_us` of event time. Raises NotFoundError where there is no such loop."""
    if resources.find(transaction, kind_named("loops"), namespace, loop) is None:
        raise NotFoundError(f"there is no loop {loop!r}", where=namespace, mend="See: goldenloop get loops.")
    memory = memories.recall(transaction, namespace, loop, MEMORY, LoopMemory)
    metric = "accuracy" if memory is None else memory.metric
    mine = (measurements.c.namespace == namespace, measurements.c.loop == loop)
    end_us = transaction.scalar(select(func.max(measurements.c.end_us)).where(*mine))
    since = measurements.c.end_us > (0 if end_us is None else end_us - span_us)
    overall = transaction.execute(
        select(measurements)
        .where(*mine, since, measurements.c.feature == "", measurements.c.slice == "")
        .order_by(measurements.c.window, measurements.c.id)
    ).all()
    lines = _lines(transaction, namespace, loop, None if end_us is None else end_us - span_us)
    happenings = [_happening(row) for row in reversed(lines)]
    ran, count, seconds = _runs(transaction, namespace, loop, None if end_us is None else end_us - span_us)
    return LoopReport(
        namespace=namespace,
        loop=loop,
        golden=transaction.scalar(
            select(versions.c.number).where(
                versions.c.namespace == namespace, versions.c.model == loop, versions.c.state == "Golden"
            )
        ),
        start=to_text(min(row.start_us for row in overall)) if overall else None,
        end=None if end_us is None else to_text(end_us),
        windows=len({row.window for row in overall}),
        metric=metric,
        quality=_quality(overall, metric),
        monitors=_monitors(transaction, namespace, loop, overall),
        trends=_trends(overall, metric),
        stood_out=tuple(each for each in happenings if each.kind in _STOOD_OUT)[:_HAPPENINGS_SHOWN],
        counts=dict(sorted(Counter(row.kind for row in lines).items())),
        named_features=_named(lines),
        actions=tuple(each for each in happenings if each.kind not in _STOOD_OUT)[:_HAPPENINGS_SHOWN],
        objectives=_objectives(transaction, namespace, loop),
        runs=ran,
        run_count=count,
        run_seconds=seconds,
    )


def _quality(rows: Sequence[Row[tuple[object, ...]]], metric: str) -> tuple[Point, ...]:
    """The loop's metric with its interval: in one measurement, or in three as earlier releases wrote it."""
    found: dict[int, dict[str, Json]] = {}
    for row in rows:
        if row.monitor != "performance" or row.metric not in (metric, f"{metric}_low", f"{metric}_high"):
            continue
        point = found.setdefault(row.window, {"window": row.window, "end": to_text(row.end_us), "value": None})
        if row.metric == metric:
            point["value"] = row.value
            point.setdefault("low", row.low)
            point.setdefault("high", row.high)
        else:
            point[row.metric.removeprefix(f"{metric}_")] = row.value
    return tuple(msgspec.convert(point, Point) for point in list(found.values())[-_POINTS_SHOWN:])


def _monitors(
    transaction: Transaction, namespace: str, loop: str, overall: Sequence[Row[tuple[object, ...]]]
) -> tuple[Monitored, ...]:
    """Every monitor with what it found in the last window of its own: labels are due later than windows close."""
    last: dict[str, int] = {}
    verdicts: dict[str, Counter[str]] = {}
    for row in overall:
        last[row.monitor] = max(last.get(row.monitor, 0), row.window)
        verdicts.setdefault(row.monitor, Counter())[row.verdict] += 1
    found = []
    for monitor, window in last.items():
        rows = transaction.execute(
            select(measurements)
            .where(measurements.c.namespace == namespace, measurements.c.loop == loop)
            .where(measurements.c.monitor == monitor, measurements.c.window == window)
            .order_by(measurements.c.id)
        ).all()
        findings = sorted(
            (_measured(row) for row in rows),
            key=lambda each: (bool(each.feature or each.slice), _ORDER.index(each.verdict)),
        )
        worst = min((each.verdict for each in findings if not each.feature and not each.slice), key=_ORDER.index)
        found.append(
            Monitored(
                monitor=monitor,
                verdict=worst,
                window=window,
                end=to_text(rows[0].end_us),
                rows=rows[0].rows,
                verdicts=dict(verdicts[monitor]),
                findings=tuple(findings[:_FINDINGS_SHOWN]),
            )
        )
    return tuple(sorted(found, key=lambda each: (_ORDER.index(each.verdict), each.monitor)))


def _measured(row: Row[tuple[object, ...]]) -> Measured:
    named = {name: getattr(row, name) for name in Measured.__struct_fields__ if name != "verdict"}
    return Measured(**named, verdict=Verdict(row.verdict))


def _trends(rows: Sequence[Row[tuple[object, ...]]], metric: str) -> tuple[Trend, ...]:
    found: dict[tuple[str, str], list[Point]] = {}
    for row in rows:
        if row.monitor == "performance" and row.metric.startswith(metric):
            continue  # the plot of quality
        point = Point(
            window=row.window,
            end=to_text(row.end_us),
            value=row.value,
            low=row.low,
            high=row.high,
            threshold=row.threshold,
        )
        found.setdefault((row.monitor, row.metric), []).append(point)
    drawn = {key: points for key, points in found.items() if sum(point.value is not None for point in points) > 1}
    # What is held against something first: a statistic with its threshold says more than a bare number.
    ranked = sorted(drawn, key=lambda key: (all(point.threshold is None for point in drawn[key]), key))
    return tuple(
        Trend(monitor=key[0], metric=key[1], points=tuple(drawn[key][-_POINTS_SHOWN:]))
        for key in ranked[:_TRENDS_SHOWN]
    )


def _lines(
    transaction: Transaction, namespace: str, loop: str, since_us: int | None
) -> Sequence[Row[tuple[object, ...]]]:
    query = select(timeline).where(timeline.c.namespace == namespace, timeline.c.loop == loop)
    if since_us is not None:
        query = query.where(timeline.c.event_us > since_us)
    return transaction.execute(query.order_by(timeline.c.sequence)).all()


def _happening(row: Row[tuple[object, ...]]) -> Happening:
    window = row.facts.get("window")
    return Happening(
        at=to_text(row.event_us), kind=row.kind, text=row.text, window=window if isinstance(window, int) else None
    )


def _named(lines: Sequence[Row[tuple[object, ...]]]) -> tuple[tuple[str, int], ...]:
    """The features that alarms and warnings named, with how often."""
    named: Counter[str] = Counter()
    for row in lines:
        features = row.facts.get("features")
        if row.kind in _STOOD_OUT and isinstance(features, list):
            named.update(str(feature) for feature in features)
    return tuple(sorted(named.items(), key=lambda item: (-item[1], item[0]))[:_FEATURES_SHOWN])


def _objectives(transaction: Transaction, namespace: str, loop: str) -> tuple[JsonObject, ...]:
    """Where the loop's objectives stand, as the status of its SLOs says."""
    found: list[JsonObject] = []
    for document in resources.listing(transaction, kind_named("slos"), namespace):
        spec, status = document["spec"], document.get("status")
        stand = status.get("objectives") if isinstance(status, dict) else None
        if isinstance(spec, dict) and spec.get("service") == loop and isinstance(stand, list):
            name = resources.metadata_of(document)["name"]
            found += [{"slo": name, **each} for each in stand if isinstance(each, dict)]
    return tuple(found)


def _runs(
    transaction: Transaction, namespace: str, loop: str, since_us: int | None
) -> tuple[tuple[Ran, ...], int, float]:
    query = select(runs).where(runs.c.namespace == namespace, runs.c.loop == loop)
    if since_us is not None:
        query = query.where(func.coalesce(runs.c.event_us, runs.c.created_us) > since_us)
    rows = transaction.execute(query.order_by(runs.c.created_us.desc())).all()
    ran = []
    for row in rows:
        took = (
            None if row.started_us is None or row.finished_us is None else (row.finished_us - row.started_us) / SECOND
        )
        ran.append(
            Ran(
                id=row.id,
                state=row.state,
                cause=str(row.cause.get("text", "")),
                at=to_text(row.event_us if row.event_us is not None else row.created_us),
                seconds=took,
            )
        )
    return tuple(ran[:_RUNS_SHOWN]), len(ran), sum(each.seconds or 0.0 for each in ran)
