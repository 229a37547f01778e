"""Objectives judged on what a store holds: budgets, alerts, policies when one is spent, and what is told, each once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from ring_worlds import LOOP_NAME, NAMESPACE, Rule, Scenario, Simulation, story
from sqlalchemy import insert, select

from goldenloop.control.counters import ServiceCounts
from goldenloop.control.indicators import count, key_of
from goldenloop.control.objective_keeping import ObjectiveKeeper
from goldenloop.control.objectives import SLO, stand
from goldenloop.control.owner import owner_view
from goldenloop.core.clock import DAY, HOUR, MINUTE
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import VersionState
from goldenloop.registry import versions
from goldenloop.standards.kubernetes import conditions_of, kind_named
from goldenloop.standards.objectives import Objective
from goldenloop.standards.openslo import ServiceLevel, from_objective, read_slo
from goldenloop.store import resources
from goldenloop.store.database import Database, sqlite_url
from goldenloop.store.tables import indicator_totals, measurements, timeline

SERVICE = (NAMESPACE, LOOP_NAME)


class FakeCounters:
    """Counters that say what a test lets them."""

    def __init__(self) -> None:
        self.counts = ServiceCounts()

    def read(self) -> Mapping[tuple[str, str], ServiceCounts]:
        return {SERVICE: self.counts}

    def serve(self, good: int, failed: int = 0) -> None:
        self.counts.requests += good + failed
        self.counts.failed += failed


def level(indicator: str, target: str, **more: object) -> ServiceLevel:
    return read_slo("slo", from_objective(LOOP_NAME, Objective(indicator=indicator, target=target, **more)))[0]  # type: ignore[arg-type]


def scenario(objectives: list[JsonObject], **spec: object) -> Scenario:
    return Scenario(
        train=lambda number, _: Rule(errors=(0.1,), salt=0.37 * number),
        windows=4,
        rows_per_window=25,
        spec={"objectives": objectives, **spec},  # type: ignore[dict-item]
    )


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = Database(sqlite_url(tmp_path / "state.db"))
    made.migrate()
    return made


def measure(database: Database, values: list[float | None], *, metric: str = "accuracy", verdict: str = "pass") -> int:
    """One measurement a day, from day 0; the end of the last."""
    rows = [
        {
            **{"namespace": NAMESPACE, "loop": LOOP_NAME, "monitor": "performance", "metric": metric, "feature": ""},
            **{"slice": "", "version": "1", "window": day, "start_us": day * DAY, "end_us": (day + 1) * DAY},
            **{"rows": 10, "value": value, "threshold": None, "verdict": verdict, "note": ""},
        }
        for day, value in enumerate(values)
    ]
    with database.write() as transaction:
        transaction.execute(insert(measurements), rows)
    return len(values) * DAY


def slo(simulation: Simulation, index: int = 0) -> JsonObject:
    with simulation.world.database.read() as transaction:
        return resources.listing(transaction, SLO, NAMESPACE)[index]


def state_of(document: JsonObject) -> JsonObject:
    status = document["status"]
    assert isinstance(status, dict)
    (shown,) = status["objectives"]  # type: ignore[misc]
    assert isinstance(shown, dict)
    return shown


# what is counted


def test_windows_are_occurrences_and_the_budget_is_that_of_the_whole_window(database: Database) -> None:
    """Two bad days of fourteen, of 28 days with 5 % to spare: 1.4 may be bad, so it is overspent."""
    now_us = measure(database, [0.9] * 6 + [0.7, 0.7] + [0.9] * 6)
    with database.read() as transaction:
        standing = stand(transaction, NAMESPACE, "uid", level("accuracy", ">= 0.8"), now_us=now_us)
    assert (standing.budget.good, standing.budget.total) == (12.0, 14.0)
    assert standing.budget.remaining == pytest.approx(1 - 2 / (0.05 * 28))
    assert standing.state == "Spent"


def test_windows_without_evidence_count_neither_for_nor_against_and_errors_count_against(database: Database) -> None:
    now_us = measure(database, [None] * 5, verdict="inconclusive")
    asked = level("accuracy", ">= 0.8")
    with database.read() as transaction:
        standing = stand(transaction, NAMESPACE, "uid", asked, now_us=now_us)
    assert (standing.state, standing.verdict.value, standing.is_spent) == ("Unknown", "inconclusive", False)
    assert standing.unmeasured is not None
    assert standing.unmeasured.reason == "NothingMeasured"
    measure(database, [None] * 5, verdict="error", metric="log_loss")
    with database.read() as transaction:
        failed = stand(transaction, NAMESPACE, "uid", level("log_loss", "<= 0.8"), now_us=now_us)
    assert (failed.budget.good, failed.budget.total) == (0.0, 5.0)


def test_a_metric_that_nobody_produces_is_said_with_those_that_are(database: Database) -> None:
    now_us = measure(database, [0.9] * 3)
    with database.read() as transaction:
        standing = stand(transaction, NAMESPACE, "uid", level("acuracy", ">= 0.8"), now_us=now_us)
    assert standing.unmeasured is not None
    assert standing.unmeasured.reason == "NobodyMeasuresIt"
    assert standing.unmeasured.message.startswith(
        "nobody measures performance/acuracy; measured are performance/accuracy."
    )
    assert "Did you mean 'performance/accuracy'?" in standing.unmeasured.message


@pytest.mark.parametrize("target", [">= 0.5", ">= 0.93", ">= 0.999"])
@pytest.mark.parametrize("method", ["occurrences", "timeslices", "ratioTimeslices"])
def test_every_alert_fires_on_total_failure_and_none_on_success(database: Database, target: str, method: str) -> None:
    """Whatever the target and the method, also where windows come once a day and alerts look back an hour."""
    now_us = measure(database, [0.0] * 28)
    quality = level("accuracy", ">= 0.8", share=float(target[3:]), budgeting=method, slice="1d")
    assert quality.alerts
    with database.read() as transaction:
        fired = stand(transaction, NAMESPACE, "uid", quality, now_us=now_us).firing
    assert all(each.fires for each in fired), fired
    measure(database, [1.0] * 28, metric="f1")
    fine = level("f1", ">= 0.8", share=float(target[3:]), budgeting=method, slice="1d")
    with database.read() as transaction:
        assert not any(each.fires for each in stand(transaction, NAMESPACE, "uid", fine, now_us=now_us).firing)


def test_the_time_from_an_alarm_to_its_decision_counts_also_while_it_waits(database: Database) -> None:
    told = [("Alarm", 0), ("Promoted", 2), ("Alarm", 5), ("Alarm", 6), ("NotTriggered", 15), ("Alarm", 20)]
    with database.write() as transaction:
        for kind, day in told:
            values = {"kind": kind, "text": "", "facts": {}, "event_us": day * DAY + 1, "created_us": 1}
            transaction.execute(insert(timeline).values(namespace=NAMESPACE, loop=LOOP_NAME, **values))
    asked = level("decision_time", "<= 7d")
    with database.read() as transaction:
        early = stand(transaction, NAMESPACE, "uid", asked, now_us=22 * DAY)
        late = stand(transaction, NAMESPACE, "uid", asked, now_us=28 * DAY)
    assert (early.budget.good, early.budget.total) == (1.0, 2.0), "2 days; 10 days; the third waits 2 days so far"
    assert (late.budget.good, late.budget.total) == (1.0, 3.0)


# what the wall clock counts


def totals(database: Database, asked: ServiceLevel, readings: list[tuple[int, float, float]]) -> None:
    with database.write() as transaction:
        for at_us, good, total in readings:
            count(transaction, key_of("uid", asked), good=good, total=total, now_us=at_us, window_us=asked.window_us)


def test_counters_that_begin_anew_lose_nothing(database: Database) -> None:
    asked = level("availability", ">= 0.9", window="1d")
    totals(database, asked, [(0, 0, 0), (HOUR, 90, 100), (2 * HOUR, 5, 10), (3 * HOUR, 10, 20)])
    with database.read() as transaction:
        standing = stand(transaction, NAMESPACE, "uid", asked, now_us=3 * HOUR)
    assert (standing.budget.good, standing.budget.total) == (100.0, 120.0)


def test_a_clock_that_is_set_back_keeps_what_was_counted(database: Database) -> None:
    asked = level("availability", ">= 0.9", window="1d")
    totals(database, asked, [(0, 0, 0), (HOUR, 100, 100), (9 * HOUR, 150, 200)])
    with database.write() as transaction:
        key = key_of("uid", asked)
        assert count(transaction, key, good=160, total=210, now_us=2 * HOUR, window_us=asked.window_us)
        assert not count(transaction, key, good=170, total=220, now_us=3 * HOUR, window_us=asked.window_us)
        moments = list(
            transaction.execute(select(indicator_totals.c.at_us).order_by(indicator_totals.c.at_us)).scalars()
        )
        standing = stand(transaction, NAMESPACE, "uid", asked, now_us=3 * HOUR)
    assert moments == [0, HOUR, 2 * HOUR, 3 * HOUR]
    assert (standing.budget.good, standing.budget.total) == (170.0, 220.0)


def test_rows_before_the_window_go_but_for_the_one_where_it_begins(database: Database) -> None:
    asked = level("availability", ">= 0.9", window="1h")
    totals(database, asked, [(minute * MINUTE, minute, minute) for minute in range(300)])
    with database.read() as transaction:
        rows = list(transaction.execute(select(indicator_totals.c.at_us)).scalars())
        standing = stand(transaction, NAMESPACE, "uid", asked, now_us=299 * MINUTE)
    assert len(rows) == 61
    assert standing.budget.total == 60.0


def test_the_keeper_counts_judges_and_tells_once(tmp_path: Path) -> None:
    """An outage of a loop's service: the alert and the spent budget are told once, and again good requests are told once."""
    objective: JsonObject = {"indicator": "availability", "target": ">= 0.9", "window": "20m"}
    simulation = Simulation(tmp_path / "world", scenario([objective]))
    simulation.go(simulation.scenario.rows(1))
    counters = FakeCounters()
    keeper = ObjectiveKeeper(simulation.world, counters)

    def minutes(number: int, good: int, failed: int) -> None:
        for _ in range(number):
            counters.serve(good, failed)
            simulation.clock.advance(MINUTE)
            keeper.advance()

    keeper.advance()
    assert state_of(slo(simulation))["state"] == "Unknown"
    minutes(5, 100, 0)
    assert state_of(slo(simulation))["state"] == "Met"
    minutes(7, 50, 50)
    shown = state_of(slo(simulation))
    assert shown["state"] == "Spent"
    assert any(each["firing"] for each in shown["alerts"])  # type: ignore[union-attr, index, call-overload]
    # Another control process, which remembers nothing, tells nothing again.
    keeper = ObjectiveKeeper(simulation.world, counters)
    minutes(1, 50, 50)
    minutes(22, 100, 0)
    assert state_of(slo(simulation))["state"] == "Met"
    told = [
        kind for kind, _, _ in story(simulation.replay.result()) if kind in ("BudgetSpent", "BudgetLeft", "BurnRate")
    ]
    assert (told.count("BudgetSpent"), told.count("BudgetLeft")) == (1, 1)
    assert told.count("BurnRate") >= 1


