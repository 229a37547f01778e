"""What a predictor process may use, and what it sees of the machine."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from collections.abc import Mapping
from pathlib import Path

MARK = "GOLDENLOOP_PREDICTOR"  # in the environment of a predictor and of everything that it starts
_NICENESS = 3  # workers and control go first when processors are short
_OUT_OF_MEMORY_SCORE = 500  # whom the kernel ends first when the machine's memory is short
_MEMORY_SLACK = 96 << 20  # bytes of the interpreter and its libraries
_PR_SET_PDEATHSIG = 1

# What the libraries of numbers read when they are imported.
_THREAD_COUNTS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "POLARS_MAX_THREADS",
)
_KEPT = ("HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TZ", "USER", "VIRTUAL_ENV")
_KEPT_BEGINNINGS = ("CUDA_", "LC_", "NVIDIA_")


def environment(own: Mapping[str, str], *, threads: int, scratch: Path, mark: str) -> dict[str, str]:
    """Return the environment of a predictor: no keys and addresses of the platform's own, and one thread for libraries of numbers."""
    kept = {name: value for name, value in own.items() if name in _KEPT or name.startswith(_KEPT_BEGINNINGS)}
    kept |= {name: str(threads) for name in _THREAD_COUNTS}
    kept |= {
        "OMP_WAIT_POLICY": "passive",
        "PYTHONDONTWRITEBYTECODE": "1",  # the model's folder stays as it is
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(scratch),
        MARK: mark,
    }
    return kept


def default_memory() -> int:
    """Return what a predictor may use where nothing is said: half of the machine's memory, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def confine(*, memory_bytes: int, host: int) -> None:
    """Take the limits upon this process, and die with the host. Called before any foreign code is imported."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if host and os.getppid() != host:  # it died before the line above
        os._exit(1)
    os.nice(_NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OUT_OF_MEMORY_SCORE))
    # RLIMIT_DATA counts what is really private and writable; address space is reserved by some libraries without bound.
    for kind, bound in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_DATA, memory_bytes + _MEMORY_SLACK)):
        _, hard = resource.getrlimit(kind)
        allowed = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(kind, (allowed, allowed))


def resident_bytes(pid: int) -> int:
    """Return how much memory a process holds now, 0 where it is gone."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * resource.getpagesize()


def end_marked(beginning: str) -> int:
    """Kill every process whose mark begins so, however it detached itself; return how many there were."""
    wanted = f"{MARK}={beginning}".encode()
    ended = 0
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            content = Path(entry.path, "environ").read_bytes()
            if content.startswith(wanted) or b"\0" + wanted in content:
                os.kill(int(entry.name), signal.SIGKILL)
                ended += 1
        except (OSError, ValueError):
            continue  # gone, or not ours
    return ended
