"""Identities: time-ordered ids for what happens, digests for what is."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time

_DIGEST_CHUNK = 1 << 20
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class _Sequence:
    """Keeps ids of one process strictly increasing, also within a millisecond and when the clock steps back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def next(self, millisecond: int, noise: int) -> int:
        candidate = (millisecond << 12) | (noise & 0x3FF)
        with self._lock:
            self._last = max(candidate, self._last + 1)
            return self._last


_sequence = _Sequence()


def uuid7(millisecond: int | None = None) -> str:
    """Return a UUID version 7 (RFC 9562): 48 bits of Unix milliseconds, a 12-bit counter, 62 random bits.

    Ids made by one process sort in the order in which they were made.

    >>> first, second = uuid7(), uuid7()
    >>> first < second, len(first), first[14]
    (True, 36, '7')
    """
    noise = int.from_bytes(os.urandom(10))
    stamp = _sequence.next(time.time_ns() // 1_000_000 if millisecond is None else millisecond, noise >> 64)
    tail = (noise & 0x3FFFFFFFFFFFFFFF) | 0x8000000000000000
    value = f"{stamp >> 12:012x}7{stamp & 0xFFF:03x}{tail:016x}"
    return f"{value[:8]}-{value[8:12]}-{value[12:16]}-{value[16:20]}-{value[20:]}"


def is_uuid(text: str) -> bool:
    """Whether the text has the form of a UUID in lower case."""
    return bool(_UUID.fullmatch(text))


def uuid7_millisecond(identity: str) -> int:
    """Return the Unix millisecond inside a UUID version 7.

    >>> uuid7_millisecond(uuid7(1_700_000_000_000))
    1700000000000
    """
    return int(identity.replace("-", "")[:12], 16)


def digest_bytes(content: bytes) -> str:
    """Return the SHA-256 of the content, as lower-case hex."""
    return hashlib.sha256(content).hexdigest()


def digest_text(*parts: str) -> str:
    """Return one digest of several texts; the boundaries between them count.

    >>> digest_text("ab", "c") == digest_text("a", "bc")
    False
    """
    joined = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        joined.update(len(encoded).to_bytes(8))
        joined.update(encoded)
    return joined.hexdigest()


def digest_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's content, read in pieces."""
    hasher = hashlib.sha256()
    with open(path, "rb") as stream:
        while piece := stream.read(_DIGEST_CHUNK):
            hasher.update(piece)
    return hasher.hexdigest()
