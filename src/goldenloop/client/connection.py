"""One kept-alive HTTP connection that speaks JSON and turns answers that are errors into ours."""

from __future__ import annotations

import contextlib
import http.client
import select
import time
from collections.abc import Callable
from urllib.parse import urlsplit

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


class Connection:
    """A connection to one address. Not for several threads at once."""

    def __init__(self, address: str, *, timeout_seconds: float = 90.0) -> None:
        parts = urlsplit(address)
        self.address = address
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._timeout = timeout_seconds
        self._connection: http.client.HTTPConnection | None = None

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
        given = {"Content-Type": "application/json", **(headers or {})}
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
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _send(
        self, method: str, path: str, content: bytes | None, headers: dict[str, str], on_sent: Callable[[], None]
    ) -> tuple[int, dict[str, str], bytes]:
        for attempt in (1, 2):
            if self._connection is not None and _was_closed(self._connection):
                self.close()
            fresh = self._connection is None
            if self._connection is None:
                self._connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
            try:
                self._connection.request(method, path, content, headers)
                on_sent()
                response = self._connection.getresponse()
                text = response.read()
            except (http.client.HTTPException, ConnectionError) as error:
                self.close()
                # A kept connection may have been closed by the other side while it was idle; that is not a failure yet.
                if fresh or attempt == 2 or method != "GET":
                    raise UnavailableError(
                        f"{self.address} does not answer: {error}", mend="Is it running? See: goldenloop up."
                    ) from error
                continue
            except OSError as error:
                self.close()
                raise UnavailableError(
                    f"{self.address} does not answer: {error}", mend="Is it running? See: goldenloop up."
                ) from error
            return response.status, {name.lower(): value for name, value in response.getheaders()}, text
        raise AssertionError("both attempts end above")


def _was_closed(connection: http.client.HTTPConnection) -> bool:
    """Whether the other side has closed an idle connection: then it can be read, and there is nothing to read."""
    if connection.sock is None:
        return True
    readable, _, _ = select.select([connection.sock], [], [], 0)
    return bool(readable)


def _error(status: int, text: bytes, what: str) -> GoldenloopError:
    message = text.decode(errors="replace")
    with contextlib.suppress(msgspec.DecodeError):
        decoded = msgspec.json.decode(text)
        if isinstance(decoded, dict):
            message = str(decoded.get("message") or decoded.get("error") or message)
    return _ERRORS.get(status, GoldenloopError)(message or f"{what} was answered with {status}")
