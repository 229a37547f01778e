"""The head of a call: what the header block with which a stream begins says.

A client sends the same block call after call, so a block that leaves the table of header compression as it was is read once and then
known by its bytes, until the table changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from goldenloop.serving.grpc.frames import Code, ConnectionFault
from goldenloop.serving.grpc.hpack import Decoder, Field

LARGEST_BLOCK: Final = 32 * 1024  # bytes of a header block as it is sent
LARGEST_LIST: Final = 16 * 1024  # bytes of the fields that it means, each counted with 32 more
_KNOWN_BLOCKS: Final = 64
_LARGEST_KNOWN: Final = 1024  # bytes of a block that is remembered
_OF_ONE_CONNECTION: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"(?:[^\0\r\n \t](?:[^\0\r\n]*[^\0\r\n \t])?)?")
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_UNIT_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class Head:
    """What a call says before its messages. `malformed` is why it is none in HTTP/2's sense, or None."""

    __slots__ = (
        "accepted", "content_length", "content_type", "encoding", "headers", "is_too_large", "malformed", "method", "path", "timeout",
    )  # fmt: skip

    def __init__(self, fields: list[Field] | None) -> None:
        self.is_too_large = fields is None
        pseudo, headers, self.malformed = _sorted(fields or [])
        self.method = pseudo.get(b":method", b"")
        self.path = pseudo.get(b":path", b"").decode("latin-1")
        if fields is not None and self.malformed is None and not (self.method and self.path and b":scheme" in pseudo):
            self.malformed = "a request says :method, :scheme and :path"
        if b":authority" in pseudo:
            headers.setdefault("host", pseudo[b":authority"].decode("latin-1"))
        self.headers: Mapping[str, str] = headers
        self.content_type = headers.get("content-type", "")
        self.encoding = headers.get("grpc-encoding", "identity")
        self.accepted = frozenset(part.strip() for part in headers.get("grpc-accept-encoding", "").split(","))
        self.timeout = headers.get("grpc-timeout")
        length = headers.get("content-length")
        self.content_length: int | None = None
        if length is not None:
            if length.isascii() and length.isdecimal() and len(length) < 20:
                self.content_length = int(length)
            else:
                self.malformed = "content-length is no number"

    def timeout_seconds(self) -> float | None:
        """How long the client waits, or None for ever. Raises ValueError for what is no time.

        >>> Head([(b"grpc-timeout", b"1500m")]).timeout_seconds()
        1.5
        """
        if self.timeout is None:
            return None
        matched = _TIMEOUT.fullmatch(self.timeout)
        if matched is None:
            raise ValueError(self.timeout)
        return int(matched[1]) * _UNIT_SECONDS[matched[2]]


class HeadReader:
    """Reads the header blocks of one connection, in their order."""

    __slots__ = ("_changes", "_decoder", "_known")

    def __init__(self) -> None:
        self._decoder = Decoder(largest_list=LARGEST_LIST)
        self._changes = 0
        self._known: dict[bytes, Head] = {}

    def read(self, block: bytes) -> Head:
        """Return the head of a call. Raises ConnectionFault where the block cannot be read."""
        head = self._known.get(block)
        if head is not None:
            return head
        head = Head(self._decoder.decode(block))
        if self._decoder.changes != self._changes:
            self._changes = self._decoder.changes
            self._known.clear()
        elif len(block) <= _LARGEST_KNOWN:
            if len(self._known) >= _KNOWN_BLOCKS:
                self._known.clear()
            self._known[block] = head
        return head

    def skip(self, block: bytes) -> None:
        """Read a block for its effect on the table only. Raises ConnectionFault."""
        if block not in self._known:
            self.read(block)


def check_block_size(size: int) -> None:
    """Raises ConnectionFault for a header block that is too large to be read, and without reading no later one means anything."""
    if size > LARGEST_BLOCK:
        raise ConnectionFault(Code.ENHANCE_YOUR_CALM, f"a header block has more than {LARGEST_BLOCK} bytes")


def _sorted(fields: list[Field]) -> tuple[dict[bytes, bytes], dict[str, str], str | None]:
    """Return the pseudo-fields, the others (of the same name joined by commas), and what is wrong with them."""
    pseudo: dict[bytes, bytes] = {}
    headers: dict[str, str] = {}
    for name, value in fields:
        if name[:1] == b":":
            if headers or name in pseudo or name not in (b":method", b":scheme", b":path", b":authority"):
                return pseudo, headers, "a pseudo-field is repeated, unknown, or comes after the others"
            pseudo[name] = value
            continue
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            return pseudo, headers, "a field holds what no field may hold"
        if name in _OF_ONE_CONNECTION or (name == b"te" and value != b"trailers"):
            return pseudo, headers, "a field is one of HTTP/1.1's connections"
        text = value.decode("latin-1")
        key = name.decode()
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    return pseudo, headers, None
