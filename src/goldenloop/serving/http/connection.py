"""One connection of HTTP/1.1: requests are read one after the other, answered in their order, and the next waits for the one before.

Rules. A body is at most `LARGEST_BODY` bytes, a head `LARGEST_HEAD`. What is not HTTP is answered 400, what is too large 413 or 431, what
takes longer than `READ_SECONDS` from its first byte to its last 408, and the connection is closed, because nobody knows what would follow.
While a request is being answered at most `READ_AHEAD` bytes of the next ones are read, and while the client does not take its answers
nothing is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TYPE_CHECKING, TypeAlias, cast
from urllib.parse import unquote_to_bytes

import httptools
import msgspec

from goldenloop.serving.http.messages import Headers, Request, Response

if TYPE_CHECKING:
    from goldenloop.serving.http.server import HttpServer

LARGEST_BODY = 64 * 1024 * 1024
LARGEST_HEAD = 64 * 1024
READ_AHEAD = 64 * 1024
READ_SECONDS = 60.0

_log = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


class Connection(asyncio.Protocol):
    """Reads requests, has them answered by the server's handler, and writes what comes back."""

    __slots__ = (
        "_ahead",
        "_body",
        "_head_bytes",
        "_headers",
        "_is_closing",
        "_is_paused",
        "_keeps",
        "_method",
        "_parser",
        "_peer",
        "_server",
        "_since",
        "_size",
        "_target",
        "_task",
        "_transport",
        "_writable",
    )

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._parser = httptools.HttpRequestParser(self)
        self._peer = ""
        self._task: asyncio.Task[None] | None = None  # answers the present request
        self._ahead: list[Request] = []  # whole requests that wait for it
        self._keeps = True
        self._is_paused = False  # nothing is read
        self._is_closing = False
        self._writable: asyncio.Future[None] | None = None  # there while the client does not take what is written
        self._since = monotonic()  # since when nothing was begun, or what is being read was
        # Of the request that is being read:
        self._target = b""
        self._method = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._size = 0

    # what the event loop says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._peer = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else ""
        self._server.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self._is_closing = True
        self._server.connections.discard(self)
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._is_closing:
            return
        if not self._head_bytes:
            self._since = monotonic()
            self._head_bytes = 1  # something has come
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as asked:
            # Another protocol was offered; a server may stay with this one (RFC 9110, 7.8). The parser has stopped for it.
            self._parser = httptools.HttpRequestParser(self)
            if rest := data[asked.args[0] :]:
                self.data_received(rest)
        except httptools.HttpParserCallbackError as error:
            refused = error.__context__
            if isinstance(refused, _RefusedError):
                self._refuse(refused.status, refused.text)
            else:
                self._refuse(500, f"internal error: {refused}")
        except httptools.HttpParserError as error:
            self._refuse(400, f"not HTTP: {error}")
        else:
            if self._task is not None and (self._ahead or self._size > READ_AHEAD) and not self._is_paused:
                self._is_paused = True
                self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Whether to keep our side open: a client may close its own when it has said everything, and read on."""
        self._keeps = False
        return self._task is not None

    def pause_writing(self) -> None:
        self._writable = self._server.loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None:
            if not self._writable.done():
                self._writable.set_result(None)
            self._writable = None

    # what the parser says

    def on_url(self, target: bytes) -> None:
        self._target += target
        self._count(len(target))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value
        self._count(len(name) + len(value))

    def on_headers_complete(self) -> None:
        self._method = self._parser.get_method()
        length = self._headers.get(b"content-length")
        if length is not None and int(length) > LARGEST_BODY:  # the parser has seen that it is a number
            raise _RefusedError(413, f"the body has {int(length)} bytes, at most {LARGEST_BODY} are taken")
        expected = self._headers.get(b"expect")
        if expected is not None and expected.lower() == b"100-continue" and self._task is None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > LARGEST_BODY:
            raise _RefusedError(413, f"the body has more than {LARGEST_BODY} bytes")
        self._body.append(part)

    def on_message_complete(self) -> None:
        parts = self._body
        body = b"".join(parts) if len(parts) > 1 else parts[0] if parts else b""
        target = self._target
        mark = target.find(b"?")
        path = target if mark < 0 else target[:mark]
        if not path.startswith(b"/"):  # the whole address, as proxies are given it
            path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
        if b"%" in path:
            path = unquote_to_bytes(path)
        headers = Headers(self._headers)
        request = Request(self._method.decode("ascii"), path.decode("latin-1"), headers, body, self._peer)
        self._keeps = self._parser.should_keep_alive()
        self._begin()
        if self._task is None:
            self._task = self._server.loop.create_task(self._answer(request))
        else:
            self._ahead.append(request)

    def _begin(self) -> None:
        """Be ready for the next request."""
        self._target = b""
        self._headers = {}
        self._head_bytes = 0
        self._body = []
        self._size = 0

    def _count(self, more: int) -> None:
        self._head_bytes += more
        if self._head_bytes > LARGEST_HEAD:
            raise _RefusedError(431, f"the head of the request has more than {LARGEST_HEAD} bytes")

    # answering

    async def _answer(self, request: Request) -> None:
        """Answer this request and those that came behind it."""
        while True:
            try:
                response = await self._server.handler(request)
            except Exception as error:  # a bug of ours must not look like a broken connection
                _log.exception("%s %s", request.method, request.path)
                text = f"internal error: {type(error).__name__}: {error}"
                response = Response(500, msgspec.json.encode({"error": text}))
            if self._transport.is_closing():
                break
            is_last = self._server.is_draining or self._is_closing or not (self._keeps or self._ahead)
            self._transport.write(response.encoded(is_head=request.method == "HEAD", closes=is_last))
            if is_last:
                self._is_closing = True
                self._transport.close()
                break
            if self._writable is not None:
                await self._writable
            if not self._ahead:
                break
            request = self._ahead.pop(0)
        self._task = None
        self._since = monotonic()
        if self._is_paused and not self._is_closing:
            self._is_paused = False
            self._transport.resume_reading()

    def _refuse(self, status: int, text: str) -> None:
        """Answer what cannot be read, after what is being answered, and close."""
        self._is_closing = True
        response = Response(status, msgspec.json.encode({"error": text}))
        if self._task is None and not self._transport.is_closing():
            self._transport.write(response.encoded(is_head=False, closes=True))
            self._transport.close()

    # what the server says

    def expire(self, idle_seconds: float) -> None:
        """Close the connection where it has been idle for so long, or a request does not come to its end."""
        if self._task is not None or self._is_closing:
            return
        waited = monotonic() - self._since
        if self._head_bytes and waited > READ_SECONDS:
            self._refuse(408, f"the request did not come to its end within {READ_SECONDS:g} s")
        elif not self._head_bytes and waited > idle_seconds:
            self._is_closing = True
            self._transport.close()

    def close_when_idle(self) -> None:
        """Close the connection unless a request is being answered or has come in part."""
        if self._task is None and not self._head_bytes:
            self._is_closing = True
            self._transport.close()

    def abort(self) -> None:
        """Close the connection now."""
        if self._task is not None:
            self._task.cancel()
        self._transport.abort()


class _RefusedError(Exception):
    """What came is not taken."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
