"""What a server's processes cost: CPU time and memory of a process and all its descendants, from /proc."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
STOP_SECONDS = 15.0


def tree(root: int) -> list[int]:
    """The process and all that came from it and are still there."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                children.setdefault(int(_fields(int(entry))[1]), []).append(int(entry))
    found = [root]
    for each in found:
        found += children.get(each, [])
    return found


def cpu_seconds(roots: list[int]) -> float:
    """User and system time so far, that of children which ended included."""
    total = 0
    for root in roots:
        for each in tree(root):
            with contextlib.suppress(OSError):
                total += sum(int(field) for field in _fields(each)[11:15])
    return total / _TICKS


def pss_bytes(roots: list[int]) -> int:
    """Memory, with what processes share split evenly between them."""
    total = 0
    for root in roots:
        for each in tree(root):
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1]) * 1024
    return total


def stop(process: subprocess.Popen[bytes]) -> None:
    """Let a server end, or end it."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        for each in tree(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        process.wait()


def _fields(process: int) -> list[str]:
    """The fields of `stat` from the state on."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
