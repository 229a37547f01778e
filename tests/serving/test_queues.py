"""The queue of a service: what goes together is scored together, and nothing spoils, blocks or outlasts its neighbours."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path

import numpy as np
import pytest

from goldenloop.core.clock import SystemClock
from goldenloop.core.errors import UnavailableError
from goldenloop.core.routing import Batcher, RoutingTable, Served, Service
from goldenloop.core.served import ServedForm
from goldenloop.core.signatures import Column, Signature
from goldenloop.payloads.log import PayloadReader, PayloadWriter
from goldenloop.payloads.records import Prediction
from goldenloop.serving import queues
from goldenloop.serving.dataplane import Answered, DataPlane, Deployed, ScoringFailedError
from goldenloop.serving.metrics import Metrics
from goldenloop.serving.queues import TimedOutError, TooManyError
from goldenloop.serving.scorers import LocalScorer, Scorer
from goldenloop.serving.work import Result, Work
from goldenloop.standards.tabular import Batch

DOUBLE = Signature(inputs=(Column(name="x", kind="number"),), task="regression")
FORM = ServedForm(form="table", runtime="onnx", loader="onnx", signature=DOUBLE, batching=True)


class Doubling:
    """Answers twice the number; says how many rows each call had. `wait` is held during a call that has the row 7."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.wait = threading.Event()

    def score(self, work: Work) -> Result:
        assert isinstance(work, Batch)
        self.calls.append(work.rows)
        values = work.numbers[:, 0].tolist()
        if 13 in values:
            raise UnavailableError("thirteen is not doubled")
        if 7 in values:
            assert self.wait.wait(10)
        return tuple((2 * value, ()) for value in values)


class Slow(LocalScorer):
    """Never on the event loop."""

    def is_inline(self, rows: int) -> bool:  # noqa: ARG002
        return False


class Rows:
    alias = None

    def __init__(self, *values: float) -> None:
        self._values = values

    def work(self, scorer: Scorer, also: frozenset[str]) -> Batch:  # noqa: ARG002
        numbers = np.array([self._values], dtype=np.float64).T
        return Batch(len(self._values), numbers, np.empty((len(self._values), 0), dtype=object))


