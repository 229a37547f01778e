"""Shutting a predictor in further than limits do, with bubblewrap, where the operator asks for it.

Inside it sees the system and the interpreter read-only, its model read-only, a folder of its own, no network, and no other process.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Literal

from goldenloop.core.errors import UnavailableError

Isolation = Literal["none", "bubblewrap"]
ISOLATIONS: tuple[Isolation, ...] = ("none", "bubblewrap")
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt")


def check(isolation: Isolation) -> None:
    """Raise UnavailableError where it is asked for and not there."""
    if isolation == "bubblewrap" and shutil.which("bwrap") is None:
        raise UnavailableError(
            "bubblewrap is not installed",
            where="--isolation",
            mend="Install the package bubblewrap, or leave the option out.",
        )


def wrapped(command: list[str], isolation: Isolation, *, model: Path, scratch: Path, page: Path) -> list[str]:
    """Return the command that runs this one shut in."""
    if isolation == "none":
        return command
    readable = [Path(path) for path in _SYSTEM]
    readable += [Path(sys.prefix), Path(sys.base_prefix), Path(command[0]).parent, Path(__file__).parents[3], model]
    words = ["bwrap", "--die-with-parent", "--unshare-net", "--unshare-pid", "--unshare-ipc", "--proc", "/proc"]
    words += ["--dev", "/dev", "--tmpfs", "/tmp"]
    for path in readable:
        words += ["--ro-bind-try", str(path), str(path)]
    for path in (scratch, page):
        words += ["--bind", str(path), str(path)]
    return [*words, "--chdir", str(scratch), "--", *command]
