"""HTTP/1.1 over real sockets: order, bounds, clients that are slow, half closed or wrong, and leaving without failing anybody."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from goldenloop.serving.http import connection as connections
from goldenloop.serving.http.messages import Request, Response
from goldenloop.serving.http.server import HttpServer

GET = b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.fixture(autouse=True)
def leaving_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goldenloop.serving.http.server.LEAVING_SECONDS", 0.05)


async def echo(request: Request) -> Response:
    """What was understood of a request; `/slow` takes a moment."""
    if request.path == "/slow":
        await asyncio.sleep(0.1)
    if request.path == "/bug":
        raise RuntimeError("a bug")
    if request.path == "/large":
        return Response(200, b"x" * 8_000_000)
    return Response(200, f"{request.method} {request.path} {len(request.body)}".encode(), extra=b"x-own: 1\r\n")


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Streams]]


@asynccontextmanager
async def served() -> AsyncIterator[tuple[HttpServer, Connect]]:
    """A server, and what connects to it."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = HttpServer(echo)
    await server.start(listening)
    port = listening.getsockname()[1]
    opened: list[asyncio.StreamWriter] = []

    async def connect() -> Streams:
        streams = await asyncio.open_connection("127.0.0.1", port)
        opened.append(streams[1])
        return streams

    try:
        yield server, connect
    finally:
        for writer in opened:
            writer.close()
        await server.drain(1)


