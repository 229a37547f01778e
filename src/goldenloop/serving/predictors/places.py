"""Files of predictor processes: for each replica of a version a socket, a page (`page`) and a status.

All lie in one folder, private to the user. Names are short, because the path of a Unix socket holds at most 107 bytes; a longer one is
reached through a descriptor of its folder.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from goldenloop.core.ids import digest_text

_LONGEST_PATH = 100
_KEY_LENGTH = 16

State = Literal["waiting", "starting", "ready", "ending", "idle", "pausing"]
EndKind = Literal["asked", "raised", "crashed", "time", "memory", "load"]
# asked: the host wanted it. raised: it ended itself. crashed: by a signal. time, memory: killed at a limit. load: it could not load.


class End(msgspec.Struct, frozen=True, kw_only=True):
    """How a process ended. `instance` is that start of it."""

    instance: int
    kind: EndKind
    reason: str


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What the host knows of a replica.

    `waiting`: not started, nobody asked for it; `idle`: ended because nobody did, and known to load; `pausing`: failed, and tried again
    after a pause. `failures` counts those in a row.
    """

    state: State
    pid: int | None = None
    failures: int = 0
    reason: str = ""  # of the last failure, while it matters
    ended: End | None = None  # the last process


@dataclass(frozen=True, slots=True)
class Place:
    """Where one replica lies."""

    folder: Path
    digest: str
    replica: int

    @property
    def name(self) -> str:
        """The name that its files begin with."""
        return f"{key_of(self.digest)}-{self.replica}"

    @property
    def socket(self) -> Path:
        return self.folder / f"{self.name}.sock"

    @property
    def page(self) -> Path:
        return self.folder / f"{self.name}.page"

    @property
    def status(self) -> Path:
        return self.folder / f"{self.name}.json"

    def read_status(self) -> Status | None:
        """What the host says of it, None where it says nothing."""
        try:
            return msgspec.json.decode(self.status.read_bytes(), type=Status)
        except (OSError, msgspec.DecodeError, ValueError):
            return None

    def write_status(self, status: Status) -> None:
        """Say what is known; a reader sees the old or the new, whole."""
        partial = self.folder / f".{self.name}.json"
        partial.write_bytes(msgspec.json.encode(status))
        os.replace(partial, self.status)

    def remove(self) -> None:
        """Remove all its files."""
        for path in (self.socket, self.page, self.status):
            path.unlink(missing_ok=True)


def key_of(digest: str) -> str:
    """Return the short name of a version."""
    return digest_text(digest)[:_KEY_LENGTH]


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """A name for a socket's path that is short enough to bind and to connect to, as long as the block lasts."""
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
