"""What is counted of an objective: points of good and total, read from measurements, the timeline, versions and the service's counters.

Windows of a loop are occurrences in event time. One whose verdict is inconclusive is none, for or against; one whose monitor failed is a
bad one, since an error is never success. What the wall clock counts lies in `indicator_totals`, as running totals.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from sqlalchemy import Select, cast, delete, func, insert, select

from goldenloop.core.clock import SECOND
from goldenloop.core.phases import Verdict
from goldenloop.standards.documents import near_miss
from goldenloop.standards.kubernetes import kind_named
from goldenloop.standards.openslo import ServiceLevel
from goldenloop.stats.budgets import Points
from goldenloop.store import resources
from goldenloop.store.database import Transaction
from goldenloop.store.tables import indicator_totals, measurements, timeline, versions

_ROLLOUT = kind_named("rollouts")
# What ends the wait that an alarm began: it was acted on to the end, or it was decided not to act.
_DECIDED = ("Promoted", "RolledBack", "Inconclusive", "Refused", "RunFailed", "NotTriggered")
_NAMES_SHOWN = 12
_PATIENCE = 10  # windows after which a monitor that has not said anything is taken not to be there


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """Why nothing was counted. `reason` is one word, as conditions have it."""

    reason: str
    message: str


def key_of(uid: str, level: ServiceLevel) -> str:
    """Under which name the totals of an objective are kept."""
    return f"{uid}/{level.name}"


def points_of(
    transaction: Transaction, namespace: str, uid: str, level: ServiceLevel, *, now_us: int, from_us: int | None = None
) -> Points:
    """What was counted in the objective's window up to `now_us`, or of it from a moment on, in the clock of its indicator."""
    found = _points(transaction, namespace, uid, level, now_us, from_us)
    return found if from_us is None else found.since(from_us)


def _points(
    transaction: Transaction, namespace: str, uid: str, level: ServiceLevel, now_us: int, from_us: int | None
) -> Points:
    since_us = now_us - level.window_us
    if level.indicator.is_of_the_service:
        lookbacks = {length for alert in level.alerts for length in (alert.long_us, alert.short_us)}
        every_row = level.counting.method != "Occurrences"
        moments = {
            since_us,
            now_us,
            *(now_us - length for length in lookbacks),
            *([] if from_us is None else [from_us]),
        }
        cuts = None if every_row else sorted(moments)
        return _totals(transaction, key_of(uid, level), since_us, cuts)
    match level.indicator.kind:
        case "measurement":
            return _of_measurement(transaction, namespace, level, since_us, now_us)
        case "verdict":
            return _of_verdict(transaction, namespace, level, since_us, now_us)
        case "modelFreshness":
            return _of_age(transaction, namespace, level, since_us, now_us)
        case "decisionTime":
            return _of_decisions(transaction, namespace, level, since_us, now_us)
    return Points.of([])


def golden_since(transaction: Transaction, namespace: str, service: str, *, by_the_wall: bool) -> int:
    """From when on the present champion has answered, at the latest: nothing has been golden again, or promoted, since."""
    clock = timeline.c.created_us if by_the_wall else timeline.c.event_us
    query = select(func.max(clock)).where(
        timeline.c.namespace == namespace,
        timeline.c.loop == service,
        timeline.c.kind.in_(("Golden", "Promoted", "RolledBack")),
    )
    return int(transaction.scalar(query) or 0)


def alpha_spent(transaction: Transaction, namespace: str, service: str) -> float:
    """The error rate that the rollouts of a loop have used up together, of the loop's alpha."""
    spent = 0.0
    for document in resources.listing(transaction, _ROLLOUT, namespace):
        spec = document["spec"]
        if isinstance(spec, dict) and spec.get("service") == service:
            spent += float(str(spec["alpha"]))
    return spent


