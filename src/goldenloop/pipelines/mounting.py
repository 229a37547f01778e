"""Puts folders where a step expects volumes, for that step alone: it runs in a mount namespace of its own, on a root
that is the machine's with those folders added. Nothing is changed for anybody else, and nothing is left when the step
has ended. No privilege is needed where the kernel lets users have namespaces.

As the program of a step it takes the folders (JSON, by path) and the step's own command line.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from goldenloop.pipelines.python_step import match_python_step
from goldenloop.pipelines.step_process import run_component
from goldenloop.pipelines.zygote_protocol import PythonProgram

_MODULE = "goldenloop.pipelines.mounting"
_LIBC = ctypes.CDLL(None, use_errno=True)
_NEW_MOUNTS = 0x00020000
_NEW_USER = 0x10000000
_BIND = 4096
_RECURSIVE = 16384
_PRIVATE = 1 << 18
_WHY = "volumes need mount namespaces, which this machine does not allow: run the pipeline where they are"


def mounted_command(mounts: Mapping[str, str], command: tuple[str, ...]) -> tuple[str, ...]:
    """The command that runs another one with folders at paths; the step's arguments follow it."""
    return (sys.executable, "-m", _MODULE, msgspec.json.encode(mounts).decode(), str(len(command)), *command)


def main() -> None:
    """Mount, and become the command."""
    mounts = msgspec.json.decode(sys.argv[1], type=dict[str, str])
    length = int(sys.argv[2])
    command, args = tuple(sys.argv[3 : 3 + length]), tuple(sys.argv[3 + length :])
    try:
        _mount(mounts)
    except OSError as error:
        sys.exit(f"{_WHY} ({error.strerror})")
    step = match_python_step(command)
    if step is not None:
        os.environ["_KFP_RUNTIME"] = "true"
        sys.exit(run_component(PythonProgram(source=step.source, args=args), Path.cwd()))
    words = (*command, *args)
    try:
        os.execvp(words[0], words)
    except OSError as error:
        sys.exit(f"{words[0]}: {error.strerror}")


def _mount(mounts: Mapping[str, str]) -> None:
    here = os.getcwd()
    _leave()
    _call("mount", None, b"/", None, _RECURSIVE | _PRIVATE, None)
    root = tempfile.mkdtemp(prefix=".root-", dir=here)
    _call("mount", b"tmpfs", os.fsencode(root), b"tmpfs", 0, None)
    _copy(Path("/"), Path(root), {tuple(Path(path).parts[1:]): folder for path, folder in mounts.items()})
    os.chroot(root)
    os.chdir(here)


def _leave() -> None:
    """Enter a namespace of mounts; without the privilege, in a namespace of users where we are ourselves."""
    try:
        _call("unshare", _NEW_MOUNTS)
    except OSError:
        user, group = os.getuid(), os.getgid()
        _call("unshare", _NEW_USER | _NEW_MOUNTS)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def _copy(source: Path, target: Path, added: Mapping[tuple[str, ...], str]) -> None:
    """Make `target` show what `source` holds, with folders added at relative paths."""
    on_the_way = {path[0] for path in added}
    entries = {entry.name for entry in os.scandir(source)} if source.is_dir() else set()
    for name in sorted(entries | on_the_way):
        below = {path[1:]: folder for path, folder in added.items() if path[0] == name}
        if () in below:
            _bind(Path(below[()]), target / name)
        elif below:
            (target / name).mkdir()
            _copy(source / name, target / name, below)
        else:
            _bind(source / name, target / name)


def _bind(source: Path, target: Path) -> None:
    kind = source.lstat().st_mode
    if stat.S_ISLNK(kind):
        target.symlink_to(os.readlink(source))
        return
    if stat.S_ISDIR(kind):
        target.mkdir()
    else:
        target.touch()
    _call("mount", os.fsencode(source), os.fsencode(target), None, _BIND | _RECURSIVE, None)


def _call(function: str, *arguments: object) -> None:
    if getattr(_LIBC, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main()
