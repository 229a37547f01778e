"""The data plane without processes: bounds of waiting, and which version answers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path

import numpy as np
import pytest
from tests.serving.workbench import make_version, served

from goldenloop.core.clock import SystemClock
from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.core.routing import Route, RoutingTable, Served, Service
from goldenloop.payloads.log import PayloadReader, PayloadWriter
from goldenloop.serving import dataplane
from goldenloop.serving.dataplane import Answered, DataPlane, Deployed, HeldTooLongError
from goldenloop.serving.metrics import Metrics
from goldenloop.serving.queues import TooManyError
from goldenloop.serving.scorers import Scorer, open_version
from goldenloop.standards.tabular import Batch


class OneRow:
    alias = None

    def work(self, scorer: Scorer, also: frozenset[str]) -> Batch:
        layout = scorer.layout
        assert layout is not None
        assert also >= set(layout.names)
        return layout.from_matrix(np.ones((1, layout.width)), where="rows")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    folder = make_version(tmp_path_factory.mktemp("plane") / "1")
    service = Service(namespace="default", name="elec", champion="1", versions=())
    return open_version(served("1", folder), service, sockets=None)


class Room:
    def __init__(self, folder: Path, model: Scorer) -> None:
        self.model = model
        self.folder = folder
        self.held: list[tuple[str, str, int]] = []
        self.writer = PayloadWriter(folder, "w", mode="async")
        self.plane = DataPlane(
            writer=self.writer,
            metrics=Metrics(str(folder)),
            clock=SystemClock(),
            on_held=lambda *held: self.held.append(held),
        )
        self.generation = 0

    def take(self, **changed: object) -> Deployed:
        self.generation += 1
        fields = {"namespace": "default", "name": "elec", "champion": "1", "replay": True, **changed}
        versions = tuple(Served(version=version, path="", digest="") for version in ("1", "2"))
        service = Service(versions=versions, **fields)  # type: ignore[arg-type]
        deployed = Deployed(service, {"1": self.model, "2": self.model})
        self.plane.take_table(
            RoutingTable(generation=self.generation, services=(service,)), {("default", "elec"): deployed}, {}
        )
        return deployed

    def ask(
        self, event_us: int | None = None, asked: str | None = None, key: str | None = None
    ) -> Coroutine[object, object, Answered]:
        return self.plane.answer(self.plane.find("elec"), OneRow(), asked=asked, route_key=key, given_event_us=event_us)


@pytest.fixture
def room(tmp_path: Path, model: Scorer) -> Room:
    return Room(tmp_path, model)


def test_waiting_has_an_end(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataplane, "LONGEST_HOLD_SECONDS", 0.05)
    room.take(hold_from_us=10)
    with pytest.raises(HeldTooLongError, match="has not decided"):
        asyncio.run(asyncio.wait_for(room.ask(10), 5))
    assert room.held == [("default", "elec", 10)]
    assert PayloadReader(room.folder).read() == []


def test_waiting_has_a_bound(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataplane, "LARGEST_HOLD", 3)
    room.take(hold_from_us=10)

    async def scenario() -> None:
        waiting = [asyncio.create_task(room.ask(moment)) for moment in (11, 30, 12)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyError, match="3 requests wait"):
            await room.ask(13)
        assert room.held == [("default", "elec", 11), ("default", "elec", 30)]
        await asyncio.wait_for(room.plane.settle(), 1)
        room.take(hold_from_us=12)
        await asyncio.wait_for(waiting[0], 1)
        assert not waiting[1].done()
        assert room.held[2:] == [("default", "elec", 30)]
        room.take(champion="2")
        assert [(await task).version for task in waiting] == ["1", "2", "2"]

    asyncio.run(scenario())
    assert [record.event_us for record in PayloadReader(room.folder).read()] == [11, 30, 12]  # type: ignore[union-attr]


def test_a_service_that_is_gone(room: Room) -> None:
    room.take(hold_from_us=10)

    async def scenario() -> None:
        task = asyncio.create_task(room.ask(10))
        await asyncio.sleep(0)
        room.plane.take_table(RoutingTable(generation=9), {}, {})
        with pytest.raises(NotFoundError, match="is gone"):
            await asyncio.wait_for(task, 1)

    asyncio.run(scenario())


def test_event_times_are_for_replay(room: Room) -> None:
    room.take(replay=False)
    with pytest.raises(InvalidSpecError, match="replay: true"):
        asyncio.run(room.ask(5))


def test_shares_are_kept_when_others_grow(room: Room) -> None:
    """A key that the challenger answered at 5 % is still answered by it at 50 %: shares grow, they do not jump."""
    keys = [f"customer {number}" for number in range(2000)]

    def to_challenger(percent: float) -> set[str]:
        deployed = room.take(routes=(Route(version="2", percent=percent),))
        return {key for key in keys if deployed.choose(asked=None, identity="", route_key=key)[0] == "2"}

    small, half, all_of_them = to_challenger(5), to_challenger(50), to_challenger(100)
    assert small < half < all_of_them == set(keys)
    assert 60 < len(small) < 140
    assert 910 < len(half) < 1090
    assert to_challenger(0) == set()


def test_what_a_version_is_chosen_for(room: Room) -> None:
    room.take(routes=(Route(version="2", percent=100),))

    async def scenario() -> None:
        assert (await room.ask()).version == "2"
        assert (await room.ask(key="anna")).version == "2"
        assert (await room.ask(asked="1")).version == "1"
        with pytest.raises(NotFoundError, match="Served are 1, 2"):
            await room.ask(asked="7")

    asyncio.run(scenario())
    assert [record.reason for record in PayloadReader(room.folder).read()] == ["canary", "sticky", "asked"]  # type: ignore[union-attr]