def why_unmeasured(transaction: Transaction, namespace: str, level: ServiceLevel) -> Unmeasured:
    """Why an objective has no points: nobody measures what it names, or not yet."""
    indicator = level.indicator
    if indicator.kind == "query":
        return Unmeasured("NotCountedHere", indicator.note)
    if indicator.is_of_the_service:
        return Unmeasured("NothingCounted", f"no request to {level.service} has been counted yet")
    if indicator.kind == "decisionTime":
        return Unmeasured("NoAlarm", "there was no alarm to decide on")
    mine = (measurements.c.namespace == namespace, measurements.c.loop == level.service)
    last = transaction.scalar(select(func.max(measurements.c.window)).where(*mine))
    if last is None:
        return Unmeasured("NothingMeasured", f"no window of {level.service} has been measured yet")
    recent = select(measurements.c.monitor, measurements.c.metric).where(
        *mine, measurements.c.window >= last - _NAMES_SHOWN
    )
    there = sorted({f"{row.monitor}/{row.metric}" for row in transaction.execute(recent.distinct())})
    name = f"{indicator.monitor}/{indicator.metric}" if indicator.metric else indicator.monitor
    speaks = any(each.startswith(f"{indicator.monitor}/") for each in there)
    known = there if indicator.metric else sorted({each.partition("/")[0] for each in there})
    # A monitor that waits for labels says nothing of the first windows.
    if indicator.kind == "modelFreshness" or name in known or (not speaks and last < _PATIENCE):
        return Unmeasured("NothingMeasured", f"{indicator.text} has not been measured yet")
    shown = ", ".join(known[:_NAMES_SHOWN]) + (", …" if len(known) > _NAMES_SHOWN else "")
    hint = near_miss(name, known)
    return Unmeasured("NobodyMeasuresIt", f"nobody measures {name}; measured are {shown}.{f' {hint}' if hint else ''}")


def count(transaction: Transaction, key: str, *, good: float, total: float, now_us: int, window_us: int) -> bool:
    """Write down what counters say now; whether the clock had gone back since the last time.

    Counters that say less than before have begun anew with the workers. Rows that lie in the future since the clock was set back are
    dropped, and what they counted stays counted.
    """
    mine = indicator_totals.c.slo == key
    last = transaction.execute(
        select(indicator_totals).where(mine).order_by(indicator_totals.c.at_us.desc()).limit(1)
    ).first()
    values = {"slo": key, "at_us": now_us, "seen_good": good, "seen_total": total}
    if last is None:
        transaction.execute(insert(indicator_totals).values(**values, good=0.0, total=0.0))
        return False
    anew = total < last.seen_total or good < last.seen_good
    more_good = good if anew else good - last.seen_good
    more_total = total if anew else total - last.seen_total
    stepped = bool(last.at_us >= now_us)
    if stepped:
        transaction.execute(delete(indicator_totals).where(mine, indicator_totals.c.at_us >= now_us))
    transaction.execute(
        insert(indicator_totals).values(**values, good=last.good + more_good, total=last.total + more_total)
    )
    # The row before the window is where its count begins.
    before = select(func.max(indicator_totals.c.at_us)).where(mine, indicator_totals.c.at_us <= now_us - window_us)
    if (border := transaction.scalar(before)) is not None:
        transaction.execute(delete(indicator_totals).where(mine, indicator_totals.c.at_us < border))
    return stepped


def forget_totals(transaction: Transaction, keys: set[str]) -> None:
    """Drop the totals of all objectives but these."""
    there = set(transaction.execute(select(indicator_totals.c.slo).distinct()).scalars())
    if there - keys:
        transaction.execute(delete(indicator_totals).where(indicator_totals.c.slo.in_(there - keys)))


def _totals(transaction: Transaction, key: str, since_us: int, cuts: list[int] | None) -> Points:
    """What lies between running totals: at every row, or only at the moments that are asked about."""
    mine = select(indicator_totals).where(indicator_totals.c.slo == key)
    at = indicator_totals.c.at_us
    found = []
    if cuts is None:
        before = transaction.execute(mine.where(at <= since_us).order_by(at.desc()).limit(1)).all()
        found = [*before, *transaction.execute(mine.where(at > since_us).order_by(at)).all()]
    else:
        first = transaction.execute(mine.order_by(at).limit(1)).first()
        at_cuts = [transaction.execute(mine.where(at <= cut).order_by(at.desc()).limit(1)).first() for cut in cuts]
        rows = {row.at_us: row for row in (first, *at_cuts) if row is not None}
        found = [rows[moment] for moment in sorted(rows)]
    return Points.of(
        [(early.at_us, late.at_us, late.good - early.good, late.total - early.total) for early, late in pairwise(found)]
    )


