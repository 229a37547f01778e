"""What the processes of a step use, read from /proc and from the disk."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def children_of(pid: int) -> list[int]:
    """The children of a process, of whichever of its threads; none where it is gone."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return found


def family_of(pid: int) -> Iterator[int]:
    """A process and all below it."""
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        yield one
        waiting += children_of(one)


def memory_of(pid: int, *, enough: int) -> int:
    """The bytes of memory that a process and all below it have to themselves; what they share with others is counted in
    parts, and files that are mapped are not counted.

    Where what is resident is below `enough` that is the answer: it is the larger number, and much cheaper to find.
    """
    family = list(family_of(pid))
    resident = sum(map(_resident, family))
    return resident if resident < enough else sum(map(_own, family))


def folder_bytes(folder: str, *, enough: int) -> int:
    """The bytes of the files in a folder; it stops counting when there are enough."""
    total = 0
    waiting = [folder]
    while waiting and total < enough:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total


def readable(size: int) -> str:
    """A size in words.

    >>> readable(3 << 20), readable(5 << 30), readable(1_200)
    ('3.0 MiB', '5.0 GiB', '1.2 KiB')
    """
    amount = float(size)
    for unit in ("bytes", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _own(pid: int) -> int:
    counted = 0
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in ("Pss_Anon", "Pss_Shmem"):
                counted += int(rest.split()[0]) * 1024
    return counted