async def answer(reader: asyncio.StreamReader, *, has_body: bool = True) -> tuple[int, bytes, dict[bytes, bytes]]:
    """The status, body and headers of the next answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    line, *rest = head.strip().split(b"\r\n")
    headers = dict(each.split(b": ", 1) for each in rest)
    body = await reader.readexactly(int(headers[b"content-length"])) if has_body else b""
    return int(line.split()[1]), body, headers


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(scenario(), 20)

    asyncio.run(bounded())


async def asked(sent: bytes) -> tuple[list[tuple[int, bytes]], bool]:
    """What is answered to these bytes, and whether the connection was closed after it."""
    async with served() as (_, connect):
        reader, writer = await connect()
        writer.write(sent)
        found = []
        while True:
            try:
                status, body, _ = await asyncio.wait_for(answer(reader), 0.5)
            except TimeoutError:
                return found, False
            except asyncio.IncompleteReadError:
                return found, True
            found.append((status, body))


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (GET, b"GET /hello 0"),
        (b"GET /a%20b?c=%20 HTTP/1.1\r\nhost: x\r\n\r\n", b"GET /a b 0"),
        (b"GET http://host:80/whole/address HTTP/1.1\r\nhost: x\r\n\r\n", b"GET /whole/address 0"),
        (
            b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            b"POST / 5",
        ),
        (b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n\r\n", b"GET / 0"),
    ],
    ids=["plain", "quoted", "absolute", "chunked", "upgrade"],
)
def test_a_request_is_understood_and_the_connection_kept(sent: bytes, said: bytes) -> None:
    async def scenario() -> None:
        assert await asked(sent + GET) == ([(200, said), (200, b"GET /hello 0")], False)

    run(scenario)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"this is not HTTP\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ],
    ids=["garbage", "two-lengths", "too-large", "long-head", "http2"],
)
def test_what_is_not_taken_is_answered_and_the_connection_closed(sent: bytes, status: int) -> None:
    async def scenario() -> None:
        answers, is_closed = await asked(sent)
        assert [found for found, _ in answers] == [status]
        assert b'"error"' in answers[0][1]
        assert is_closed

    run(scenario)


def test_a_body_in_chunks_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LARGEST_BODY", 10)

    async def scenario() -> None:
        head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        answers, is_closed = await asked(head + b"8\r\n12345678\r\n8\r\n12345678\r\n")
        assert ([status for status, _ in answers], is_closed) == ([413], True)

    run(scenario)


def test_requests_sent_together_are_answered_in_their_order() -> None:
    async def scenario() -> None:
        async with served() as (_, connect):
            reader, writer = await connect()
            writer.write(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n" + GET * 3)
            found = [(await answer(reader))[1] for _ in range(4)]
            assert found == [b"GET /slow 0", *[b"GET /hello 0"] * 3]

    run(scenario)


def test_a_client_that_has_closed_its_side_gets_its_answer() -> None:
    async def scenario() -> None:
        async with served() as (_, connect):
            reader, writer = await connect()
            writer.write(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
            writer.write_eof()
            assert (await answer(reader))[1] == b"GET /slow 0"
            assert await reader.read() == b""

    run(scenario)


def test_head_has_the_length_and_no_body_and_old_clients_are_let_go() -> None:
    async def scenario() -> None:
        async with served() as (_, connect):
            reader, writer = await connect()
            writer.write(b"HEAD /hello HTTP/1.1\r\nhost: x\r\n\r\n")
            _, _, headers = await answer(reader, has_body=False)
            assert headers[b"content-length"] == b"13"
            assert headers[b"x-own"] == b"1"
            writer.write(b"GET /hello HTTP/1.0\r\n\r\n")
            _, body, headers = await answer(reader)
            assert (body, headers[b"connection"]) == (b"GET /hello 0", b"close")
            assert await reader.read() == b""

    run(scenario)


def test_a_client_that_asks_first_may_go_on() -> None:
    async def scenario() -> None:
        async with served() as (_, connect):
            reader, writer = await connect()
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"abc")
            assert (await answer(reader))[1] == b"POST / 3"

    run(scenario)


def test_a_bug_is_an_answer_and_not_a_broken_connection() -> None:
    async def scenario() -> None:
        answers, is_closed = await asked(b"GET /bug HTTP/1.1\r\nhost: x\r\n\r\n" + GET)
        assert [status for status, _ in answers] == [500, 200]
        assert not is_closed

    run(scenario)


def test_a_request_that_does_not_come_to_its_end_and_a_connection_that_is_idle_are_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "READ_SECONDS", 0.05)
    monkeypatch.setattr("goldenloop.serving.http.server.IDLE_SECONDS", 0.5)
    monkeypatch.setattr("goldenloop.serving.http.server._SWEEP_SECONDS", 0.02)

    async def scenario() -> None:
        async with served() as (_, connect):
            (slow, writer), (idle, _) = await connect(), await connect()
            writer.write(GET[:20])
            assert (await answer(slow))[0] == 408
            assert await slow.read() == b""
            assert await idle.read() == b""

    run(scenario)


def test_a_client_that_does_not_read_holds_only_itself() -> None:
    async def scenario() -> None:
        async with served() as (server, connect):
            (reader, writer), (other_reader, other) = await connect(), await connect()
            writer.write(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n" * 50)
            await asyncio.sleep(0.2)
            other.write(GET)
            assert (await answer(other_reader))[0] == 200
            waiting = sum(each._transport.get_write_buffer_size() for each in server.connections)
            assert waiting < 3 * 8_000_000, "answers wait for the client, not in memory"
            for _ in range(50):
                assert len((await answer(reader))[1]) == 8_000_000

    run(scenario)


def test_leaving_fails_nobody() -> None:
    async def scenario() -> None:
        async with served() as (server, connect):
            (busy, busy_writer), (idle, idle_writer) = await connect(), await connect()
            busy_writer.write(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
            await asyncio.sleep(0.02)
            leaving = asyncio.create_task(server.drain(5))
            await asyncio.sleep(0.02)
            idle_writer.write(GET)  # was on its way
            assert (await answer(busy))[2][b"connection"] == b"close"
            assert (await answer(idle))[1] == b"GET /hello 0"
            await leaving
            assert not server.connections
            with pytest.raises(OSError, match="Connect call failed"):
                await connect()

    run(scenario)
