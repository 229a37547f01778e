"""A rollback while control is away, and what control makes of it when it is back."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from ring_worlds import LOOP_NAME, NAMESPACE, Rule, Scenario, Simulation

from goldenloop.control import byhand
from goldenloop.control.home import Home
from goldenloop.control.offline import adopt, roll_back_offline
from goldenloop.control.ring import Ring
from goldenloop.control.router import present_table
from goldenloop.core.errors import ConflictError, NotFoundError
from goldenloop.core.phases import VersionState
from goldenloop.core.routing import Graph, Node, RoutingTable, Served, Service, Step
from goldenloop.registry import versions

QUIET = Scenario(train=lambda number, _: Rule(errors=(0.1, 0.1), salt=0.37 * number), windows=8, rows_per_window=25)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.at(tmp_path / "home")


@pytest.fixture
def simulation(tmp_path: Path) -> Simulation:
    """A loop with a challenger in the shadow."""
    made = Simulation(tmp_path / "world", QUIET)
    made.replay.begin()
    rows = QUIET.rows(1)
    made.replay.send(rows[:25])
    byhand.run_now(made.world, NAMESPACE, LOOP_NAME, reason="")
    made.replay.send(rows[25:50])
    return made


def leave(home: Home, table: RoutingTable) -> None:
    home.routing_table.write_bytes(msgspec.json.encode(table))


def states(simulation: Simulation) -> list[VersionState]:
    with simulation.world.database.read() as transaction:
        return [version.state for version in versions.listing(transaction, NAMESPACE, LOOP_NAME)]


def test_a_rollout_is_ended_in_the_table_at_once_and_in_the_database_later(home: Home, simulation: Simulation) -> None:
    leave(home, simulation.router.table)
    assert roll_back_offline(home, NAMESPACE, LOOP_NAME, reason="late at night") == {"golden": 1, "quarantined": 2}
    flipped = present_table(home)
    assert flipped.generation == simulation.router.table.generation + 1
    assert (flipped.services[0].champion, flipped.services[0].shadows) == ("1", ())
    assert adopt(home, simulation.world)
    assert states(simulation) == [VersionState.GOLDEN, VersionState.QUARANTINED]
    ring = Ring(simulation.world, flipped)
    ring.advance()
    assert ring.table.services[0].champion == "1"
    assert ring.table.services[0].shadows == ()
    assert not adopt(home, simulation.world)


def test_a_golden_version_is_rolled_back_once_however_often_control_dies(home: Home, simulation: Simulation) -> None:
    byhand.promote(simulation.world, NAMESPACE, LOOP_NAME, version=None, reason="")
    simulation.advance()
    leave(home, simulation.router.table)
    assert roll_back_offline(home, NAMESPACE, LOOP_NAME, reason="") == {"golden": 1, "quarantined": 2}
    notes = {path: path.read_bytes() for path in (home.path / "pending-rollbacks").iterdir()}
    adopt(home, simulation.world)
    for path, content in notes.items():  # control died before the note was gone
        path.write_bytes(content)
    adopt(home, simulation.world)
    assert states(simulation) == [VersionState.GOLDEN, VersionState.QUARANTINED]


def test_there_must_be_something_to_go_back_to(home: Home, simulation: Simulation) -> None:
    with pytest.raises(NotFoundError, match="no service"):
        roll_back_offline(home, NAMESPACE, LOOP_NAME, reason="")
    service = msgspec.structs.replace(
        simulation.router.table.services[0], shadows=(), versions=simulation.router.table.services[0].versions[:1]
    )
    leave(home, RoutingTable(generation=3, services=(service,)))
    with pytest.raises(ConflictError, match="no earlier golden version is loaded"):
        roll_back_offline(home, NAMESPACE, LOOP_NAME, reason="")
    assert present_table(home).generation == 3


def test_a_service_that_no_loop_wrote_is_not_rolled_back_by_hand(home: Home) -> None:
    """Nothing would remember it: control would flip it forward again."""
    served = tuple(Served(version=name, path=f"/models/{name}", digest=name) for name in ("2", "1"))
    table = RoutingTable(
        generation=4, services=(Service(namespace="default", name="iris", champion="2", versions=served),)
    )
    leave(home, table)
    with pytest.raises(ConflictError, match="canaryTrafficPercent"):
        roll_back_offline(home, "default", "iris", reason="")
    assert present_table(home) == table


def test_a_rollback_leaves_the_graphs_in_the_table(home: Home, simulation: Simulation) -> None:
    node = Node(router_type="Sequence", steps=(Step(service=LOOP_NAME),))
    graph = Graph(namespace=NAMESPACE, name="chain", nodes={"root": node})
    leave(home, msgspec.structs.replace(simulation.router.table, graphs=(graph,)))
    roll_back_offline(home, NAMESPACE, LOOP_NAME, reason="")
    assert present_table(home).graphs == (graph,)
