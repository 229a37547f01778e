"""Triggers of pipelines on a clock that is moved by hand: every source, and what holds a trigger back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select
from trigger_worlds import NOON, TriggerWorld

from goldenloop.control import causes
from goldenloop.control.causes import Cause, note
from goldenloop.control.sources import SOURCE
from goldenloop.core.clock import DAY, HOUR, MINUTE, SECOND
from goldenloop.core.json import JsonObject
from goldenloop.pipelines.submission import Source, Submission, submit
from goldenloop.standards.alertmanager import Alert
from goldenloop.standards.incoming_events import CloudEvent
from goldenloop.store.database import sqlite_url
from goldenloop.store.tables import memories

EVENTS: JsonObject = {"on": [{"event": {"type": "data.*"}}]}


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TriggerWorld]:
    is_sqlite = request.param == "sqlite"
    world = TriggerWorld(sqlite_url(tmp_path / "state.db") if is_sqlite else request.getfixturevalue("postgresql_url"))
    yield world
    world.database.close()


def event(world: TriggerWorld, name: str, identity: str, *, kind: str = "data.new", **data: object) -> bool:
    """Bring an event, as the API does; whether it was a cause that is new."""
    brought = CloudEvent(specversion="1.0", id=identity, source="test", type=kind, data=dict(data))
    with world.database.write() as transaction:
        view = causes.find_trigger(transaction, "default", name)
        cause = causes.of_event(view, brought, now_us=world.clock.now_us())
        return cause is not None and note(transaction, view, cause, now_us=world.clock.now_us())


def write(path: Path, content: str, *, at_us: int) -> None:
    path.write_text(content)
    os.utime(path, ns=(at_us * 1_000, at_us * 1_000))


def test_a_schedule_starts_a_run_at_each_slot_and_leaves_out_what_was_missed(world: TriggerWorld) -> None:
    world.apply("hourly", {"on": [{"schedule": {"cron": "0 * * * *"}}], "parameters": {"text": "[[ScheduledTime]]"}})
    world.advance(HOUR)
    world.finish()
    world.again()
    world.advance(SECOND)
    world.advance(3 * HOUR)
    assert [run.parameters["text"] for run in world.runs()] == ["20260131130000", "20260131160000"]
    assert world.status("hourly")["next"] == "2026-01-31T17:00:00Z"


def test_new_and_changed_files_are_one_cause_once_they_are_left_alone(world: TriggerWorld, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    write(folder / "old.csv", "1", at_us=NOON)
    source: JsonObject = {"file": {"path": f"{folder}/**/*.csv", "settle": "10s"}}
    world.apply("files", {"on": [source], "parameters": {"paths": "[[Cause.paths]]"}})
    world.advance(MINUTE)
    assert world.runs() == []  # what was there before is not new
    now_us = world.clock.now_us()
    for name in ("deep/a.csv", "b.csv", "c.txt"):
        write(folder / name, "1", at_us=now_us)
    world.advance(5 * SECOND)
    assert world.runs() == []
    world.advance(10 * SECOND)
    world.finish()
    (run,) = world.runs()
    assert run.parameters["paths"] == [f"{folder}/b.csv", f"{folder}/deep/a.csv"]
    world.again()
    world.advance(MINUTE)
    assert len(world.runs()) == 1
    write(folder / "old.csv", "22", at_us=world.clock.now_us() - MINUTE)
    world.advance(MINUTE)
    world.finish()
    assert [run.parameters["paths"] for run in world.runs()[1:]] == [[f"{folder}/old.csv"]]
    (folder / "old.csv").unlink()
    world.advance(MINUTE)
    assert len(world.runs()) == 2


def test_an_event_that_is_delivered_twice_starts_one_run(world: TriggerWorld) -> None:
    world.apply("events", {**EVENTS, "concurrency": "queue", "parameters": {"text": "[[Cause.data.rows]] rows"}})
    assert event(world, "events", "1", rows=3)
    assert not event(world, "events", "1", rows=3)
    assert not event(world, "events", "2", kind="other")
    world.advance()
    world.again()
    assert not event(world, "events", "1", rows=3)
    world.advance(MINUTE)
    assert [run.parameters["text"] for run in world.runs()] == ["3 rows"]
    assert world.runs()[0].cause == {"kind": "trigger", "trigger": "events", "text": "event data.new of test"}


def test_an_alert_is_a_cause_for_each_time_it_fires(world: TriggerWorld) -> None:
    view = world.apply(
        "alerts", {"on": [{"alert": {"name": "Low", "labels": {"team": "risk"}}}], "concurrency": "queue"}
    )

    def fires(starts_at: str, status: str = "firing", **labels: str) -> bool:
        alert = Alert(status=status, labels={"alertname": "Low", **labels}, starts_at=starts_at, fingerprint="f")
        cause = causes.of_alert(view, alert, now_us=world.clock.now_us())
        with world.database.write() as transaction:
            return cause is not None and note(transaction, view, cause, now_us=NOON)

    assert fires("2026-01-31T11:00:00Z", team="risk")
    assert not fires("2026-01-31T11:00:00Z", team="risk")  # Alertmanager repeats it as long as it fires
    assert not fires("2026-01-31T11:00:00Z", team="other")
    assert not fires("2026-01-31T11:00:00Z", "resolved", team="risk")
    assert fires("2026-01-31T11:30:00Z", team="risk")


def test_the_end_of_another_run_is_a_cause_and_its_own_is_not(world: TriggerWorld) -> None:
    on: JsonObject = {"run": {"pipeline": "train", "states": ["SUCCEEDED"]}}
    world.apply("after", {"on": [on], "concurrency": "queue", "parameters": {"text": "[[Cause.run]]"}})
    asked = Submission(namespace="default", name="by hand", source=Source(pipeline_id=world.pipeline_id))
    with world.database.write() as transaction:
        first = submit(transaction, asked, now_us=world.clock.now_us())
    world.clock.advance(MINUTE)
    world.finish()
    world.advance(SECOND)
    for _ in range(3):  # its own runs end, and nothing follows
        world.advance(MINUTE)
        world.finish()
        world.again()
        world.advance(SECOND)
    assert [run.parameters.get("text") for run in world.runs()] == ["", first]
    with world.database.write() as transaction:
        submit(transaction, asked, now_us=world.clock.now_us())
    world.finish("FAILED")
    world.advance(MINUTE)
    assert len(world.runs()) == 3


def test_skip_drops_what_comes_while_a_run_goes_on(world: TriggerWorld) -> None:
    world.apply("events", EVENTS)
    for identity in "123":
        event(world, "events", identity)
    world.advance()
    (run,) = world.runs()
    held = ("event data.new of test", False, f"run {run.id} is going on")
    assert world.decisions() == [("event data.new of test", True, "event data.new of test"), held, held]
    world.finish()
    world.advance(HOUR)
    assert len(world.runs()) == 1


def test_queue_lets_causes_wait_in_their_order(world: TriggerWorld) -> None:
    world.apply("events", {**EVENTS, "concurrency": "queue", "parameters": {"text": "[[Cause.id]]"}})
    for identity in "123":
        event(world, "events", identity)
    world.advance()
    assert world.status("events")["waiting"] == 2
    for _ in range(3):
        world.finish()
        world.again()
        world.advance(SECOND)
    assert [run.parameters["text"] for run in world.runs()] == ["1", "2", "3"]
    assert world.status("events")["waiting"] == 0


def test_a_queue_has_an_end(world: TriggerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causes, "MOST_WAITING", 2)
    world.apply("events", {**EVENTS, "concurrency": "queue"})
    for identity in "1234":
        event(world, "events", identity)
    reasons = [reason for _, _, reason in world.decisions()]
    assert reasons[2:] == ["2 causes wait already"] * 2


def test_replace_ends_the_run_that_goes_on(world: TriggerWorld) -> None:
    world.apply("events", {**EVENTS, "concurrency": "replace"})
    event(world, "events", "1")
    world.advance()
    event(world, "events", "2")
    world.advance(SECOND)
    assert [run.state for run in world.runs()] == ["CANCELED", "PENDING"]


def test_cooldown_and_daily_bound_hold_a_trigger_back(world: TriggerWorld) -> None:
    world.apply("events", {**EVENTS, "concurrency": "queue", "cooldown": "1h", "maxRunsPerDay": 2})
    for identity in "123":
        event(world, "events", identity)
    world.advance()
    world.finish()
    world.advance(59 * MINUTE)
    assert len(world.runs()) == 1
    world.advance(MINUTE)
    world.finish()
    assert len(world.runs()) == 2
    world.advance(10 * HOUR)
    assert len(world.runs()) == 2
    assert "the bound is 2" in world.decisions()[2][2]
    world.advance(DAY)
    assert len(world.runs()) == 3


@pytest.mark.parametrize(("field", "reason"), [("dryRun", "dry run: "), ("suspend", "the trigger is suspended")])
def test_what_starts_nothing_says_so(world: TriggerWorld, field: str, reason: str) -> None:
    world.apply("events", {**EVENTS, field: True})
    event(world, "events", "1")
    world.advance()
    assert world.runs() == []
    ((_, fired, said),) = world.decisions()
    assert not fired
    assert said.startswith(reason)


def test_a_cause_that_comes_to_nothing_says_why_and_keeps_nothing(world: TriggerWorld) -> None:
    world.apply("events", {**EVENTS, "parameters": {"gone": "x"}, "experiment": "made for it"})
    event(world, "events", "1")
    world.advance()
    ((_, fired, reason),) = world.decisions()
    assert not fired
    assert "the pipeline has no parameter 'gone'" in reason
    with world.database.read() as transaction:
        assert transaction.exec_driver_sql("SELECT count(*) FROM experiments").scalar() == 0
    last = world.status("events")["last"]
    assert isinstance(last, dict)
    assert last["decision"] == "nothing"


def test_a_source_that_cannot_be_looked_at_is_shown(
    world: TriggerWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goldenloop.control.sources.MOST_FILES", 1)
    for name in "ab":
        (tmp_path / f"{name}.csv").touch()
    world.apply("files", {"on": [{"file": {"path": f"{tmp_path}/*.csv"}}]})
    world.apply("events", EVENTS)
    event(world, "events", "1")
    world.advance()
    assert len(world.runs()) == 1  # the others go on
    conditions = world.status("files")["conditions"]
    assert isinstance(conditions, list)
    assert conditions[0]["reason"] == "NotLooking"


def test_a_trigger_that_is_deleted_leaves_nothing_waiting(world: TriggerWorld) -> None:
    world.apply("both", {"on": [*EVENTS["on"], {"schedule": {"every": "1h"}}], "concurrency": "queue"})
    world.advance(HOUR)
    event(world, "both", "1")
    world.delete("both")
    world.advance()
    assert world.decisions()[-1][1:] == (False, "the trigger was deleted")
    with world.database.read() as transaction:
        kept = transaction.execute(select(memories.c.name).where(memories.c.name.startswith(SOURCE))).all()
    assert kept == []


def test_killed_between_any_two_writes_a_cause_starts_one_run(
    world: TriggerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look is cut off at every write in turn; at the end there is one run for each cause."""
    world.apply("events", {**EVENTS, "concurrency": "queue"})
    for identity in "123":
        event(world, "events", identity)
    written = world.database.write
    for cut in range(8):
        count = 0

        def failing(cut: int = cut) -> object:
            nonlocal count
            count += 1
            if count > cut:
                raise KeyboardInterrupt
            return written()

        world.finish()
        with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, AssertionError)):
            patch.setattr(world.database, "write", failing)
            world.advance(SECOND)
            raise AssertionError
        world.again()
    world.finish()
    world.advance(SECOND)
    assert len(world.runs()) == 3
    assert [fired for _, fired, _ in world.decisions()] == [True, True, True]
    assert len({run.cause_key for run in world.runs()}) == 3


def test_causes_are_known_by_their_keys(world: TriggerWorld) -> None:
    view = world.apply("events", EVENTS)
    long = Cause(kind="event", key="k" * 500, text="t", event_us=NOON)
    assert len(causes.cause_key(view, long)) <= 128
    with world.database.write() as transaction:
        assert [note(transaction, view, long, now_us=NOON) for _ in range(2)] == [True, False]
