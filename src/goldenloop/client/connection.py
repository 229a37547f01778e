"""One kept-alive HTTP connection that speaks JSON and turns answers that are errors into ours."""

from __future__ import annotations

import contextlib
import getpass
import os
import select
import socket
import time
from collections.abc import Callable
from functools import cache
from urllib.parse import urlsplit

import httptools
import msgspec

from goldenloop.core.errors import (
    ConflictError,
    GoldenloopError,
    InvalidSpecError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)

_ERRORS: dict[int, type[GoldenloopError]] = {
    400: InvalidSpecError,
    403: RefusedError,
    404: NotFoundError,
    409: ConflictError,
    413: InvalidSpecError,
    422: InvalidSpecError,
    429: UnavailableError,
    503: UnavailableError,
}
_PATIENCE_SECONDS = 120.0  # how long "not now" answers are tried again
_LONGEST_PAUSE_SECONDS = 5.0


@cache
def _user() -> str:
    """Who calls, for the audit log."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


_PIECE = 1 << 16


class Connection:
    """A connection to one address. Not for several threads at once."""

    def __init__(self, address: str, *, timeout_seconds: float = 90.0) -> None:
        parts = urlsplit(address)
        self.address = address
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._timeout = timeout_seconds
        self._socket: socket.socket | None = None

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: dict[str, str] | None = None,
        patience_seconds: float = _PATIENCE_SECONDS,
        on_sent: Callable[[], None] = lambda: None,
    ) -> tuple[object, dict[str, str]]:
        """Send a request; return the decoded answer and its headers. `on_sent` is called when it has left.

        "Not now" (429, 503) is tried again after the pause that the server names, as long as the patience lasts. Raises the error
        of the tree that the status stands for.
        """
        content = None if body is None else msgspec.json.encode(body)
        given = {"Content-Type": "application/json", "X-Actor": _user(), **(headers or {})}
        end = time.monotonic() + patience_seconds
        while True:
            status, answered, text = self._send(method, path, content, given, on_sent)
            if status in (429, 503) and time.monotonic() < end and "retry-after" in answered:
                time.sleep(min(_LONGEST_PAUSE_SECONDS, float(answered["retry-after"])))
                continue
            if status >= 400:
                raise _error(status, text, f"{method} {path}")
            if not answered.get("content-type", "").startswith("application/json"):
                return text.decode(errors="replace"), answered
            return msgspec.json.decode(text) if text else None, answered

    def close(self) -> None:
        """Close it; the next call opens it again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(
        self, method: str, path: str, content: bytes | None, headers: dict[str, str], on_sent: Callable[[], None]
    ) -> tuple[int, dict[str, str], bytes]:
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {self._host}:{self._port}",
            f"Content-Length: {len(content or b'')}",
        ]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        request = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (content or b"")
        for attempt in (1, 2):
            if self._socket is not None and _was_closed(self._socket):
                self.close()
            fresh = self._socket is None
            try:
                if self._socket is None:
                    self._socket = socket.create_connection((self._host, self._port), timeout=self._timeout)
                    self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._socket.sendall(request)
                on_sent()
                response = _receive(self._socket)
            except (OSError, httptools.HttpParserError) as error:
                self.close()
                # A kept connection may have been closed by the other side while it was idle; that is not a failure yet.
                if fresh or attempt == 2 or method != "GET" or isinstance(error, TimeoutError):
                    raise UnavailableError(
                        f"{self.address} does not answer: {error}", mend="Is it running? See: goldenloop up."
                    ) from error
                continue
            if not response.keeps_alive:
                self.close()
            return response.status, response.headers, bytes(response.body)
        raise AssertionError("both attempts end above")


class _Response:
    """What the parser finds (httptools calls these by name)."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.is_complete = False
        self.keeps_alive = True
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, piece: bytes) -> None:
        self._parser.feed_data(piece)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, piece: bytes) -> None:
        self.body += piece

    def on_message_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self.keeps_alive = self._parser.should_keep_alive()
        self.is_complete = True


def _receive(connection: socket.socket) -> _Response:
    response = _Response()
    while not response.is_complete:
        piece = connection.recv(_PIECE)
        if not piece:
            raise ConnectionResetError("the connection was closed before the answer was complete")
        response.feed(piece)
    return response


def _was_closed(connection: socket.socket) -> bool:
    """Whether the other side has closed an idle connection: then it can be read, and there is nothing to read."""
    readable, _, _ = select.select([connection], [], [], 0)
    return bool(readable)


def _error(status: int, text: bytes, what: str) -> GoldenloopError:
    message = text.decode(errors="replace")
    with contextlib.suppress(msgspec.DecodeError):
        decoded = msgspec.json.decode(text)
        if isinstance(decoded, dict):
            message = str(decoded.get("message") or decoded.get("error") or message)
    return _ERRORS.get(status, GoldenloopError)(message or f"{what} was answered with {status}")