def test_an_slo_of_a_person_is_judged_and_one_that_goes_takes_its_counts_along(tmp_path: Path) -> None:
    simulation = Simulation(tmp_path / "world", scenario([]))
    spec = from_objective(LOOP_NAME, Objective(indicator="availability", target=">= 0.9"))
    document: JsonObject = {"metadata": {"name": "by-hand"}, "spec": spec}
    with simulation.world.database.write() as transaction:
        resources.create(transaction, SLO, NAMESPACE, document, now_us=1)
    counters = FakeCounters()
    keeper = ObjectiveKeeper(simulation.world, counters)
    for _ in range(3):
        counters.serve(99, 1)
        simulation.clock.advance(MINUTE)
        keeper.advance()
    shown = state_of(slo(simulation))
    assert (shown["name"], shown["good"], shown["total"]) == ("by-hand", 198.0, 200.0)
    with simulation.world.database.write() as transaction:
        resources.remove(transaction, SLO, NAMESPACE, "by-hand")
    simulation.clock.advance(MINUTE)
    keeper.advance()
    with simulation.world.database.read() as transaction:
        assert transaction.execute(select(indicator_totals)).all() == []


def test_data_that_stops_coming_is_not_fresh(tmp_path: Path) -> None:
    objective: JsonObject = {"indicator": "data_freshness", "target": "<= 2h", "window": "1d", "share": 0.5}
    simulation = Simulation(tmp_path / "world", scenario([objective]))
    simulation.go(simulation.scenario.rows(1))
    keeper = ObjectiveKeeper(simulation.world, FakeCounters())
    for _ in range(10):
        simulation.clock.advance(30 * MINUTE)
        keeper.advance()
    shown = state_of(slo(simulation))
    replays = simulation.scenario.document()["spec"]["replay"]  # type: ignore[index, call-overload]
    if replays:
        assert shown["state"] == "Unknown", "a recorded year is not late by the clock of today"
    else:
        assert 0 < shown["good"] < shown["total"]  # type: ignore[operator]


