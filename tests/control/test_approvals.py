"""A person is asked: what waits does nothing, and is decided on exactly once, whatever is sent twice or dies in between."""

from __future__ import annotations

from pathlib import Path

import pytest
from ring_worlds import LOOP_NAME, NAMESPACE, Crash, Rule, Scenario, Simulation
from sqlalchemy import select

from goldenloop.control import byhand
from goldenloop.control.memory import RolloutMemory
from goldenloop.control.progress import ROLLOUT
from goldenloop.control.view import LOOP
from goldenloop.control.world import World
from goldenloop.core.errors import ConflictError, InvalidSpecError, NotFoundError
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import VersionState
from goldenloop.registry import versions
from goldenloop.store import memories, resources
from goldenloop.store.tables import evaluations, timeline

ASKED = Scenario(
    train=lambda number, _: Rule(errors=(0.1, 0.1), salt=0.37 * number),
    windows=12,
    rows_per_window=25,
    spec={"approval": "required"},
)


class Desk:
    """A simulated loop that asks before anything takes part, and somebody who decides."""

    def __init__(self, folder: Path, *, deaths: frozenset[int] = frozenset()) -> None:
        self.simulation = Simulation(folder / "world", ASKED, deaths=deaths)
        self._rows = ASKED.rows(1)
        self._sent = 0

    @property
    def world(self) -> World:
        return self.simulation.world

    def turn(self, times: int = 20) -> None:
        for _ in range(times):
            self.simulation.advance()
            self.simulation.clock.advance(1_000_000)

    def send(self, windows: int = 1) -> None:
        following = self._sent + windows * ASKED.rows_per_window
        self.simulation.replay.send(self._rows[self._sent : following])
        self._sent = following

    def approve(self, version: int | None = None, *, by: str = "Ada", reason: str = "the numbers hold") -> JsonObject:
        return byhand.approve(self.world, NAMESPACE, LOOP_NAME, version=version, reason=reason, person=by)

    def states(self) -> list[VersionState]:
        with self.world.database.read() as transaction:
            return [version.state for version in versions.listing(transaction, NAMESPACE, LOOP_NAME)]

    def kinds(self) -> list[str]:
        with self.world.database.read() as transaction:
            return list(transaction.scalars(select(timeline.c.kind).order_by(timeline.c.sequence)))

    def status(self) -> JsonObject:
        with self.world.database.read() as transaction:
            status = resources.get(transaction, LOOP, NAMESPACE, LOOP_NAME)["status"]
        assert isinstance(status, dict)
        return status

    def by_people(self) -> list[tuple[int, str, str, str]]:
        query = select(evaluations).where(evaluations.c.decided_by == "person").order_by(evaluations.c.created_us)
        with self.world.database.read() as transaction:
            return [(row.challenger, row.verdict, row.person, row.reason) for row in transaction.execute(query)]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    made.turn()
    return made


def test_the_first_version_waits_and_answers_nothing(desk: Desk) -> None:
    assert desk.states() == [VersionState.AWAITING_APPROVAL]
    assert desk.simulation.router.service(NAMESPACE, LOOP_NAME) is None
    assert desk.status()["phase"] == "AwaitingApproval"
    assert desk.status()["awaitingApproval"] == [1]
    assert desk.kinds().count("AwaitingApproval") == 1
    assert "Golden" not in desk.kinds()


def test_an_approval_is_signed_and_lets_it_answer(desk: Desk) -> None:
    for by, reason in (("", "fine"), ("Ada", "  ")):
        with pytest.raises(InvalidSpecError, match="needs a name and a reason"):
            desk.approve(by=by, reason=reason)
    assert desk.approve() == {"version": 1, "state": "Golden", "by": "Ada"}
    desk.turn()
    assert desk.states() == [VersionState.GOLDEN]
    service = desk.simulation.router.service(NAMESPACE, LOOP_NAME)
    assert service is not None
    assert service.champion == "1"
    assert desk.by_people() == [(1, "pass", "Ada", "the numbers hold")]
    assert desk.status()["awaitingApproval"] == []


def test_an_approval_that_is_sent_twice_decides_once(desk: Desk) -> None:
    desk.approve(1)
    again = desk.approve(1, by="Bob", reason="me too")
    assert again == {"version": 1, "state": "Golden", "by": "Ada", "decided": "before"}
    assert len(desk.by_people()) == 1
    assert desk.kinds().count("Approved") == desk.kinds().count("Golden") == 1


