"""Identities: time-ordered ids for what happens, digests for what is."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import threading
import time

_DIGEST_CHUNK = 1 << 20
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class _Sequence:
    """Stamps and random tails of ids: stamps strictly increase, also within a millisecond and when the clock steps back.

    Random bits are fetched and written out many at a time: a system call for each id would be most of what an id costs.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0
        self._pool: list[tuple[int, str]] = []
        os.register_at_fork(after_in_child=self._begin_anew)

    def next(self, millisecond: int) -> tuple[int, str]:
        """Return the stamp (milliseconds and a 12-bit counter) and the last two groups of an id, which nobody got before."""
        with self._lock:
            if not self._pool:
                self._pool = [_tail(noise) for noise in struct.unpack("512Q", os.urandom(4_096))]
            start, tail = self._pool.pop()
            # The counter begins anywhere in the lower quarter, so that there is room above it.
            self._last = max((millisecond << 12) | start, self._last + 1)
            return self._last, tail

    def _begin_anew(self) -> None:
        """A child must not give the bits that its parent gives."""
        self._lock = threading.Lock()
        self._pool = []


def _tail(noise: int) -> tuple[int, str]:
    """Where a counter begins, and 62 other random bits as an id ends: with the variant of RFC 9562 before them."""
    text = f"{(noise >> 2) | 0x8000000000000000:016x}"
    return noise & 0x3FF, f"{text[:4]}-{text[4:]}"


_sequence = _Sequence()


def uuid7(millisecond: int | None = None) -> str:
    """Return a UUID version 7 (RFC 9562): 48 bits of Unix milliseconds, a 12-bit counter, 62 random bits.

    Ids made by one process sort in the order in which they were made.

    >>> first, second = uuid7(), uuid7()
    >>> first < second, len(first), first[14]
    (True, 36, '7')
    """
    stamp, tail = _sequence.next(time.time_ns() // 1_000_000 if millisecond is None else millisecond)
    head = f"{stamp:015x}"
    return f"{head[:8]}-{head[8:12]}-7{head[12:]}-{tail}"


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
