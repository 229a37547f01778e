"""Load: keep-alive connections over plain asyncio (HTTP), or channels (gRPC), and what was seen from outside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

import uvloop

RAMP_SECONDS = 0.02
Ask = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Request:
    """One request, sent again and again."""

    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)

    def encoded(self) -> bytes:
        """The request as it goes over the wire."""
        lines = [f"POST {self.path} HTTP/1.1", "host: localhost", f"content-length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(frozen=True, slots=True)
class GrpcRequest:
    """One call, made again and again."""

    method: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a load; latencies in seconds, in order."""

    requests: int
    seconds: float
    latencies: tuple[float, ...]

    def quantile(self, share: float) -> float:
        """The latency that this share of the requests did not exceed."""
        return self.latencies[min(len(self.latencies) - 1, int(share * len(self.latencies)))]


def send(
    port: int, request: Request | GrpcRequest, *, connections: int, requests: int, rate: float | None = None
) -> Seen:
    """Send so many requests and wait for their answers; raise RuntimeError for one that is not well.

    Without `rate` each connection sends as soon as it has its answer. With it (requests a second, all together) they are sent when they
    are due, and latency counts from then, so that a server which stalls cannot hide the requests it kept from being sent.
    """
    return uvloop.run(_send(port, request, connections=connections, requests=requests, rate=rate))


async def _send(
    port: int, request: Request | GrpcRequest, *, connections: int, requests: int, rate: float | None
) -> Seen:
    opened = [await _open(port, request) for _ in range(connections)]
    latencies: list[float] = []
    begun = time.perf_counter()
    left = iter(range(requests))

    async def one(ask: Ask) -> None:
        for number in left:
            due = time.perf_counter()
            if rate is not None:
                due = begun + number / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await ask()
            latencies.append(time.perf_counter() - due)

    try:
        await asyncio.gather(*(one(ask) for ask, _ in opened))
        seconds = time.perf_counter() - begun
    finally:
        for _, close in opened:
            await close()
    return Seen(len(latencies), seconds, tuple(sorted(latencies)))


async def _open(port: int, request: Request | GrpcRequest) -> tuple[Ask, Ask]:
    return await _open_http(port, request) if isinstance(request, Request) else await _open_grpc(port, request)


class _Connection(asyncio.Protocol):
    """One keep-alive connection of HTTP/1.1 with one request under way, and as little work as can be: what is measured is the server."""

    def __init__(self, request: Request) -> None:
        self._path = request.path
        self._encoded = request.encoded()
        self._received = b""
        self._missing = -1  # bytes of the answer that have not come; unknown before its head has
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data if self._received else data
        if self._missing < 0:
            end = received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = received[:end].lower()
            self._missing = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]) + end + 4
        if len(received) < self._missing:
            return
        self._received, self._missing = b"", -1
        answer, self._answer = self._answer, None
        if answer is None or answer.done():
            return
        if received.startswith(b"HTTP/1.1 200"):
            answer.set_result(None)
        else:
            answer.set_exception(RuntimeError(f"{self._path}: {received[:400]!r}"))

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(RuntimeError(f"{self._path}: the connection was closed: {error}"))

    async def ask(self) -> None:
        """Send the request and wait for its answer. Raises RuntimeError for one that is not well."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(self._encoded)
        await self._answer

    async def close(self) -> None:
        """Close the connection."""
        assert self._transport is not None
        self._transport.close()


async def _open_http(port: int, request: Request) -> tuple[Ask, Ask]:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: _Connection(request), "127.0.0.1", port)
    return connection.ask, connection.close


async def _open_grpc(port: int, request: GrpcRequest) -> tuple[Ask, Ask]:
    import grpc.aio

    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])
    call = channel.unary_unary(request.method)

    async def ask() -> None:
        await call(request.body)

    async def close() -> None:
        await channel.close()

    return ask, close