def test_a_later_version_that_is_approved_begins_its_rollout_and_is_not_golden(desk: Desk) -> None:
    desk.approve()
    desk.send()
    byhand.run_now(desk.world, NAMESPACE, LOOP_NAME, reason="a new column")
    desk.send()
    assert desk.states() == [VersionState.GOLDEN, VersionState.AWAITING_APPROVAL]
    done = byhand.promote(desk.world, NAMESPACE, LOOP_NAME, version=2, reason="go", person="Ada")
    assert done == {"version": 2, "state": "Blessed", "by": "Ada"}
    with desk.world.database.read() as transaction:
        rollout = memories.recall(transaction, NAMESPACE, LOOP_NAME, ROLLOUT, RolloutMemory)
    assert rollout is not None
    assert rollout.state.challenger == "2"
    desk.send()
    assert desk.states()[0] is VersionState.GOLDEN


def test_a_refusal_keeps_the_champion_and_is_final(desk: Desk) -> None:
    desk.approve()
    desk.send()
    byhand.run_now(desk.world, NAMESPACE, LOOP_NAME, reason="try")
    desk.send()
    done = byhand.refuse(desk.world, NAMESPACE, LOOP_NAME, version=None, reason="unfair to the young", person="Bob")
    assert done == {"version": 2, "state": "Refused", "by": "Bob"}
    assert desk.states() == [VersionState.GOLDEN, VersionState.REFUSED]
    assert desk.by_people()[-1] == (2, "fail", "Bob", "unfair to the young")
    assert desk.approve(2)["decided"] == "before"
    with pytest.raises(ConflictError, match="cannot become Golden"):
        byhand.promote(desk.world, NAMESPACE, LOOP_NAME, version=2, reason="after all", person="Ada")
    assert desk.states() == [VersionState.GOLDEN, VersionState.REFUSED]
    with pytest.raises(NotFoundError, match="no version waits"):
        desk.approve()


def test_a_newer_version_takes_the_place_of_one_that_nobody_decided_on(desk: Desk) -> None:
    desk.approve()
    desk.send()
    for _ in range(2):
        byhand.run_now(desk.world, NAMESPACE, LOOP_NAME, reason="again")
        desk.send()
    assert desk.states() == [VersionState.GOLDEN, VersionState.SUPERSEDED, VersionState.AWAITING_APPROVAL]
    with pytest.raises(ConflictError, match="does not wait for approval"):
        desk.approve(2)
    assert desk.status()["awaitingApproval"] == [3]


def test_what_was_not_asked_about_cannot_be_approved(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    with pytest.raises(NotFoundError, match="no version 7"):
        desk.approve(7)
    with pytest.raises(NotFoundError, match="no version waits"):
        desk.approve()


@pytest.mark.parametrize("death", [5, 13, 21, 27])
def test_a_control_process_that_dies_asks_once(tmp_path: Path, death: int) -> None:
    desk = Desk(tmp_path, deaths=frozenset({death}))
    desk.turn()
    assert desk.states() == [VersionState.AWAITING_APPROVAL]
    assert desk.kinds().count("AwaitingApproval") == 1
    desk.approve()
    desk.turn(3)
    assert desk.states() == [VersionState.GOLDEN]
    assert desk.kinds().count("Golden") == 1


@pytest.mark.parametrize(("death", "is_kept"), [(1, False), (2, True)], ids=["before it is kept", "after"])
def test_an_approval_during_which_control_dies_is_kept_whole_or_not_at_all(
    desk: Desk, death: int, is_kept: bool
) -> None:
    points = desk.simulation.points
    points.deaths = frozenset({points.passed + death})
    with pytest.raises(Crash):
        desk.approve()
    assert desk.states() == [VersionState.GOLDEN if is_kept else VersionState.AWAITING_APPROVAL]
    assert len(desk.by_people()) == int(is_kept)
    assert desk.approve()["state"] == "Golden" if not is_kept else desk.approve(1)["decided"] == "before"
    assert desk.kinds().count("Golden") == desk.kinds().count("Approved") == len(desk.by_people()) == 1
