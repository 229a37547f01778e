"""An access log: a line of JSON for each request that has ended.

Lines are kept for up to a second, or `LARGEST_KEPT` bytes, and then appended in one write, so that several workers may write the same file.
The file is opened for each write: who moves it away to keep it finds a new one a second later. What cannot be written is dropped, and said
once; no request waits or fails for it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from goldenloop.serving.watching import Watch

LARGEST_KEPT = 64 * 1024
KEPT_SECONDS = 1.0
_LONGEST_PATH = 500  # characters
_OWN_OUTPUT = "-"


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One request. `service`, `version` and `prediction` are empty where no model was asked; of a graph they are the last one's."""

    time: str  # UTC, when its first byte came
    protocol: str
    method: str
    path: str
    status: int
    service: str
    version: str
    prediction: str
    received: int  # bytes of the bodies
    sent: int
    microseconds: int
    client: str


class AccessLog:
    """Writes to a file, or with `-` to the worker's own output, which is in `logs/` of the installation."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._lines: list[bytes] = []
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._has_failed = False
        self._encode = msgspec.json.Encoder().encode

    def saw(self, watch: Watch) -> None:
        """Keep the line of a request."""
        last = watch.noted[-1] if watch.noted else None
        moment = datetime.fromtimestamp(watch.started_ns / 1e9, UTC)
        line = Line(
            time=moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            protocol=watch.protocol,
            method=watch.method,
            path=watch.path[:_LONGEST_PATH],
            status=watch.status,
            service="" if last is None else f"{last.namespace}/{last.service}",
            version="" if last is None else last.version,
            prediction="" if last is None else last.identity,
            received=watch.received,
            sent=watch.sent,
            microseconds=watch.took_ns // 1_000,
            client=watch.client,
        )
        content = self._encode(line) + b"\n"
        self._lines.append(content)
        self._bytes += len(content)
        if self._bytes >= LARGEST_KEPT:
            self._write()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._write)

    def close(self) -> None:
        """Write what is kept."""
        self._write()

    def _write(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        content = b"".join(self._lines)
        self._lines, self._bytes = [], 0
        if not content:
            return
        try:
            if self._place == _OWN_OUTPUT:
                sys.stdout.buffer.write(content)
                sys.stdout.buffer.flush()
                return
            descriptor = os.open(Path(self._place), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
            try:
                os.write(descriptor, content)
            finally:
                os.close(descriptor)
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                print(f"the access log {self._place} cannot be written: {error.strerror}", file=sys.stderr, flush=True)
