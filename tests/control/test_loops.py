"""What a Loop brings into being, keeps as its spec says, and shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from ring_worlds import LOOP_NAME, NAMESPACE, Rule, Scenario, Simulation, story

from goldenloop.control.view import LOOP
from goldenloop.core.errors import RefusedError, UnavailableError
from goldenloop.core.json import JsonObject
from goldenloop.standards import kubernetes
from goldenloop.store import resources

SLO = kubernetes.kind_named("slos")
OBJECTIVES = [
    {"indicator": "accuracy", "target": ">= 0.80", "window": "28d"},
    {"indicator": "latency_p99_ms", "target": "<= 50", "window": "28d"},
]


def scenario_with(objectives: list[dict[str, str]]) -> Scenario:
    return Scenario(
        train=lambda number, _: Rule(errors=(0.1,), salt=0.37 * number),
        windows=4,
        rows_per_window=25,
        spec={"objectives": objectives},  # type: ignore[dict-item]
    )


@pytest.fixture
def simulation(tmp_path: Path) -> Simulation:
    made = Simulation(tmp_path / "world", scenario_with(OBJECTIVES))
    made.go(made.scenario.rows(1))
    return made


def listed(simulation: Simulation, plural: str) -> list[JsonObject]:
    with simulation.world.database.read() as transaction:
        return resources.listing(transaction, kubernetes.kind_named(plural), NAMESPACE)


def look(simulation: Simulation) -> None:
    simulation.clock.advance(2_000_000)
    simulation.advance()


def test_a_loop_owns_what_it_writes_and_it_can_be_changed_by_the_loop_alone(simulation: Simulation) -> None:
    for plural in ("inferenceservices", "monitors", "triggers", "slos"):
        for document in listed(simulation, plural):
            metadata = resources.metadata_of(document)
            assert metadata["ownerReferences"][0]["name"] == LOOP_NAME  # type: ignore[index, call-overload]
            kind = kubernetes.kind_named(plural)
            with (
                pytest.raises(RefusedError, match="belongs to Loop 'sim'"),
                simulation.world.database.write() as transaction,
            ):
                resources.replace(transaction, kind, NAMESPACE, str(metadata["name"]), {**document, "spec": {}})


def test_objectives_become_slos_and_go_when_the_loop_drops_them(simulation: Simulation) -> None:
    assert len(listed(simulation, "slos")) == 2
    with simulation.world.database.write() as transaction:
        document = resources.get(transaction, LOOP, NAMESPACE, LOOP_NAME)
        spec = document["spec"]
        assert isinstance(spec, dict)
        renewed = {**document, "spec": {**spec, "objectives": OBJECTIVES[:1]}}
        resources.replace(transaction, LOOP, NAMESPACE, LOOP_NAME, renewed)
    look(simulation)
    left = listed(simulation, "slos")
    assert len(left) == 1
    assert "accuracy" in str(left[0]["spec"])


def test_what_a_person_changes_in_the_store_is_put_right(simulation: Simulation) -> None:
    with simulation.world.database.write() as transaction:
        trigger = kubernetes.kind_named("triggers")
        owner = str(resources.metadata_of(resources.get(transaction, LOOP, NAMESPACE, LOOP_NAME))["uid"])
        resources.remove(transaction, trigger, NAMESPACE, LOOP_NAME, by=owner)
    look(simulation)
    assert len(listed(simulation, "triggers")) == 1


def test_a_name_that_another_holds_is_said_on_the_timeline_and_nothing_is_taken(tmp_path: Path) -> None:
    simulation = Simulation(tmp_path / "world", scenario_with([]))
    stranger: JsonObject = {"metadata": {"name": LOOP_NAME}, "spec": {"loop": "another"}}
    with simulation.world.database.write() as transaction:
        resources.create(transaction, kubernetes.kind_named("triggers"), NAMESPACE, stranger, now_us=1)
    for _ in range(3):
        look(simulation)
    errors = [text for kind, _, text in story(simulation.replay.result()) if kind == "Error"]
    assert len(errors) == 1
    assert "is not this loop's" in errors[0]
    assert "goldenloop delete triggers sim" in errors[0]
    assert listed(simulation, "triggers")[0]["spec"] == {"loop": "another"}


def test_the_status_says_who_answers_and_how_far_the_loop_has_come(simulation: Simulation) -> None:
    with simulation.world.database.read() as transaction:
        status = resources.get(transaction, LOOP, NAMESPACE, LOOP_NAME)["status"]
    assert isinstance(status, dict)
    assert (status["champion"], status["phase"], status["windows"]) == ("1", "Serving", 3)
    conditions = status["conditions"]
    assert isinstance(conditions, list)
    ready = next(each for each in conditions if isinstance(each, dict) and each["type"] == "Ready")
    assert (ready["status"], ready["message"]) == ("True", "version 1 answers")


def test_a_first_version_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    scenario = Scenario(train=lambda _number, _regime: None, windows=2)
    simulation = Simulation(tmp_path / "world", scenario)
    with pytest.raises(UnavailableError, match="the loop has no first version: run .* failed: the step died"):
        simulation.replay.begin()
    look(simulation)
    with simulation.world.database.read() as transaction:
        status = resources.get(transaction, LOOP, NAMESPACE, LOOP_NAME)["status"]
    assert isinstance(status, dict)
    assert (status["champion"], status["phase"]) == (None, "Blocked")