def _rows(namespace: str, level: ServiceLevel, since_us: int, until_us: int) -> Select[tuple[object, ...]]:
    return select(measurements).where(
        measurements.c.namespace == namespace,
        measurements.c.loop == level.service,
        measurements.c.monitor == level.indicator.monitor,
        measurements.c.end_us > since_us,
        measurements.c.end_us <= until_us,
    )


def _of_measurement(
    transaction: Transaction, namespace: str, level: ServiceLevel, since_us: int, now_us: int
) -> Points:
    indicator = level.indicator
    query = _rows(namespace, level, since_us, now_us).where(measurements.c.metric == indicator.metric)
    column = measurements.c.slice if "=" in indicator.part else measurements.c.feature
    other = measurements.c.feature if "=" in indicator.part else measurements.c.slice
    points = []
    for row in transaction.execute(query.where(column == indicator.part, other == "")):
        if row.value is not None:
            points.append((row.start_us, row.end_us, float(indicator.meets(row.value)), 1.0))
        elif row.verdict == Verdict.ERROR.value:
            points.append((row.start_us, row.end_us, 0.0, 1.0))
    return Points.of(points)


def _of_verdict(transaction: Transaction, namespace: str, level: ServiceLevel, since_us: int, now_us: int) -> Points:
    """A window is good where no verdict of the monitor on it failed, and one passed."""
    query = _rows(namespace, level, since_us, now_us).where(measurements.c.feature == "")
    windows: dict[int, tuple[int, int, set[str]]] = {}
    for row in transaction.execute(query):
        windows.setdefault(row.window, (row.start_us, row.end_us, set()))[2].add(row.verdict)
    points = []
    for start_us, end_us, said in windows.values():
        if said & {Verdict.FAIL.value, Verdict.ERROR.value}:
            points.append((start_us, end_us, 0.0, 1.0))
        elif Verdict.PASS.value in said:
            points.append((start_us, end_us, 1.0, 1.0))
    return Points.of(points)


def _of_age(transaction: Transaction, namespace: str, level: ServiceLevel, since_us: int, now_us: int) -> Points:
    """How old, at the end of each window, the newest row was on which the answering version was trained."""
    query = (
        select(measurements.c.start_us, measurements.c.end_us, versions.c.trained_until_us)
        .where(
            measurements.c.namespace == namespace,
            measurements.c.loop == level.service,
            measurements.c.end_us > since_us,
            measurements.c.end_us <= now_us,
            versions.c.namespace == namespace,
            versions.c.model == level.service,
            cast(versions.c.number, measurements.c.version.type) == measurements.c.version,
            versions.c.trained_until_us.is_not(None),
        )
        .distinct()
    )
    return Points.of(
        [
            (row.start_us, row.end_us, float(level.indicator.meets((row.end_us - row.trained_until_us) / SECOND)), 1.0)
            for row in transaction.execute(query)
        ]
    )


def _of_decisions(transaction: Transaction, namespace: str, level: ServiceLevel, since_us: int, now_us: int) -> Points:
    """Each alarm, to the decision that followed it; one that still waits counts once it has waited too long."""
    query = (
        select(timeline.c.kind, timeline.c.event_us)
        .where(
            timeline.c.namespace == namespace,
            timeline.c.loop == level.service,
            timeline.c.kind.in_(("Alarm", *_DECIDED)),
            timeline.c.event_us > since_us - level.window_us,
            timeline.c.event_us <= now_us,
        )
        .order_by(timeline.c.sequence)
    )
    waiting: int | None = None
    points: list[tuple[int, int, float, float]] = []
    for row in transaction.execute(query):
        if row.kind == "Alarm":
            waiting = row.event_us if waiting is None else waiting
        elif waiting is not None:
            met = level.indicator.meets((row.event_us - waiting) / SECOND)
            points.append((waiting, row.event_us, float(met), 1.0))
            waiting = None
    if waiting is not None and not level.indicator.meets((now_us - waiting) / SECOND):
        points.append((waiting, now_us, 0.0, 1.0))
    return Points.of(points)
