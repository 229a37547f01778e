"""A request and its answer, without a transport."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http import HTTPStatus

_JSON = b"application/json"
_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}


class Headers(Mapping[str, str]):
    """The headers of a request by name in lower case, made text when they are asked for. Of one that came twice the last counts."""

    __slots__ = ("raw",)

    def __init__(self, raw: dict[bytes, bytes]) -> None:
        self.raw = raw

    def __getitem__(self, name: str) -> str:
        return self.raw[name.encode("latin-1")].decode("latin-1")

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]  # text or nothing
        given = self.raw.get(name.encode("latin-1"))
        return default if given is None else given.decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self.raw)

    def __len__(self) -> int:
        return len(self.raw)


class Request:
    """One request, whole. `path` is unquoted and without the query; `peer` is the client's address as text, empty where there is none."""

    __slots__ = ("body", "headers", "method", "path", "peer")

    def __init__(self, method: str, path: str, headers: Headers, body: bytes, peer: str = "") -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self.peer = peer


class Response:
    """The answer to a request. `extra` are more header lines, each with its line end."""

    __slots__ = ("content", "content_type", "extra", "status")

    def __init__(self, status: int, content: bytes, *, content_type: bytes = _JSON, extra: bytes = b"") -> None:
        self.status = status
        self.content = content
        self.content_type = content_type
        self.extra = extra

    def encoded(self, *, is_head: bool, closes: bool) -> bytes:
        """The answer as it goes over the wire: one piece, so that it is written in one call."""
        content = self.content
        return b"%scontent-type: %s\r\ncontent-length: %d\r\n%s%s\r\n%s" % (
            _LINES[self.status],
            self.content_type,
            len(content),
            self.extra,
            b"connection: close\r\n" if closes else b"",
            b"" if is_head else content,
        )
