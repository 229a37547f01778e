"""Header compression (RFC 7541): blocks → fields, with the table that the client fills; fields → blocks, without a table.

What we send is never put into a table: our header blocks are the same bytes for every call, so there is nothing to save.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from goldenloop.serving.grpc import huffman
from goldenloop.serving.grpc.frames import Code, ConnectionFault

Field: TypeAlias = tuple[bytes, bytes]

TABLE_SIZE: Final = 4096  # bytes that the client's table may have; the default of the protocol
_FIELD_OVERHEAD: Final = 32  # counted for each field, both in the table and in a list
_LARGEST_NUMBER: Final = 2**24
_METHODS = (b"GET", b"POST")
_STATUSES = (b"200", b"204", b"206", b"304", b"400", b"404", b"500")
_PLAIN_NAMES = (
    "accept-charset", "accept-encoding", "accept-language", "accept-ranges", "accept", "access-control-allow-origin", "age", "allow",
    "authorization", "cache-control", "content-disposition", "content-encoding", "content-language", "content-length", "content-location",
    "content-range", "content-type", "cookie", "date", "etag", "expect", "expires", "from", "host", "if-match", "if-modified-since",
    "if-none-match", "if-range", "if-unmodified-since", "last-modified", "link", "location", "max-forwards", "proxy-authenticate",
    "proxy-authorization", "range", "referer", "refresh", "retry-after", "server", "set-cookie", "strict-transport-security",
    "transfer-encoding", "user-agent", "vary", "via", "www-authenticate",
)  # fmt: skip
# Appendix A. The first entry is number 1.
STATIC_TABLE: Final[tuple[Field, ...]] = (
    (b"", b""),
    (b":authority", b""),
    *((b":method", method) for method in _METHODS),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    *((b":status", status) for status in _STATUSES),
    *((name.encode(), b"gzip, deflate" if name == "accept-encoding" else b"") for name in _PLAIN_NAMES),
)
_STATIC_SIZE: Final = len(STATIC_TABLE)  # the number of the newest entry of the client's own table
_STATIC_PLACES = {field: place for place, field in reversed(list(enumerate(STATIC_TABLE)))}


class Decoder:
    """Reads the header blocks of one connection, in their order. A block of which `decode` says that it left the table as it was means the
    same again, until a block changes the table (`changes` counts those).
    """

    __slots__ = ("_largest_list", "_limit", "_size", "_table", "changes")

    def __init__(self, *, largest_list: int) -> None:
        self.changes = 0
        self._largest_list = largest_list
        self._table: list[Field] = []  # the newest last
        self._size = 0
        self._limit = TABLE_SIZE

    def decode(self, block: bytes) -> list[Field] | None:
        """Return the fields, or None where they are larger than a list may be (the table is kept right all the same).

        Raises ConnectionFault where the block cannot be read.
        """
        fields: list[Field] = []
        left = self._largest_list
        at, size = 0, len(block)
        while at < size:
            first = block[at]
            if first & 0x80:  # a field of a table
                number, at = (first & 0x7F, at + 1) if first != 0xFF else _number(block, at, 0x7F)
                field = self._field(number)
            elif first & 0xE0 == 0x20:
                if fields or left != self._largest_list:
                    raise ConnectionFault(Code.COMPRESSION_ERROR, "the table's size changes after a field")
                number, at = _number(block, at, 0x1F)
                self._resize(number)
                continue
            else:  # a field with its value, and maybe its name; two bits say whether it goes into the table
                number, at = _number(block, at, 0x3F if first & 0x40 else 0x0F)
                if number:
                    name = self._field(number)[0]
                else:
                    name, at = _text(block, at)
                value, at = _text(block, at)
                field = (name, value)
                if first & 0x40:
                    self._add(field)
            left -= len(field[0]) + len(field[1]) + _FIELD_OVERHEAD
            if left >= 0:
                fields.append(field)
        return fields if left >= 0 else None

    def _field(self, number: int) -> Field:
        if 0 < number < _STATIC_SIZE:
            return STATIC_TABLE[number]
        place = number - _STATIC_SIZE
        if number == 0 or place >= len(self._table):
            raise ConnectionFault(Code.COMPRESSION_ERROR, f"there is no header field number {number}")
        return self._table[-1 - place]

    def _add(self, field: Field) -> None:
        self.changes += 1
        self._table.append(field)
        self._size += len(field[0]) + len(field[1]) + _FIELD_OVERHEAD
        self._evict()

    def _resize(self, limit: int) -> None:
        if limit > TABLE_SIZE:
            raise ConnectionFault(
                Code.COMPRESSION_ERROR, f"the table is to have {limit} bytes, {TABLE_SIZE} are allowed"
            )
        self.changes += 1
        self._limit = limit
        self._evict()

    def _evict(self) -> None:
        gone = 0
        while self._size > self._limit:
            name, value = self._table[gone]
            self._size -= len(name) + len(value) + _FIELD_OVERHEAD
            gone += 1
        if gone:
            del self._table[:gone]


def encode(fields: list[Field]) -> bytes:
    """Return a block that says these fields and leaves the client's table as it is.

    >>> encode([(b":status", b"200"), (b"x", b"1")]).hex()
    '880001780131'
    """
    parts: list[bytes] = []
    for field in fields:
        place = _STATIC_PLACES.get(field)
        if place is not None:
            parts.append(bytes((0x80 | place,)))
        else:
            parts += [b"\0", _plain(field[0]), _plain(field[1])]
    return b"".join(parts)


def _plain(text: bytes) -> bytes:
    """A text as it is, with its length before it."""
    length = len(text)
    if length < 0x7F:
        return bytes((length,)) + text
    length -= 0x7F
    made = bytearray(b"\x7f")
    while length > 0x7F:
        made.append(0x80 | length & 0x7F)
        length >>= 7
    made.append(length)
    return bytes(made) + text


def _number(block: bytes, at: int, most: int) -> tuple[int, int]:
    """Read a number whose first bits lie in the byte at `at` under the mask `most`; return it and the place after it."""
    number = block[at] & most
    at += 1
    if number < most:
        return number, at
    shift = 0
    while at < len(block):
        byte = block[at]
        at += 1
        number += (byte & 0x7F) << shift
        if number > _LARGEST_NUMBER or shift > 28:
            raise ConnectionFault(Code.COMPRESSION_ERROR, "a number in a header block is too large")
        if byte < 0x80:
            return number, at
        shift += 7
    raise ConnectionFault(Code.COMPRESSION_ERROR, "a header block ends within a number")


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    if at >= len(block):
        raise ConnectionFault(Code.COMPRESSION_ERROR, "a header block ends before a text")
    is_packed = block[at] & 0x80
    length, at = _number(block, at, 0x7F)
    end = at + length
    if end > len(block):
        raise ConnectionFault(Code.COMPRESSION_ERROR, "a header block ends within a text")
    text = block[at:end]
    return (huffman.decode(text) if is_packed else text), end
