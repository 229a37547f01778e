"""Listening and draining."""

from __future__ import annotations

import asyncio
import socket

from goldenloop.serving.http.connection import Connection, Handler

IDLE_SECONDS = 75.0  # longer than clients keep idle connections, so that they are the ones who close
LEAVING_SECONDS = 0.3  # between the last connection that is taken and the end of those that are idle
_BACKLOG = 2048
_SWEEP_SECONDS = 1.0
_DRAIN_TURN_SECONDS = 0.01


class HttpServer:
    """Answers requests by a handler. Made and used on one event loop."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.is_draining = False
        self._listening: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self, listening: socket.socket) -> None:
        """Take connections from this socket."""
        self._listening = await self.loop.create_server(lambda: Connection(self), sock=listening, backlog=_BACKLOG)
        self._sweep()

    async def drain(self, seconds: float) -> None:
        """Take no more connections, answer what comes on those that are there for a moment more, and close them.

        Returns when all are closed; what is not answered within `seconds` is cut off.
        """
        self.is_draining = True
        if self._listening is not None:
            self._listening.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        end = self.loop.time() + seconds
        await asyncio.sleep(LEAVING_SECONDS)  # the first request of a connection just taken may be on its way
        while self.connections and self.loop.time() < end:
            for connection in list(self.connections):
                connection.close_when_idle()
            await asyncio.sleep(_DRAIN_TURN_SECONDS)
        for connection in list(self.connections):
            connection.abort()

    def _sweep(self) -> None:
        for connection in list(self.connections):
            connection.expire(IDLE_SECONDS)
        self._sweeper = self.loop.call_later(_SWEEP_SECONDS, self._sweep)
