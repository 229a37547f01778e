"""Business metrics: kept once, judged with their window by their own past, and never lost in silence."""

from __future__ import annotations

from pathlib import Path

import pytest
from ring_worlds import LOOP_NAME, NAMESPACE, ORIGIN_US, Rule, Scenario, Simulation, story
from sqlalchemy import func, insert, select

from goldenloop.control import business
from goldenloop.control.business import PostedValue, judge_values, keep_values
from goldenloop.control.view import LOOP
from goldenloop.core.clock import HOUR, MINUTE, from_text, to_text
from goldenloop.core.errors import InvalidSpecError, NotFoundError, UnavailableError
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import Verdict
from goldenloop.monitors.analyst import Span
from goldenloop.store import resources
from goldenloop.store.database import Database, sqlite_url
from goldenloop.store.tables import business_values, measurements

NOON = from_text("2026-01-31T12:00:00Z")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = Database(sqlite_url(tmp_path / "state.db"))
    made.migrate()
    with made.write() as transaction:
        document: JsonObject = {"metadata": {"name": LOOP_NAME}, "spec": {"data": {}}}
        resources.create(transaction, LOOP, NAMESPACE, document, now_us=NOON)
    return made


def post(database: Database, *values: tuple[str, float, int | None], loop: str = LOOP_NAME) -> JsonObject:
    posted = [
        PostedValue(name=name, value=value, at=None if at_us is None else to_text(at_us))
        for name, value, at_us in values
    ]
    with database.write() as transaction:
        return keep_values(transaction, NAMESPACE, loop, posted, now_us=NOON)


def waiting(database: Database) -> int:
    with database.read() as transaction:
        return transaction.execute(select(func.count()).select_from(business_values)).scalar_one()


def span(start_us: int, end_us: int) -> Span:
    return Span(namespace=NAMESPACE, service=LOOP_NAME, start_us=start_us, end_us=end_us, as_of_us=end_us)


def test_a_value_that_is_posted_again_counts_once(database: Database) -> None:
    assert post(database, ("revenue", 10.0, NOON - HOUR), ("revenue", 20.0, None)) == {"kept": 2, "late": 0}
    assert post(database, ("revenue", 12.0, NOON - HOUR)) == {"kept": 1, "late": 0}
    assert waiting(database) == 2
    with database.write() as transaction:
        [found] = judge_values(transaction, NAMESPACE, LOOP_NAME, span(NOON - HOUR, NOON + 1), ())
    assert (found.metric, found.value, found.note) == ("revenue", 16.0, "mean of 2")


def test_what_is_judged_goes_and_what_lies_later_stays(database: Database) -> None:
    post(database, ("revenue", 1.0, NOON - 3 * HOUR), ("revenue", 2.0, NOON - HOUR), ("revenue", 3.0, NOON))
    with database.write() as transaction:
        [found] = judge_values(transaction, NAMESPACE, LOOP_NAME, span(NOON - 2 * HOUR, NOON), ())
    assert found.value == 2.0
    assert waiting(database) == 1


def test_a_metric_of_which_nothing_came_is_no_success(database: Database) -> None:
    with database.write() as transaction:
        [found] = judge_values(transaction, NAMESPACE, LOOP_NAME, span(0, NOON), ["revenue"])
    assert (found.value, found.verdict, found.note) == (None, Verdict.INCONCLUSIVE, "no value came")


def test_a_value_that_comes_too_late_is_said_to(database: Database) -> None:
    row = {"namespace": NAMESPACE, "loop": LOOP_NAME, "monitor": business.MONITOR, "metric": "revenue", "window": 0}
    with database.write() as transaction:
        transaction.execute(
            insert(measurements).values(**row, start_us=NOON - HOUR, end_us=NOON, rows=1, value=1.0, verdict="pass")
        )
    assert post(database, ("revenue", 1.0, NOON - 1), ("revenue", 1.0, NOON)) == {"kept": 1, "late": 1}


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (("revenue", float("inf"), None), "[1].value"),
        (("revenue", 1.0, NOON + business.AHEAD_US + MINUTE), "[1].at"),
    ],
    ids=["infinite", "future"],
)
def test_one_wrong_value_keeps_all_of_them_out(
    database: Database, value: tuple[str, float, int | None], where: str
) -> None:
    with pytest.raises(InvalidSpecError) as refused:
        post(database, ("revenue", 1.0, None), value)
    assert refused.value.where == where
    assert waiting(database) == 0


def test_a_time_that_is_none_and_a_loop_that_is_none_are_said(database: Database) -> None:
    with pytest.raises(NotFoundError):
        post(database, ("revenue", 1.0, None), loop="stranger")
    with pytest.raises(InvalidSpecError, match="not a time"), database.write() as transaction:
        wrong = PostedValue(name="revenue", value=1.0, at="yesterday")
        keep_values(transaction, NAMESPACE, LOOP_NAME, [wrong], now_us=NOON)


def test_names_and_values_are_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidSpecError, match="at most 100"):
        post(database, *[(f"of_customer_{number}", 1.0, None) for number in range(business.MOST_NAMES + 1)])
    monkeypatch.setattr(business, "MOST_WAITING", 3)
    with pytest.raises(UnavailableError, match="3 values wait"):
        post(database, *[("revenue", 1.0, NOON - number) for number in range(4)])
    assert waiting(database) == 0


def test_windows_of_a_loop_have_the_business_metric_and_a_metric_trigger_may_name_it(tmp_path: Path) -> None:
    trigger: JsonObject = {"metric": "business/revenue", "below": 50.0}
    scenario = Scenario(
        train=lambda number, _: Rule(errors=(0.1,), salt=0.37 * number),
        windows=4,
        rows_per_window=25,
        spec={"retrain": {"triggers": [trigger], "cooldown": "1h", "minNewLabels": 0}},
    )
    simulation = Simulation(tmp_path / "world", scenario)
    rows = scenario.rows(1)
    database = simulation.world.database
    first, last = rows[0].event_us, rows[-1].event_us
    step = (last - first) // 40
    with database.write() as transaction:
        posted = [
            PostedValue(name="revenue", value=100.0 if number < 11 else 10.0, at=to_text(first + number * step))
            for number in range(40)
        ]
        keep_values(transaction, NAMESPACE, LOOP_NAME, posted, now_us=ORIGIN_US)
    result = simulation.go(rows)
    query = select(measurements).where(measurements.c.monitor == business.MONITOR).order_by(measurements.c.window)
    with database.read() as transaction:
        measured = [(row.metric, row.value) for row in transaction.execute(query)]
    assert measured[0] == ("revenue", 100.0)
    assert measured[-1] == ("revenue", 10.0)
    assert any(kind == "Trigger" and "business/revenue" in text for kind, _, text in story(result))
