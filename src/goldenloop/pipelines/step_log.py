"""A step's log: what it prints as it prints it, bounded, the beginning and the end kept."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import BinaryIO

_LONGEST_END = 1 << 16  # bytes
_END_SHARE = 8  # one part in so many of the limit is for the end


class StepLog:
    """Appends to a file up to a limit in bytes. Of what comes after, the last part is kept in memory and written when
    the log is closed, after a line that says how much is missing: the end is where a failure says what it is.
    """

    def __init__(self, path: str, limit: int, *, heading: str = "") -> None:
        self._file: BinaryIO = open(path, "ab", buffering=0)  # noqa: SIM115 - it lives as long as the step
        self._limit = limit
        self._end_room = min(_LONGEST_END, limit // _END_SHARE)
        self._left = max(0, limit - self._end_room - self._file.tell())
        self._end: deque[bytes] = deque()
        self._end_size = 0
        self._dropped = 0
        self._last = b""
        if heading:
            self._write(heading.encode() + b"\n")

    def write(self, piece: bytes) -> None:
        """Take what the step printed."""
        self._last = (self._last + piece)[-_LAST_BYTES:]
        kept = piece[: self._left]
        self._left -= len(kept)
        self._write(kept)
        self._keep_end(piece[len(kept) :])

    def mentions(self, text: bytes) -> bool:
        """Whether the last lines contain a text."""
        return text in self._last

    def close(self) -> None:
        """Write the end, where it was not written yet."""
        if self._dropped:
            self._write(f"\n[the log is cut at {self._limit} bytes: {self._dropped} bytes are not kept]\n".encode())
        for piece in self._end:
            self._write(piece)
        self._file.close()

    def _keep_end(self, piece: bytes) -> None:
        if not piece:
            return
        self._end.append(piece)
        self._end_size += len(piece)
        while self._end_size > self._end_room:
            excess = self._end_size - self._end_room
            first = self._end.popleft()
            if len(first) > excess:
                self._end.appendleft(first[excess:])
            gone = min(excess, len(first))
            self._end_size -= gone
            self._dropped += gone

    def _write(self, piece: bytes) -> None:
        if piece:
            with contextlib.suppress(OSError):  # a full disk does not end the step
                self._file.write(piece)


_LAST_BYTES = 2_000
