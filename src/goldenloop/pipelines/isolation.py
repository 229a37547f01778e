"""How the command of a container step is run on one machine: in its container where podman or docker works, else on this
machine's PATH, in a sandbox where bubblewrap works.

As a program (FILE) it finds out what works here, which may take seconds, and writes the answer to the file. It also
removes the containers of executors that died without being able to.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

from goldenloop.core.ids import digest_text
from goldenloop.pipelines.executor import StepRequest
from goldenloop.pipelines.step_process import STEP_VARIABLE

_PROBE_SECONDS = 10.0
_RUNTIMES = ("podman", "docker")
_OWNER = "goldenloop.owner"  # a container's label: the process that it must not outlive
_PLAIN_PYTHON = re.compile(
    rf"(?:docker\.io/)?(?:library/)?python:{sys.version_info[0]}\.{sys.version_info[1]}(?:\.\d+)?"
    r"(?:-(?:slim|bullseye|bookworm|trixie|slim-bullseye|slim-bookworm|slim-trixie))?"
)


class Isolation(msgspec.Struct, frozen=True, kw_only=True):
    """The programs that work here, by their paths."""

    runtime: str | None = None  # podman or docker
    bubblewrap: str | None = None


def may_be_there() -> bool:
    """Whether there is any program that would have to be tried; cheap."""
    return any(shutil.which(name) for name in (*_RUNTIMES, "bwrap"))


def image_note(image: str, *, why: str) -> str:
    """What is said where a step does not run in its image; nothing where the image is the Python that we are.

    >>> image_note("busybox:1", why="the command runs on this machine")
    'the image busybox:1 is not used: the command runs on this machine'
    """
    return "" if _PLAIN_PYTHON.fullmatch(image) else f"the image {image} is not used: {why}"


def container_name(step: str) -> str:
    """The name of a step's container."""
    return f"goldenloop-{digest_text(step)[:20]}"


def in_container(runtime: str, request: StepRequest, *, readable: tuple[Path, ...]) -> tuple[str, ...]:
    """The command that runs a step in its image: its folder is writable, what steps may read is there to be read, both
    at their own paths. Values of variables are taken from the environment, where no list of processes shows them.
    """
    name = Path(runtime).name
    words = [
        runtime,
        "run",
        "--rm",
        "--init",
        "--name",
        container_name(request.id),
        "--label",
        f"{_OWNER}={os.getpid()}",
    ]
    words += ["--network", "host", "--workdir", request.folder, "--volume", f"{request.folder}:{request.folder}"]
    words += [word for path in readable if path.exists() for word in ("--volume", f"{path}:{path}:ro")]
    words += ["--userns", "keep-id"] if name == "podman" else ["--user", f"{os.getuid()}:{os.getgid()}"]
    words += [word for variable in (*request.environment, "TMPDIR", STEP_VARIABLE) for word in ("--env", variable)]
    if request.resources.processors is not None:
        words += ["--cpus", f"{request.resources.processors:g}"]
    memory = request.resources.memory_bytes or request.limits.memory_bytes
    if memory is not None:
        words += ["--memory", str(memory)]
    assert request.image is not None
    if request.command:
        return (*words, "--entrypoint", request.command[0], request.image, *request.command[1:], *request.args)
    return (*words, request.image, *request.args)


def in_sandbox(bubblewrap: str, request: StepRequest, *, readable: tuple[Path, ...]) -> tuple[str, ...]:
    """The words before a step's command that run it with everything read-only but its own folder, which is its home, and a /tmp of its
    own.
    """
    words = [bubblewrap, "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--ro-bind", "/", "/"]
    words += ["--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]
    words += [word for path in readable if path.exists() for word in ("--ro-bind", str(path), str(path))]
    words += ["--bind", request.folder, request.folder, "--chdir", request.folder]
    return (*words, "--setenv", "HOME", request.folder, "--")


def find() -> Isolation:
    """Try what is on the PATH, each for a bounded time."""
    runtime = next(
        (found for name in _RUNTIMES if (found := shutil.which(name)) and _works(found, "info")),
        None,
    )
    bubblewrap = shutil.which("bwrap")
    if bubblewrap is not None and not _works(
        *(bubblewrap, "--unshare-pid", "--unshare-ipc", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"),
        *("--tmpfs", "/tmp", "--", "true"),
    ):
        bubblewrap = None
    return Isolation(runtime=runtime, bubblewrap=bubblewrap)


def _works(*words: str) -> bool:
    try:
        done = subprocess.run(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=_PROBE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _remove_left(runtime: str) -> None:
    """Remove the containers whose owner is gone."""
    listed = subprocess.run(
        [runtime, "ps", "--filter", f"label={_OWNER}", "--format", f'{{{{.Names}}}} {{{{.Label "{_OWNER}"}}}}'],
        capture_output=True,
        text=True,
        timeout=_PROBE_SECONDS,
        check=False,
    )
    for line in listed.stdout.splitlines():
        name, _, owner = line.partition(" ")
        if owner.isdecimal() and not Path(f"/proc/{owner}").exists():
            print(f"removing {name}, which process {owner} left behind")
            subprocess.run([runtime, "rm", "--force", name], timeout=_PROBE_SECONDS, check=False)


def main() -> None:
    """See the module."""
    target = Path(sys.argv[1])
    found = find()
    if found.runtime is not None:
        _remove_left(found.runtime)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.write_bytes(msgspec.json.encode(found))
    partial.replace(target)


if __name__ == "__main__":
    main()
