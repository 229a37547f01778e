"""When a schedule is due: cron expressions with seconds, and fixed intervals. Pure.

A schedule is a sequence of slots. Each slot is counted from the last one that was taken, so a slot is never due twice, however the
clock jumps. With catch-up every slot that was missed is due in turn; without, only the last one. All times are UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
from cronsim import CronSim, CronSimError

from goldenloop.core.clock import SECOND
from goldenloop.core.errors import InvalidSpecError

_DESCRIPTORS = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}
_DAY_FIELDS = (3, 5)  # of the month, of the week: there `?` says the same as `*`
_MEND = "Write six fields, seconds first: '0 30 9 * * 1-5' is half past nine on weekdays, UTC."


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A cron expression or an interval, one of both, within optional bounds. An end is the last moment that may be a slot."""

    cron: str | None = None
    interval_us: int | None = None
    start_us: int | None = None
    end_us: int | None = None


def check_schedule(schedule: Schedule, *, where: str) -> None:
    """Raise InvalidSpecError for a schedule that cannot be one."""
    if (schedule.cron is None) == (schedule.interval_us is None):
        raise InvalidSpecError("a schedule is a cron expression or an interval", where=where, mend="Give one of both.")
    if schedule.cron is not None:
        six_fields(schedule.cron, where=where)
    if schedule.interval_us is not None and schedule.interval_us < SECOND:
        raise InvalidSpecError("the interval is shorter than a second", where=where, mend="Give 1 second or more.")
    if schedule.start_us is not None and schedule.end_us is not None and schedule.end_us < schedule.start_us:
        raise InvalidSpecError(
            "the end is before the start", where=where, mend="Give an end_time after the start_time."
        )


def six_fields(expression: str, *, where: str, seconds_first: bool = True) -> str:
    """Return a cron expression in six fields, seconds first. Raises InvalidSpecError.

    Five fields are read as KFP's scheduler reads them: seconds first, and any day of the week. Where `seconds_first` is false they
    are what crontab calls five fields: minutes first, at second 0.

    >>> six_fields("0 9 * * *", where="", seconds_first=False)
    '0 0 9 * * *'
    >>> six_fields("0 0 9 ? * 2-6", where="")
    '0 0 9 * * 2-6'
    """
    written = _DESCRIPTORS.get(expression.strip().lower(), expression)
    fields = written.split()
    if len(fields) == 5:
        fields = [*fields, "*"] if seconds_first else ["0", *fields]
    fields = ["*" if index in _DAY_FIELDS and each == "?" else each for index, each in enumerate(fields)]
    try:
        if len(fields) != 6:
            raise CronSimError(f"it has {len(fields)} fields")
        next(CronSim(" ".join(fields), datetime(2024, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        raise InvalidSpecError(f"{expression!r} is not a cron expression: {error}", where=where, mend=_MEND) from None
    except StopIteration:
        raise InvalidSpecError(f"{expression!r} names no moment within 50 years", where=where, mend=_MEND) from None
    return " ".join(fields)


def next_slot(
    schedule: Schedule, *, last_us: int | None, created_us: int, now_us: int, catch_up: bool = True
) -> int | None:
    """The slot after the last one that was taken, None where the schedule has ended.

    With no slot taken yet, slots are counted from the start, or from the creation where there is no start. Without catch-up slots
    that have passed are left out but for the last: of a cron expression the last one until now; an interval begins anew now.
    """
    if schedule.interval_us is not None:
        return _next_interval(schedule, schedule.interval_us, last_us, created_us, now_us, catch_up)
    base = last_us if last_us is not None else schedule.start_us if schedule.start_us is not None else created_us
    if schedule.start_us is not None:
        base = max(base, schedule.start_us)
    slot = _next_cron(schedule, base)
    if catch_up or slot is None:
        return slot
    following = _next_cron(schedule, slot)
    if following is None or following > now_us:
        return slot
    return _last_cron(schedule, slot, now_us)


def _next_interval(
    schedule: Schedule, interval_us: int, last_us: int | None, created_us: int, now_us: int, catch_up: bool
) -> int | None:
    start = schedule.start_us
    base = last_us if last_us is not None else start if start is not None else created_us
    slot = start if start is not None and start > base else base + interval_us
    if schedule.end_us is not None and schedule.end_us < slot:
        return None
    if catch_up or now_us < slot + interval_us:
        return slot
    return now_us if schedule.end_us is None else min(now_us, schedule.end_us)


def _next_cron(schedule: Schedule, after_us: int) -> int | None:
    try:
        slot = _to_us(next(CronSim(_expression(schedule), _to_datetime(after_us))))
    except (StopIteration, OverflowError):
        return None
    return None if schedule.end_us is not None and slot > schedule.end_us else slot


def _last_cron(schedule: Schedule, slot: int, now_us: int) -> int:
    """The last slot until now, which is at least the given one."""
    until = now_us if schedule.end_us is None else min(now_us, schedule.end_us)
    # Going back, a search begins before its moment: one more second lets that moment itself be found.
    backwards = CronSim(_expression(schedule), _to_datetime(until) + timedelta(seconds=1), reverse=True)
    return max(slot, _to_us(next(backwards)))


def _expression(schedule: Schedule) -> str:
    assert schedule.cron is not None
    return six_fields(schedule.cron, where="schedule")


def _to_datetime(moment_us: int) -> datetime:
    return datetime.fromtimestamp(moment_us // SECOND, UTC)


def _to_us(moment: datetime) -> int:
    return int(moment.timestamp()) * SECOND
