"""Slots of schedules: never twice, never missed with catch-up, and only the last without."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.core.clock import DAY, HOUR, MINUTE, SECOND, from_text, to_text
from goldenloop.core.errors import InvalidSpecError
from goldenloop.standards.schedules import Schedule, check_schedule, next_slot, six_fields

NOON = from_text("2026-01-31T12:00:00Z")
CRONS = ["* * * * * *", "*/7 * * * * *", "0 */5 * * * *", "0 0 9 ? * 2-6", "30 15 3 1,15 * *", "0 0 0 29 2 *"]
schedules = st.one_of(
    st.sampled_from(CRONS).map(lambda cron: Schedule(cron=cron)),
    st.integers(1, 3 * 3600).map(lambda seconds: Schedule(interval_us=seconds * SECOND)),
)


@given(schedules, st.booleans(), st.lists(st.integers(-2 * DAY, 2 * DAY), max_size=30))
def test_a_slot_is_taken_once_however_the_clock_jumps(schedule: Schedule, catch_up: bool, jumps: list[int]) -> None:
    last_us, taken = None, []
    for jump in jumps:
        now_us = NOON + jump
        for _ in range(3):
            slot = next_slot(schedule, last_us=last_us, created_us=NOON, now_us=now_us, catch_up=catch_up)
            if slot is None or slot > now_us:
                break
            taken.append(slot)
            last_us = slot
    assert taken == sorted(set(taken))


@given(schedules, st.integers(1, 400))
def test_with_catch_up_no_slot_is_missed(schedule: Schedule, steps: int) -> None:
    """However seldom somebody looks, the slots are those of somebody who looks all the time."""

    def all_until(moments: list[int]) -> list[int]:
        last_us, taken = None, []
        for now_us in moments:
            while len(taken) < 50:
                slot = next_slot(schedule, last_us=last_us, created_us=NOON, now_us=now_us)
                if slot is None or slot > now_us:
                    break
                taken.append(slot)
                last_us = slot
        return taken

    end = NOON + steps * MINUTE
    assert all_until([NOON + step * MINUTE for step in range(steps + 1)]) == all_until([end])


@given(st.sampled_from(CRONS), st.integers(0, 10 * DAY))
def test_without_catch_up_the_last_slot_is_the_one_before_now(cron: str, late_us: int) -> None:
    schedule, now_us = Schedule(cron=cron), NOON + late_us
    slot = next_slot(schedule, last_us=None, created_us=NOON, now_us=now_us, catch_up=False)
    assert slot is not None
    if slot <= now_us:
        following = next_slot(schedule, last_us=slot, created_us=NOON, now_us=now_us, catch_up=False)
        assert following is None or following > now_us


def test_without_catch_up_an_interval_begins_anew() -> None:
    schedule = Schedule(interval_us=HOUR)
    assert next_slot(schedule, last_us=NOON, created_us=0, now_us=NOON + 90 * MINUTE, catch_up=False) == NOON + HOUR
    late = NOON + 3 * HOUR
    assert next_slot(schedule, last_us=NOON, created_us=0, now_us=late, catch_up=False) == late


def test_slots_are_counted_from_the_start_and_end_with_the_end() -> None:
    bounded = Schedule(cron="0 0 * * * *", start_us=NOON, end_us=NOON + 2 * HOUR)
    slots, last_us = [], None
    while (slot := next_slot(bounded, last_us=last_us, created_us=NOON - DAY, now_us=NOON)) is not None:
        slots.append(to_text(slot)[11:16])
        last_us = slot
    assert slots == ["13:00", "14:00"]
    late = next_slot(bounded, last_us=None, created_us=0, now_us=NOON + DAY, catch_up=False)
    assert late == NOON + 2 * HOUR
    every = Schedule(interval_us=HOUR, start_us=NOON + 10 * MINUTE)
    first = next_slot(every, last_us=None, created_us=NOON, now_us=NOON)
    assert first == NOON + HOUR + 10 * MINUTE
    before = next_slot(every, last_us=NOON, created_us=NOON, now_us=NOON)
    assert before == NOON + 10 * MINUTE


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("0 30 9 ? * MON-FRI", "0 30 9 * * MON-FRI"),
        ("@hourly", "0 0 * * * *"),
        ("@weekly", "0 0 0 * * 0"),
        ("*/10 * * * *", "*/10 * * * * *"),  # as KFP's scheduler reads five fields
    ],
)
def test_six_fields_begin_with_seconds(written: str, read: str) -> None:
    assert six_fields(written, where="cron") == read


@pytest.mark.parametrize(
    "written", ["", "* * *", "61 * * * * *", "0 0 0 31 2 *", "0 0 0 ? ? MON", "every day", "* " * 7]
)
def test_what_is_no_cron_expression_is_refused(written: str) -> None:
    with pytest.raises(InvalidSpecError, match="cron: .* seconds first"):
        six_fields(written, where="cron")


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(),
        Schedule(cron="* * * * * *", interval_us=SECOND),
        Schedule(interval_us=1),
        Schedule(cron="nonsense"),
        Schedule(interval_us=SECOND, start_us=NOON, end_us=NOON - 1),
    ],
)
def test_what_is_no_schedule_is_refused(schedule: Schedule) -> None:
    with pytest.raises(InvalidSpecError, match="trigger"):
        check_schedule(schedule, where="trigger")
