"""gRPC on a listening socket, in the event loop that is running: connections, timers, draining.

A client that does not take what it is sent is read no further. Connections are looked at every few seconds: whoever begins something and
does not go on is sent away. `drain` lets clients finish what they have begun and makes them connect elsewhere for the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final, cast

from goldenloop.serving.grpc.calls import Calls
from goldenloop.serving.grpc.connection import Connection
from goldenloop.serving.grpc.inbox import Budgets
from goldenloop.serving.grpc.methods import Methods

MOST_CONNECTIONS: Final = 1024  # of one worker; those that come beyond are closed
LARGEST_TURN: Final = (
    256 * 1024
)  # bytes that are written in one turn of the loop before the socket is asked to take them
SWEEP_SECONDS: Final = 5.0
BEGINNING_SECONDS: Final = 20.0  # for the rest of a preface, a frame or a header block to come
NOTICE_SECONDS: Final = 1.0  # for a client to see that the server is stopping
_KEEPALIVE = (
    (socket.TCP_KEEPIDLE, 60),
    (socket.TCP_KEEPINTVL, 15),
    (socket.TCP_KEEPCNT, 4),
    (socket.TCP_USER_TIMEOUT, 120_000),
)


class MethodServer:
    """Serves methods. `begun` is called when a call begins."""

    def __init__(self, methods: Methods, *, begun: Callable[[], None] = lambda: None) -> None:
        self._methods = methods
        self._begun = begun
        self._budgets = Budgets()
        self._clients: set[_Client] = set()
        self._server: asyncio.Server | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._is_draining = False

    async def start(self, listener: socket.socket) -> None:
        """Accept connections on a listening socket, which is closed by `drain`."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._client, sock=listener)
        self._sweeping = loop.create_task(self._sweep())

    async def drain(self, seconds: float) -> None:
        """Take no new connections, finish what has begun, and close; what is not finished in time is cut off."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        self._is_draining = True
        if self._server is not None:
            self._server.close()
        for client in list(self._clients):
            client.connection.drain()
        notice = min(loop.time() + NOTICE_SECONDS, end)
        while self._clients and loop.time() < end:
            if loop.time() >= notice:
                for client in list(self._clients):
                    client.connection.stop_taking()
            await asyncio.sleep(0.02)
        for client in list(self._clients):
            client.cut()
        if self._sweeping is not None:
            self._sweeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeping

    def _client(self) -> _Client:
        return _Client(self._methods, self._budgets, self._begun, self._clients)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = asyncio.get_running_loop().time()
            for client in list(self._clients):
                client.sweep(now)


class _Client(asyncio.Protocol):
    """The socket of one connection."""

    def __init__(self, methods: Methods, budgets: Budgets, begun: Callable[[], None], clients: set[_Client]) -> None:
        self._begun = begun
        self._clients = clients
        self._calls = Calls(methods, budgets, self)
        self._transport: asyncio.Transport
        self._waiting_since: float | None = None  # for the rest of something, or for the socket to close
        self._unsent: list[bytes | memoryview] = []  # what was written in this turn of the loop
        self._unsent_size = 0
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        own_transport = self._transport = cast("asyncio.Transport", transport)  # uvloop's is one, and does not say so
        self.connection = self._calls.connection = Connection(self._write, self._calls)
        self._clients.add(self)
        if len(self._clients) > MOST_CONNECTIONS:
            own_transport.abort()
            return
        own = transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            own.setsockopt(socket.IPPROTO_TCP, option, value)

    def data_received(self, data: bytes) -> None:
        self.connection.receive(data)

    def eof_received(self) -> bool:
        self.connection.half_close()
        return not self.connection.is_over  # what is asked already is answered

    def connection_lost(self, _error: Exception | None) -> None:
        self._clients.discard(self)
        self.connection.lose()

    def pause_writing(self) -> None:
        self.connection.sender.is_paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self.connection.sender.is_paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self.connection.sender.pump()

    def _write(self, data: bytes | memoryview) -> None:
        """Send with all else that is written in this turn of the loop: what was scored together goes out in one call of the system."""
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(data)
        self._unsent_size += len(data)
        if self._unsent_size > LARGEST_TURN:
            self._flush()

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        self._unsent_size = 0
        if unsent and not self._transport.is_closing():
            if len(unsent) == 1:
                self._transport.write(unsent[0])
            else:
                self._transport.writelines(unsent)

    def begun(self) -> None:
        """A call begins."""
        self._begun()

    def close(self) -> None:
        """Close the socket when what was written is out."""
        self._flush()
        self._transport.close()

    def cut(self) -> None:
        """Close the socket now."""
        self._transport.abort()

    def sweep(self, now: float) -> None:
        """Send away who has begun something and does not go on."""
        connection = self.connection
        connection.calm_down()
        self._calls.sweep(now)
        if not connection.is_waiting and not connection.is_over:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = now
        elif now > self._waiting_since + BEGINNING_SECONDS:
            self.cut()
