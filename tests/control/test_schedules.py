"""Recurring runs on a clock that is moved by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from trigger_worlds import NOON, TriggerWorld

from goldenloop.core.clock import DAY, HOUR, MINUTE, SECOND, to_text
from goldenloop.pipelines.catalog import delete_pipeline
from goldenloop.pipelines.recurring import (
    RecurringRequest,
    RecurringRun,
    create_recurring_run,
    delete_recurring_run,
    get_recurring_run,
    switch,
)
from goldenloop.pipelines.submission import Source
from goldenloop.standards.schedules import Schedule
from goldenloop.store.database import sqlite_url

HOURLY = Schedule(cron="0 0 * * * *")


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TriggerWorld]:
    is_sqlite = request.param == "sqlite"
    world = TriggerWorld(sqlite_url(tmp_path / "state.db") if is_sqlite else request.getfixturevalue("postgresql_url"))
    yield world
    world.database.close()


def recur(world: TriggerWorld, schedule: Schedule = HOURLY, **given: object) -> RecurringRun:
    asked = {
        "namespace": "default",
        "name": "nightly",
        "source": Source(pipeline_id=world.pipeline_id),
        "schedule": schedule,
        "max_concurrency": 10,
        **given,
    }
    with world.database.write() as transaction:
        return create_recurring_run(transaction, RecurringRequest(**asked), now_us=world.clock.now_us())


def slots(world: TriggerWorld) -> list[str]:
    return [to_text(run.scheduled_us)[8:16] for run in world.runs()]


def test_each_slot_becomes_one_run_also_after_a_restart(world: TriggerWorld) -> None:
    recurring = recur(world, parameters={"text": "[[Index]] at [[ScheduledTime]]"})
    for _ in range(3):
        world.advance(30 * MINUTE)
        world.again()
        world.advance()
    world.advance(30 * MINUTE)
    assert slots(world) == ["31T13:00", "31T14:00"]
    assert [run.parameters["text"] for run in world.runs()] == ["1 at 20260131130000", "2 at 20260131140000"]
    assert {run.started_by for run in world.runs()} == {recurring.id}
    assert all(run.version_id and run.experiment_id for run in world.runs())


def test_a_clock_that_jumps_back_takes_no_slot_again(world: TriggerWorld) -> None:
    recur(world)
    world.advance(2 * HOUR)
    taken = slots(world)
    world.advance(-90 * MINUTE)
    world.advance(30 * MINUTE)
    assert slots(world) == taken
    world.advance(2 * HOUR)
    assert slots(world) == [*taken, "31T15:00"]


def test_what_was_missed_is_caught_up_on_or_left_out(world: TriggerWorld) -> None:
    recur(world, name="all")
    recur(world, name="last", catch_up=False)
    world.advance(4 * HOUR + MINUTE)
    by_name: dict[str, list[str]] = {}
    for run in world.runs():
        name, _, slot = run.name.partition(" ")
        by_name.setdefault(name, []).append(slot[8:16])
    assert by_name == {"all": ["31T13:00", "31T14:00", "31T15:00", "31T16:00"], "last": ["31T16:00"]}


def test_no_more_runs_go_on_than_are_allowed(world: TriggerWorld) -> None:
    recur(world, max_concurrency=2)
    world.advance(5 * HOUR)
    assert len(world.runs()) == 2
    world.finish()
    world.advance()
    assert len(world.runs()) == 4
    world.finish()
    world.advance()
    assert slots(world) == ["31T13:00", "31T14:00", "31T15:00", "31T16:00", "31T17:00"]


def test_switched_off_it_starts_nothing_and_catches_up_when_it_is_on_again(world: TriggerWorld) -> None:
    recurring = recur(world, enabled=False)
    world.advance(2 * HOUR)
    assert world.runs() == []
    with world.database.write() as transaction:
        switch(transaction, recurring.id, enabled=True, now_us=world.clock.now_us())
    world.advance()
    assert slots(world) == ["31T13:00", "31T14:00"]
    with world.database.write() as transaction:
        delete_recurring_run(transaction, recurring.id)
    world.advance(DAY)
    assert len(world.runs()) == 2


def test_a_schedule_ends(world: TriggerWorld) -> None:
    recurring = recur(world, Schedule(interval_us=10 * SECOND, start_us=NOON + MINUTE, end_us=NOON + 80 * SECOND))
    world.advance(DAY)
    assert [(run.scheduled_us - NOON) // SECOND for run in world.runs()] == [70, 80]
    with world.database.read() as transaction:
        assert get_recurring_run(transaction, recurring.id).next_slot_us is None


def test_a_slot_that_comes_to_nothing_says_why_and_holds_nothing_up(world: TriggerWorld) -> None:
    broken = recur(world)
    with world.database.write() as transaction:
        delete_pipeline(transaction, world.pipeline_id, cascade=True)
    world.advance(2 * HOUR)
    assert world.runs() == []
    with world.database.read() as transaction:
        shown = get_recurring_run(transaction, broken.id)
    assert shown.error is not None
    assert "there is no pipeline" in shown.error
    assert to_text(shown.next_slot_us or 0) == "2026-01-31T15:00:00Z"