class Room:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = Doubling()
        self.metrics = Metrics(str(folder))
        self.plane = DataPlane(
            writer=PayloadWriter(folder, "w", mode="async"),
            metrics=self.metrics,
            clock=SystemClock(),
            on_held=lambda *_: None,
        )

    def serve(self, kind: type[LocalScorer] = LocalScorer, **changed: object) -> None:
        service = Service(
            namespace="default",
            name="m",
            champion="1",
            versions=(Served(version="1", path="", digest=""),),
            **changed,  # type: ignore[arg-type]
        )
        deployed = Deployed(service, {"1": kind(FORM, self.model, size_bytes=0)})
        self.plane.take_table(RoutingTable(generation=1, services=(service,)), {("default", "m"): deployed}, {})

    def ask(self, *values: float) -> Coroutine[object, object, Answered]:
        return self.plane.answer(self.plane.find("m"), Rows(*values), asked=None, route_key=None, given_event_us=None)

    def records(self) -> list[Prediction]:
        return [record for record in PayloadReader(self.folder).read() if isinstance(record, Prediction)]


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def run(scenario: Callable[[], Coroutine[object, object, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_requests_of_one_turn_are_one_call_and_each_gets_its_own_rows(room: Room) -> None:
    room.serve()

    async def scenario() -> None:
        answers = await asyncio.gather(room.ask(1), room.ask(2, 3), room.ask(4))
        assert [answered.result for answered in answers] == [((2, ()),), ((4, ()), (6, ())), ((8, ()),)]

    run(scenario)
    assert room.model.calls == [4]
    assert sorted(record.matrix().tolist() for record in room.records()) == [[[1.0]], [[2.0], [3.0]], [[4.0]]]


def test_a_request_that_is_alone_waits_for_nobody(room: Room) -> None:
    room.serve()

    async def scenario() -> None:
        for value in (1, 2, 3):
            await room.ask(value)

    run(scenario)
    assert room.model.calls == [1, 1, 1]


@pytest.mark.parametrize("kind", [LocalScorer, Slow])
def test_one_request_does_not_spoil_the_others(room: Room, kind: type[LocalScorer]) -> None:
    room.serve(kind)

    async def scenario() -> None:
        first, bad, last = await asyncio.gather(room.ask(1), room.ask(13), room.ask(2), return_exceptions=True)
        assert isinstance(first, Answered)
        assert first.result == ((2, ()),)
        assert isinstance(last, Answered)
        assert last.result == ((4, ()),)
        assert isinstance(bad, ScoringFailedError)
        assert "thirteen" in str(bad)

    run(scenario)
    assert [dict(record.failures) for record in room.records() if record.failures] == [{"1": "thirteen is not doubled"}]
    assert len(room.records()) == 3


def test_what_comes_during_a_slow_call_is_the_next_call(room: Room) -> None:
    room.serve(Slow)

    async def scenario() -> None:
        first = asyncio.create_task(room.ask(7))
        while not room.model.calls:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(room.ask(value)) for value in range(20, 30)]
        await asyncio.sleep(0.02)
        assert room.model.calls == [1]
        room.model.wait.set()
        assert (await first).result == ((14, ()),)
        assert [(await other).result for other in others] == [((2 * value, ()),) for value in range(20, 30)]

    run(scenario)
    assert room.model.calls == [1, 10]


def test_a_slow_model_holds_up_nobody_else(room: Room, tmp_path: Path) -> None:
    room.serve(Slow)
    other = Room(tmp_path / "other")
    other.serve()

    async def scenario() -> None:
        slow = asyncio.create_task(room.ask(7))
        await asyncio.sleep(0.01)
        assert (await other.ask(1)).result == ((2, ()),)
        assert not slow.done()
        room.model.wait.set()
        await slow

    run(scenario)


def test_a_request_is_answered_when_its_time_is_over_and_is_in_the_log(room: Room) -> None:
    room.serve(Slow, timeout_seconds=0.05)

    async def scenario() -> None:
        slow, waiting = asyncio.create_task(room.ask(7)), asyncio.create_task(room.ask(1))
        await asyncio.sleep(0)
        for task in (slow, waiting):
            with pytest.raises(TimedOutError, match=r"no answer within 0\.05 s"):
                await task
        room.model.wait.set()
        await asyncio.sleep(0.05)
        assert (await room.ask(2)).result == ((4, ()),)  # what had timed out is no longer in the way

    run(scenario)
    assert [bool(record.failures) for record in room.records()] == [True, True, False]


def test_a_queue_has_a_bound(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "LARGEST_QUEUE", 3)
    room.serve(Slow)

    async def scenario() -> None:
        running = asyncio.create_task(room.ask(7))
        await asyncio.sleep(0.01)
        waiting = [asyncio.create_task(room.ask(value)) for value in (1, 2, 3)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyError, match="3 requests"):
            await room.ask(4)
        room.model.wait.set()
        await asyncio.gather(running, *waiting)

    run(scenario)


def test_the_batcher_waits_for_its_size_or_its_time(room: Room) -> None:
    room.serve(batcher=Batcher(max_batch_size=3, max_latency_ms=60))

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        first = asyncio.create_task(room.ask(1))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(room.ask(2))
        await asyncio.sleep(0.01)
        assert room.model.calls == []
        await asyncio.gather(first, second, room.ask(3))
        assert room.model.calls == [3]
        begun = loop.time()
        await room.ask(4)
        assert loop.time() - begun > 0.05

    run(scenario)
    assert room.model.calls == [3, 1]


def test_no_more_at_once_than_the_concurrency(room: Room) -> None:
    room.serve(concurrency=2)

    async def scenario() -> None:
        await asyncio.gather(*[room.ask(value) for value in range(20, 25)])

    run(scenario)
    assert room.model.calls == [2, 2, 1]


def test_a_log_that_cannot_be_written_answers_nobody(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.serve()

    def refuse(*_: object) -> None:
        raise UnavailableError("the disk is full")

    monkeypatch.setattr(room.plane._writer, "write", refuse)

    async def scenario() -> None:
        results = await asyncio.gather(room.ask(1), room.ask(2), return_exceptions=True)
        assert all(isinstance(result, UnavailableError) and "disk is full" in str(result) for result in results)

    run(scenario)


def test_a_bug_in_the_recording_leaves_nobody_waiting(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.serve()
    monkeypatch.setattr(room.metrics, "logged", lambda *_: (_ for _ in ()).throw(RuntimeError("a bug")))

    async def scenario() -> None:
        with pytest.raises(RuntimeError, match="a bug"):
            await room.ask(1)

    run(scenario)


def test_durable_mode_syncs_once_for_what_was_scored_together(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.serve(payload_mode="durable")
    syncs: list[int] = []
    sync = room.plane._writer.sync
    monkeypatch.setattr(room.plane._writer, "sync", lambda: (syncs.append(1), sync())[1])

    async def scenario() -> None:
        await asyncio.gather(*[room.ask(value) for value in range(20, 40)])

    run(scenario)
    assert len(syncs) == 1
    assert len(room.records()) == 20
