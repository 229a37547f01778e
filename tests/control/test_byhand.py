"""What a person decides, in the middle of a simulated loop: a run now, a promotion, a rollback."""

from __future__ import annotations

from pathlib import Path

import pytest
from ring_worlds import LOOP_NAME, NAMESPACE, Rule, Scenario, Simulation, story
from sqlalchemy import select

from goldenloop.control import byhand
from goldenloop.control.memory import LoopMemory, RolloutMemory
from goldenloop.control.progress import MEMORY, ROLLOUT
from goldenloop.core.errors import ConflictError, NotFoundError
from goldenloop.core.phases import VersionState
from goldenloop.registry import versions
from goldenloop.standards import kubernetes
from goldenloop.store import memories, resources
from goldenloop.store.tables import evaluations

QUIET = Scenario(train=lambda number, _: Rule(errors=(0.1, 0.1), salt=0.37 * number), windows=12, rows_per_window=25)


class Bench:
    """A world that is fed window by window."""

    def __init__(self, folder: Path) -> None:
        self.simulation = Simulation(folder / "world", QUIET)
        self._rows = QUIET.rows(1)
        self._sent = 0
        self.simulation.replay.begin()

    @property
    def world(self) -> byhand.World:
        return self.simulation.world

    def send(self, windows: int) -> None:
        following = self._sent + windows * QUIET.rows_per_window
        self.simulation.replay.send(self._rows[self._sent : following])
        self._sent = following

    def run(self, windows: int = 1) -> None:
        """A run by hand, and what comes of it."""
        byhand.run_now(self.world, NAMESPACE, LOOP_NAME, reason="a new column")
        self.send(windows)

    def states(self) -> list[VersionState]:
        with self.world.database.read() as transaction:
            return [version.state for version in versions.listing(transaction, NAMESPACE, LOOP_NAME)]

    def rollout(self) -> RolloutMemory | None:
        with self.world.database.read() as transaction:
            return memories.recall(transaction, NAMESPACE, LOOP_NAME, ROLLOUT, RolloutMemory)

    def memory(self) -> LoopMemory:
        with self.world.database.read() as transaction:
            found = memories.recall(transaction, NAMESPACE, LOOP_NAME, MEMORY, LoopMemory)
        assert found is not None
        return found

    def answering(self) -> str:
        service = self.simulation.router.service(NAMESPACE, LOOP_NAME)
        assert service is not None
        return service.champion


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.send(1)
    return made


def test_a_run_by_hand_trains_a_challenger_that_has_to_earn_its_place(bench: Bench) -> None:
    bench.run()
    assert bench.states() == [VersionState.GOLDEN, VersionState.BLESSED]
    rollout = bench.rollout()
    assert rollout is not None
    assert rollout.state.challenger == "2"
    assert any(kind == "Trigger" and "by hand: a new column" in text for kind, _, text in told(bench))


def test_a_second_run_by_hand_takes_the_place_of_the_first_challenger(bench: Bench) -> None:
    bench.run()
    bench.run()
    assert bench.states() == [VersionState.GOLDEN, VersionState.SUPERSEDED, VersionState.BLESSED]
    rollout = bench.rollout()
    assert rollout is not None
    assert rollout.state.challenger == "3"
    with bench.world.database.read() as transaction:
        shown = resources.listing(transaction, kubernetes.kind_named("rollouts"), NAMESPACE)
    phases = {document["metadata"]["name"]: document["status"]["phase"] for document in shown}  # type: ignore[index, call-overload]
    assert phases == {"sim-2": "Inconclusive", "sim-3": "Shadow"}
    assert bench.memory().setbacks == 0


def test_the_challenger_promoted_by_hand_answers_at_once_and_is_on_record(bench: Bench) -> None:
    bench.run()
    assert byhand.promote(bench.world, NAMESPACE, LOOP_NAME, version=None, reason="it is urgent") == {"golden": 2}
    bench.simulation.advance()
    assert bench.answering() == "2"
    assert bench.states() == [VersionState.RETIRED, VersionState.GOLDEN]
    assert bench.rollout() is None
    with bench.world.database.read() as transaction:
        by_person = select(evaluations).where(evaluations.c.decided_by == "person")
        record = transaction.execute(by_person).one()
    assert (record.challenger, record.champion, record.verdict) == (2, 1, "pass")
    assert "it is urgent" in record.reason
    bench.send(2)
    assert bench.simulation.replay.result().quality[-1].version == "2"


def test_a_rollout_rolled_back_by_hand_quarantines_the_challenger(bench: Bench) -> None:
    bench.run()
    done = byhand.roll_back(bench.world, NAMESPACE, LOOP_NAME, reason="it is slow")
    assert done == {"golden": 1, "quarantined": 2}
    bench.simulation.advance()
    assert bench.states() == [VersionState.GOLDEN, VersionState.QUARANTINED]
    assert bench.answering() == "1"
    with pytest.raises(ConflictError, match="cannot become Golden"):
        byhand.promote(bench.world, NAMESPACE, LOOP_NAME, version=2, reason="after all")
    assert bench.states() == [VersionState.GOLDEN, VersionState.QUARANTINED]


def test_a_golden_version_rolled_back_gives_the_traffic_back_to_the_one_before(bench: Bench) -> None:
    bench.run()
    byhand.promote(bench.world, NAMESPACE, LOOP_NAME, version=None, reason="")
    bench.send(1)
    assert byhand.roll_back(bench.world, NAMESPACE, LOOP_NAME, reason="") == {"golden": 1, "quarantined": 2}
    bench.simulation.advance()
    bench.simulation.check_safety()
    assert bench.answering() == "1"
    assert bench.memory().alarm is None
    with pytest.raises(ConflictError, match="no earlier golden version"):
        byhand.roll_back(bench.world, NAMESPACE, LOOP_NAME, reason="")
    bench.send(2)
    assert bench.simulation.replay.result().quality[-1].value is not None


def test_another_version_promoted_by_hand_ends_the_rollout(bench: Bench) -> None:
    bench.run()
    byhand.promote(bench.world, NAMESPACE, LOOP_NAME, version=None, reason="")
    bench.run()
    assert byhand.promote(bench.world, NAMESPACE, LOOP_NAME, version=1, reason="") == {"golden": 1}
    assert bench.states() == [VersionState.GOLDEN, VersionState.RETIRED, VersionState.SUPERSEDED]
    assert bench.rollout() is None
    assert (bench.memory().setbacks, bench.memory().failed) == (0, "")


def test_what_is_not_there_is_said(bench: Bench) -> None:
    with pytest.raises(NotFoundError, match="there is no rollout"):
        byhand.promote(bench.world, NAMESPACE, LOOP_NAME, version=None, reason="")
    with pytest.raises(NotFoundError, match="no version 7"):
        byhand.promote(bench.world, NAMESPACE, LOOP_NAME, version=7, reason="")
    with pytest.raises(NotFoundError, match="no Loop 'other'"):
        byhand.run_now(bench.world, NAMESPACE, "other", reason="")
    assert bench.states() == [VersionState.GOLDEN]


def told(bench: Bench) -> list[tuple[str, str, str]]:
    return story(bench.simulation.replay.result())
