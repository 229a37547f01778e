"""The page of a predictor process: a few numbers in memory that the process, its host and the workers share.

The process writes what it is doing, without a system call; the host sees from it what runs too long and what is idle, and a worker whose
process died under a call sees whether that call had begun. Each start of a process has a new file, so that nobody sees one process's
numbers in the page of another.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

_SIZE = mmap.PAGESIZE
_INSTANCE, _CONNECTIONS, _CONNECTION, _CALL, _KILL_AT, _LAST_WORK, _CALLS = range(7)


class Page:
    """An open page. Every field is a whole number of 64 bits; moments are nanoseconds of the monotonic clock."""

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        """Open it. Raises OSError."""
        descriptor = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
        try:
            access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
            self._memory = mmap.mmap(descriptor, _SIZE, access=access)
        except ValueError as error:
            raise OSError(f"{path} is not a page") from error
        finally:
            os.close(descriptor)
        self._fields = memoryview(self._memory).cast("q")

    @classmethod
    def create(cls, path: Path) -> Page:
        """Make a new page in the place of the old one."""
        path.unlink(missing_ok=True)
        path.touch(0o600)
        os.truncate(path, _SIZE)
        return cls(path, writable=True)

    def close(self) -> None:
        self._fields.release()
        self._memory.close()

    # the process

    def open_for(self, instance: int) -> None:
        """Say which start of a process it belongs to."""
        self._fields[_INSTANCE] = instance

    def begin(self, connection: int, call: int, kill_at_ns: int) -> None:
        """A call begins, the only one; it may be killed at this moment."""
        fields = self._fields
        fields[_CONNECTION] = connection
        fields[_CALL] = call
        fields[_KILL_AT] = kill_at_ns

    def end(self, now_ns: int) -> None:
        """The call has ended."""
        fields = self._fields
        fields[_KILL_AT] = 0
        fields[_CALL] = 0
        fields[_LAST_WORK] = now_ns
        fields[_CALLS] += 1

    def running(self, kill_at_ns: int) -> None:
        """Several calls may run; the first of them may be killed at this moment, 0 where none runs."""
        self._fields[_KILL_AT] = kill_at_ns

    def worked(self, now_ns: int) -> None:
        """One of several calls has ended."""
        self._fields[_LAST_WORK] = now_ns
        self._fields[_CALLS] += 1

    def connected(self, count: int) -> None:
        """So many workers are connected."""
        self._fields[_CONNECTIONS] = count

    # who looks

    @property
    def instance(self) -> int:
        return self._fields[_INSTANCE]

    @property
    def connections(self) -> int:
        return self._fields[_CONNECTIONS]

    @property
    def kill_at_ns(self) -> int:
        return self._fields[_KILL_AT]

    @property
    def last_work_ns(self) -> int:
        """When the last call ended; 0 where there was none."""
        return self._fields[_LAST_WORK]

    @property
    def calls(self) -> int:
        return self._fields[_CALLS]

    def is_running(self, connection: int, call: int) -> bool:
        """Whether this call has begun and not ended."""
        return self._fields[_CALL] == call and self._fields[_CONNECTION] == connection
