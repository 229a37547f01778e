"""The worker's end of the predictor processes of one version.

Rules. It connects when it is first needed, and to another replica when calls have to queue at all that it is connected to. A process takes
its calls one after the other, so no more than one waits inside a connection; the others wait here, where any replica may take them.

What happens to a call when its process ends: one that had not begun is sent again, to whoever is there next; one that had begun fails with
the reason that the host gives, and is sent once more where the process did not end by its own fault (it was asked to, or its host died).
A call that gets no answer in its time fails, whatever goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from goldenloop.core.errors import UnavailableError
from goldenloop.serving.predictors.connection import Connection
from goldenloop.serving.predictors.errors import PredictorFailedError, PredictorTimeoutError
from goldenloop.serving.predictors.messages import Answer, Call, Failed, Method, Score, ToProcess
from goldenloop.serving.predictors.page import Page
from goldenloop.serving.predictors.places import End, Place, reachable
from goldenloop.serving.predictors.wire import Array

LONGEST_CALL_SECONDS = 600.0  # of a call without a time limit of its own
LARGEST_QUEUE = 1024  # calls that may wait for a process
MOST_RESENDS = 5  # processes that may end before a call that had not begun is given up
GROW_SECONDS = 0.1  # so long calls queue at all replicas before another one is started
CLOSE_SECONDS = 30.0  # for calls under way when the link is closed
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.01, 0.25  # seconds between two tries to connect
_EXPLAIN_SECONDS = 0.5  # for the host to say how a process ended
_MEND = "What it printed is in logs/predictors of the installation."


class Asked:
    """A call that has no answer yet."""

    __slots__ = ("begun_losses", "future", "message", "resent", "was_sent")

    def __init__(self, message: ToProcess, future: asyncio.Future[object]) -> None:
        self.message = message
        self.future = future
        self.was_sent = False
        self.resent = 0
        self.begun_losses = 0


class PredictorLink:
    """Calls to the processes of one version, `digest`, whose sockets lie in a folder. Made anywhere, used on one event loop."""

    def __init__(self, sockets: Path, digest: str, *, max_replicas: int = 1) -> None:
        self._folder = sockets
        self._digest = digest
        self._max_replicas = max(1, max_replicas)
        self._connections: list[Connection] = []  # that are ready
        self._connecting: dict[int, asyncio.Task[None]] = {}
        self._waiting: deque[Asked] = deque()
        self._explaining: set[asyncio.Task[None]] = set()
        self._grow_check: asyncio.TimerHandle | None = None
        self._last_call = 0
        self._lanes = 1  # of one replica
        self._closing: asyncio.Future[None] | None = None

    @property
    def replicas(self) -> int:
        """How many processes are connected."""
        return len(self._connections)

    @property
    def lanes(self) -> int:
        """How many calls all replicas together take at the same time, as far as that is known."""
        return self._max_replicas * self._lanes

    @property
    def under_way(self) -> int:
        """How many calls have no answer yet."""
        return len(self._waiting) + sum(len(connection.in_flight) for connection in self._connections)

    async def score(
        self, rows: int, tensors: Mapping[str, Array], *, timeout_seconds: float | None = None
    ) -> dict[str, Array]:
        """Score rows that lie in arrays by name: `numbers` and `texts` of a table, or the model's own tensors.

        Raises PredictorFailedError where the model raises or its process ends, PredictorTimeoutError where it takes too long,
        UnavailableError where it cannot be loaded.
        """
        self._last_call += 1
        limit, deadline = _times(timeout_seconds)
        message = Score(self._last_call, limit, deadline, rows, cast("dict[str, object]", tensors))
        return cast("dict[str, Array]", await self._ask(message))

    async def call(
        self, method: Method, payload: object, headers: Mapping[str, str], *, timeout_seconds: float | None = None
    ) -> object:
        """Call a method of the user's class with a document (JSON-like, arrays in it); return what it gives. Raises as `score`."""
        self._last_call += 1
        limit, deadline = _times(timeout_seconds)
        return await self._ask(Call(self._last_call, limit, deadline, method, payload, dict(headers)))

    async def ready(self, *, timeout_seconds: float = 0.0) -> bool:
        """Whether the model is loaded, or was and has been let go because nobody asked; waits so long for it.

        Raises UnavailableError where it cannot be loaded.
        """
        end = time.monotonic() + timeout_seconds
        while True:
            if self._connections:
                return True
            status = Place(self._folder, self._digest, 0).read_status()
            if status is not None:
                if status.state == "idle":
                    return True
                if status.state == "pausing" and status.ended is not None and status.ended.kind == "load":
                    raise UnavailableError(f"the model cannot be loaded: {status.reason}", mend=_MEND)
            self._connect(0)
            if time.monotonic() >= end:
                return False
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        """Take no new calls, finish those under way (at most `CLOSE_SECONDS`), and let go of the processes."""
        loop = asyncio.get_running_loop()
        if self._closing is None:
            self._closing = loop.create_future()
        self._end_if_done()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.shield(self._closing)
        for task in (*self._connecting.values(), *self._explaining):
            task.cancel()
        for connection in list(self._connections):
            connection.close()
        for asked in self._waiting:
            _fail(asked, UnavailableError("the version is no longer served", mend="Send the request again."))
        self._waiting.clear()

    # calls

    async def _ask(self, message: ToProcess) -> object:
        loop = asyncio.get_running_loop()
        if self._closing is not None:
            raise UnavailableError("the version is no longer served", mend="Send the request again.")
        if len(self._waiting) >= LARGEST_QUEUE:
            raise UnavailableError(f"{LARGEST_QUEUE} calls wait for the model already", mend="Send it again later.")
        asked = Asked(message, loop.create_future())
        timer = loop.call_later(message.limit_us / 1e6, _run_out, asked)
        self._waiting.append(asked)
        self._dispatch()
        try:
            return await asked.future
        finally:
            timer.cancel()
            self._end_if_done()

    def _dispatch(self) -> None:
        """Send what waits to those that have room."""
        while self._waiting:
            if self._waiting[0].future.done():
                self._waiting.popleft()
                continue
            connection = min(self._connections, key=_load, default=None)
            if connection is None:
                self._connect(0)
                return
            if len(connection.in_flight) >= connection.lanes:
                self._grow_soon()
                if len(connection.in_flight) > connection.lanes:
                    return
            asked = self._waiting.popleft()
            try:
                connection.send(asked)
            except (TypeError, ValueError, OverflowError) as error:  # it cannot be put into a frame
                _fail(asked, PredictorFailedError(f"the request cannot be handed to the model: {error}"))

    def answered(self, connection: Connection, message: Answer | Failed) -> None:
        """A connection has an answer."""
        asked = connection.in_flight.pop(message.call, None)
        if asked is not None and not asked.future.done():
            if isinstance(message, Answer):
                asked.future.set_result(message.result)
            elif message.kind == "late":
                asked.future.set_exception(
                    PredictorTimeoutError(message.text, mend="Send it again, or give it more time.")
                )
            else:
                asked.future.set_exception(PredictorFailedError(message.text))
        if self._waiting:
            self._dispatch()
        self._end_if_done()

    # replicas

    def _grow_soon(self) -> None:
        known = len(self._connections) + len(self._connecting)
        if self._grow_check is None and known < self._max_replicas:
            self._grow_check = asyncio.get_running_loop().call_later(GROW_SECONDS, self._grow)

    def _grow(self) -> None:
        """Connect to one more replica, if calls still queue at all of them."""
        self._grow_check = None
        if self._closing is None and all(len(each.in_flight) > each.lanes for each in self._connections):
            taken = {connection.replica for connection in self._connections} | self._connecting.keys()
            free = [replica for replica in range(self._max_replicas) if replica not in taken]
            if free:
                self._connect(free[0])

    def _connect(self, replica: int) -> None:
        if replica not in self._connecting and self._closing is None:
            task = asyncio.get_running_loop().create_task(self._keep_connecting(replica))
            self._connecting[replica] = task
            task.add_done_callback(lambda _task: self._connecting.pop(replica, None))

    async def _keep_connecting(self, replica: int) -> None:
        """Connect, and wait until the model is loaded; try again while calls wait and the host, or the socket, is not there."""
        loop = asyncio.get_running_loop()
        place = Place(self._folder, self._digest, replica)
        pause = _SHORTEST_PAUSE
        while True:
            connection = Connection(self, replica)
            try:
                with reachable(place.socket) as path:
                    await loop.create_unix_connection(lambda made=connection: made, path)  # type: ignore[misc]
            except OSError:
                pass
            else:
                try:
                    outcome = await connection.outcome
                except asyncio.CancelledError:
                    connection.close()
                    raise
                if outcome is None:
                    self._take(connection, place)
                    return
                if outcome:
                    self._refuse(outcome)
                    return
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            if not any(not asked.future.done() for asked in self._waiting):
                return  # nobody waits any more; the next call tries anew

    def _take(self, connection: Connection, place: Place) -> None:
        if connection.is_lost:
            self._dispatch()  # whoever waits connects anew
            return
        with contextlib.suppress(OSError):
            connection.page = Page(place.page)
        self._lanes = connection.lanes
        self._connections.append(connection)
        self._connections.sort(key=lambda each: each.replica)
        self._dispatch()

    def _refuse(self, reason: str) -> None:
        """The model cannot be loaded: nobody waits in vain, unless another replica is there."""
        if self._connections:
            return
        while self._waiting:
            _fail(self._waiting.popleft(), UnavailableError(f"the model cannot be loaded: {reason}", mend=_MEND))

    def lost(self, connection: Connection) -> None:
        """A connection has ended."""
        if connection not in self._connections:
            return
        self._connections.remove(connection)
        begun: list[Asked] = []
        for asked in reversed(list(connection.in_flight.values())):
            if asked.future.done():
                continue
            if connection.had_begun(asked.message.call):
                begun.append(asked)
            else:
                self._again(asked)
        connection.in_flight.clear()
        instance = connection.instance
        if connection.page is not None:
            connection.page.close()
            connection.page = None
        if begun:
            task = asyncio.get_running_loop().create_task(self._explain(begun, connection.replica, instance))
            self._explaining.add(task)
            task.add_done_callback(self._explaining.discard)
        if self._waiting:
            self._dispatch()
        self._end_if_done()

    def _again(self, asked: Asked) -> None:
        asked.resent += 1
        if asked.resent > MOST_RESENDS:
            _fail(asked, UnavailableError(f"{asked.resent} processes ended before they came to this call", mend=_MEND))
        else:
            self._waiting.appendleft(asked)

    async def _explain(self, begun: list[Asked], replica: int, instance: int) -> None:
        """Fail the calls under which a process ended, with what the host says about it; send those again that did not end it."""
        place = Place(self._folder, self._digest, replica)
        end: End | None = None
        for _ in range(int(_EXPLAIN_SECONDS / 0.01)):
            status = place.read_status()
            if status is not None and status.ended is not None and status.ended.instance == instance:
                end = status.ended
                break
            await asyncio.sleep(0.01)
        for asked in begun:
            if asked.future.done():
                continue
            if end is not None and end.kind == "time":
                _fail(asked, PredictorTimeoutError(end.reason, mend="Give it more time, or make the model faster."))
            elif end is not None and end.kind != "asked":
                _fail(asked, PredictorFailedError(end.reason, mend=_MEND))
            elif asked.begun_losses:
                _fail(asked, PredictorFailedError("the model's process was ended twice under this call", mend=_MEND))
            else:
                asked.begun_losses += 1
                self._again(asked)
        self._dispatch()

    def _end_if_done(self) -> None:
        if self._closing is not None and not self._closing.done() and not self.under_way and not self._explaining:
            self._closing.set_result(None)


def _times(timeout_seconds: float | None) -> tuple[int, int]:
    """How long a call may take, and until when it may begin, in microseconds."""
    seconds = LONGEST_CALL_SECONDS if timeout_seconds is None else min(timeout_seconds, LONGEST_CALL_SECONDS)
    limit = max(1, int(seconds * 1e6))
    return limit, time.monotonic_ns() // 1_000 + limit


def _load(connection: Connection) -> int:
    return len(connection.in_flight) - connection.lanes


def _fail(asked: Asked, error: Exception) -> None:
    if not asked.future.done():
        asked.future.set_exception(error)


def _run_out(asked: Asked) -> None:
    seconds = asked.message.limit_us / 1e6
    what = "did not answer" if asked.was_sent else "was not ready"
    mend = "Give it more time, or make the model faster." if asked.was_sent else "Send it again in a moment."
    _fail(asked, PredictorTimeoutError(f"the model {what} in {seconds:g} s", mend=mend))