# in the loop


def test_objectives_of_a_loop_are_judged_at_its_ticks(tmp_path: Path) -> None:
    objectives: list[JsonObject] = [
        {"indicator": "accuracy", "target": ">= 0.5", "window": "28d"},
        {"indicator": "acuracy", "target": ">= 0.5"},
        {"indicator": "model_freshness", "target": "<= 90d"},
        {"indicator": "promotion_error", "target": "<= 0.04"},
    ]
    simulation = Simulation(tmp_path / "world", scenario(objectives))
    simulation.go(simulation.scenario.rows(1))
    by_name = {
        str(resources.metadata_of(document)["name"]): document for document in (slo(simulation, i) for i in range(4))
    }
    assert state_of(by_name["sim-accuracy-0"])["state"] == "Met"
    assert state_of(by_name["sim-accuracy-0"])["total"] == 2.0
    wrong = {str(each["type"]): each for each in conditions_of(by_name["sim-acuracy-1"]["status"])}
    assert (wrong["Measured"]["status"], wrong["Measured"]["reason"]) == ("False", "NobodyMeasuresIt")
    assert wrong["Met"]["status"] == "Unknown"
    assert state_of(by_name["sim-promotion-error-3"])["budgetRemaining"] == 1.0
    with simulation.world.database.read() as transaction:
        seen = owner_view(transaction, NAMESPACE, LOOP_NAME, now_us=simulation.clock.now_us())
    assert seen["fit"]["state"] == "Fit"  # type: ignore[index, call-overload]
    assert [each["kind"] for each in seen["waits"]] == ["Objective"]  # type: ignore[union-attr, index, call-overload]
    assert seen["did"]["runs"] == 1  # type: ignore[index, call-overload]
    assert {each["monitor"] for each in seen["monitors"]} >= {"drift", "performance"}  # type: ignore[union-attr, index, call-overload]


