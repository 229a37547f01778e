"""Moments of the ring that a stream seldom meets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ring_worlds import LOOP_NAME, NAMESPACE, ORIGIN_US, Rule, Scenario, Simulation, story

from goldenloop.control import byhand
from goldenloop.control.memory import LoopMemory, RolloutMemory
from goldenloop.control.progress import MEMORY, ROLLOUT
from goldenloop.control.replaying import InProcessRouter
from goldenloop.control.ring import Ring
from goldenloop.core.clock import DAY, HOUR
from goldenloop.core.routing import RoutingTable
from goldenloop.store import memories

QUIET = Scenario(train=lambda number, _: Rule(errors=(0.1,), salt=0.37 * number), windows=4, rows_per_window=25)


class NewsBetweenTwoQuestions:
    """A router at which a request begins to wait just after control asked for the first time."""

    def __init__(self, router: InProcessRouter, event_us: int) -> None:
        self._router = router
        self._event_us = event_us
        self.asked = 0

    def publish(self, table: RoutingTable) -> None:
        self._router.publish(table)

    def held(self, _namespace: str, _service: str) -> tuple[int, int] | None:
        self.asked += 1
        return None if self.asked == 1 else (self._event_us, self._event_us)

    def settle(self) -> bool:
        return self._router.settle()

    def failures(self) -> dict[str, str]:
        return {}


def closed(simulation: Simulation) -> int:
    with simulation.world.database.read() as transaction:
        memory = memories.recall(transaction, NAMESPACE, LOOP_NAME, MEMORY, LoopMemory)
    assert memory is not None
    return memory.closed


def test_a_request_that_begins_to_wait_after_the_log_was_read_closes_nothing(tmp_path: Path) -> None:
    """What was on its way before it may not have been in the log yet."""
    simulation = Simulation(tmp_path / "world", QUIET)
    simulation.replay.begin()
    simulation.replay.send(QUIET.rows(1)[:20])
    router = NewsBetweenTwoQuestions(simulation.router, ORIGIN_US + HOUR)
    ring = Ring(dataclasses.replace(simulation.world, router=router), simulation.router.table)
    ring.advance()
    assert closed(simulation) == 0
    ring.advance()  # asked again, first: now the log is read after the news
    assert closed(simulation) == 1
    assert router.asked >= 2


def test_a_rollout_that_counts_rows_ends_in_time_without_any(tmp_path: Path) -> None:
    scenario = dataclasses.replace(QUIET, replay=False, spec={"windows": {"size": 25}})
    simulation = Simulation(tmp_path / "world", scenario)
    simulation.go(scenario.rows(1))
    byhand.run_now(simulation.world, NAMESPACE, LOOP_NAME, reason="")
    for _ in range(30):
        simulation.clock.advance(2_000_000)
        simulation.advance()
    with simulation.world.database.read() as transaction:
        assert memories.recall(transaction, NAMESPACE, LOOP_NAME, ROLLOUT, RolloutMemory) is not None
    simulation.clock.advance(DAY + HOUR)
    simulation.advance()
    with simulation.world.database.read() as transaction:
        assert memories.recall(transaction, NAMESPACE, LOOP_NAME, ROLLOUT, RolloutMemory) is None
    kind, _, text = story(simulation.replay.result())[-1]
    assert kind == "Inconclusive"
    assert "no decision in time" in text
