"""Metrics of a business: values that a team measures itself and posts, watched window by window beside what the platform measures.

The values of a window are judged when its labels are due, since they come as late as those: their mean, against its own past (learned
thresholds; both sides are strange). So a metric trigger may name them. A value that comes after its window was judged is not counted, and
whoever posts it is told so.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Annotated

import msgspec
from msgspec import Meta
from sqlalchemy import delete, func, select

from goldenloop.control.view import LOOP
from goldenloop.core.clock import MINUTE, from_text
from goldenloop.core.errors import InvalidSpecError, UnavailableError
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import Verdict
from goldenloop.monitors.analyst import Span
from goldenloop.monitors.findings import Finding
from goldenloop.store import resources
from goldenloop.store.database import Transaction, upsert
from goldenloop.store.tables import business_values, measurements

MONITOR = "business"
MOST_NAMES = 100  # of one loop
MOST_WAITING = 100_000  # values of one loop whose windows have not been judged
AHEAD_US = 5 * MINUTE  # how far a value may lie in the future: clocks differ


class PostedValue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One value of a metric. `at`: of which moment, now if left out; a second value of a moment takes the place of the first."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$")]
    value: float
    at: str | None = None


def keep_values(
    transaction: Transaction, namespace: str, loop: str, posted: Collection[PostedValue], *, now_us: int
) -> JsonObject:
    """Keep them until their windows are judged; how many, and how many came too late.

    Raises NotFoundError where there is no such Loop, InvalidSpecError for a value that cannot be one, UnavailableError where there is no
    room.
    """
    document = resources.get(transaction, LOOP, namespace, loop)
    spec = document["spec"]
    replays = isinstance(spec, dict) and spec.get("replay") is True
    moments = [_moment(each, f"[{index}]", now_us, replays=replays) for index, each in enumerate(posted)]
    mine = (business_values.c.namespace == namespace, business_values.c.loop == loop)
    _check_room(transaction, namespace, loop, posted)
    judged_us = transaction.execute(
        select(func.max(measurements.c.end_us)).where(
            measurements.c.namespace == namespace, measurements.c.loop == loop, measurements.c.monitor == MONITOR
        )
    ).scalar_one()
    kept = 0
    for each, at_us in zip(posted, moments, strict=True):
        if judged_us is not None and at_us < judged_us:
            continue
        row = {"namespace": namespace, "loop": loop, "name": each.name, "at_us": at_us, "value": each.value}
        upsert(transaction, business_values, row)
        kept += 1
    waiting = transaction.execute(select(func.count()).select_from(business_values).where(*mine)).scalar_one()
    if waiting > MOST_WAITING:
        raise UnavailableError(
            f"{MOST_WAITING} values wait for their windows to be judged",
            where=f"loops/{loop}",
            mend="Post fewer of them, or means over some time; windows are judged as requests come.",
        )
    return {"kept": kept, "late": len(posted) - kept}


def judge_values(
    transaction: Transaction, namespace: str, loop: str, span: Span, known: Collection[str]
) -> tuple[Finding, ...]:
    """The mean of each metric over a window; of one that was there before and is not now, that nothing came. What is judged goes."""
    mine = (business_values.c.namespace == namespace, business_values.c.loop == loop)
    means = {
        name: (mean, count)
        for name, mean, count in transaction.execute(
            select(business_values.c.name, func.avg(business_values.c.value), func.count())
            .where(*mine, business_values.c.at_us >= span.start_us, business_values.c.at_us < span.end_us)
            .group_by(business_values.c.name)
        )
    }
    transaction.execute(delete(business_values).where(*mine, business_values.c.at_us < span.end_us))
    found = [
        Finding(
            monitor=MONITOR,
            metric=name,
            value=float(mean),
            verdict=Verdict.INCONCLUSIVE,
            note=f"mean of {count}",
            learned="both",
        )
        for name, (mean, count) in sorted(means.items())
    ]
    gone = sorted(set(known) - means.keys())
    return (
        *found,
        *(
            Finding(monitor=MONITOR, metric=name, value=None, verdict=Verdict.INCONCLUSIVE, note="no value came")
            for name in gone
        ),
    )


def known_names(learned: Collection[str]) -> list[str]:
    """The metrics among the names of learned thresholds."""
    return [name.removeprefix(f"{MONITOR}/") for name in learned if name.startswith(f"{MONITOR}/")]


def _moment(value: PostedValue, where: str, now_us: int, *, replays: bool) -> int:
    if not math.isfinite(value.value):
        raise InvalidSpecError("this is no finite number", where=f"{where}.value", mend="Leave the value out.")
    if value.at is None:
        return now_us
    try:
        at_us = from_text(value.at)
    except ValueError:
        raise InvalidSpecError(
            f"{value.at!r} is not a time", where=f"{where}.at", mend="Write 2026-01-31T09:30:00Z."
        ) from None
    if at_us > now_us + AHEAD_US and not replays:
        raise InvalidSpecError(
            f"{value.at} has not come yet",
            where=f"{where}.at",
            mend="Check the clock of the sender, and the time zone.",
        )
    return at_us


def _check_room(transaction: Transaction, namespace: str, loop: str, posted: Collection[PostedValue]) -> None:
    """The names of metrics become names of measurements and labels in Prometheus, so there is a bound."""
    known: set[str] = set()
    for table, name, among in (
        (business_values, business_values.c.name, ()),
        (measurements, measurements.c.metric, (measurements.c.monitor == MONITOR,)),
    ):
        query = select(name).where(table.c.namespace == namespace, table.c.loop == loop, *among).distinct()
        known |= set(transaction.execute(query).scalars())
    names = known | {each.name for each in posted}
    if len(names) > MOST_NAMES:
        raise InvalidSpecError(
            f"a loop has at most {MOST_NAMES} business metrics",
            where="name",
            mend="Name the metric, not the thing that it is of.",
        )