def changing(on_spent: str) -> Scenario:
    """Version 1 gets bad in the second world; version 2 is good there, and bad in the third, where version 1 is good again."""
    rules = {0: Rule(errors=(0.1, 0.45, 0.1), salt=0.0), 1: Rule(errors=(0.1, 0.05, 0.45), salt=0.37)}
    objective: JsonObject = {
        **{"indicator": "accuracy", "target": ">= 0.75", "window": "8h", "share": 0.9, "onSpent": on_spent},
    }
    return Scenario(
        train=lambda number, _: rules.get(number, Rule(errors=(0.5, 0.5, 0.5), salt=0.7)),
        regime=lambda window: 0.0 if window < 8 else 1.0 if window < 24 else 2.0,
        windows=36,
        rows_per_window=40,
        spec={"objectives": [objective]},
    )


def told_by(simulation: Simulation, *chosen: str) -> list[tuple[str, str]]:
    return [(kind, text) for kind, _, text in story(simulation.replay.result()) if kind in chosen]


def test_a_spent_budget_freezes_promotions(tmp_path: Path) -> None:
    promoted = Simulation(tmp_path / "free", changing("nothing"))
    promoted.go(promoted.scenario.rows(1)[: 40 * 20])
    assert any(kind == "Promoted" for kind, _ in told_by(promoted, "Promoted")), (
        "without the freeze version 2 is promoted"
    )
    frozen = Simulation(tmp_path / "frozen", changing("freeze"))
    frozen.go(frozen.scenario.rows(1)[: 40 * 20])
    assert told_by(frozen, "Promoted") == []
    assert len(told_by(frozen, "BudgetSpent")) == 1
    with frozen.world.database.read() as transaction:
        (rollout,) = resources.listing(transaction, kind_named("rollouts"), NAMESPACE)
    assert "promotions are frozen: the error budget of accuracy >= 0.75 is spent" in str(rollout["status"])


def test_a_spent_budget_falls_back_to_the_version_that_was_golden_before_once(tmp_path: Path) -> None:
    simulation = Simulation(tmp_path / "world", changing("fallBack"))
    simulation.go(simulation.scenario.rows(1))
    kept = [text for _, text in told_by(simulation, "NoFallBack")]
    assert len(kept) == 1, (
        "version 1 spent the budget in the second world, when nothing had been golden before, or was gone"
    )
    assert kept[0].startswith("the error budget of accuracy >= 0.75 is spent, and ")
    backs = [text for _, text in told_by(simulation, "RolledBack") if "is golden again" in text]
    assert backs == [
        "version 1 is golden again, version 2 is quarantined: the error budget of accuracy >= 0.75 is spent"
    ]
    with simulation.world.database.read() as transaction:
        golden = versions.golden(transaction, NAMESPACE, LOOP_NAME)
        second = versions.get(transaction, NAMESPACE, LOOP_NAME, 2)
    assert golden is not None
    assert (golden.number, second.state) == (1, VersionState.QUARANTINED)
