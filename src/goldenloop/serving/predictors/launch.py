"""Starting a predictor process: its command, its environment, and what connects it to the host."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from goldenloop.core.errors import GoldenloopError
from goldenloop.serving.predictors.forms import read_served_form
from goldenloop.serving.predictors.isolation import Isolation, wrapped
from goldenloop.serving.predictors.limits import environment
from goldenloop.serving.predictors.needs import Need
from goldenloop.serving.predictors.output import Output
from goldenloop.serving.predictors.page import Page
from goldenloop.serving.predictors.places import EndKind, Place


@dataclass(slots=True)
class Running:
    """A process, and what connects the host to it."""

    process: subprocess.Popen[bytes]
    instance: int
    page: Page
    control: socket.socket
    output: Output
    ended: int  # a descriptor that is readable when it has ended
    mark: str
    kill_at: float | None = None  # when loading, or ending, has taken too long
    heard: bytearray = field(default_factory=bytearray)
    expected: tuple[EndKind, str] | None = None  # why it ends, where that is known before
    deaf_at: float | None = None  # when it closed its end of the control connection


def launch(place: Place, need: Need, listener: socket.socket, *, logs: Path, isolation: Isolation) -> Running:
    """Start a process that takes its connections from this listening socket. Raises OSError."""
    instance = time.monotonic_ns()
    page = Page.create(place.page)
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(writing, True)
    mark = f"{mark_of(place.folder)}{place.name}/{instance}"
    scratch = _make_scratch(place, need.path)
    command = [
        *(interpreter_of(need.path), "-m", "goldenloop.serving.predictors.process"),
        *("--listen", str(listener.fileno()), "--control", str(theirs.fileno())),
        *("--page", str(place.page), "--instance", str(instance), "--folder", str(need.path)),
        *("--name", need.name.split("/")[1], "--memory", str(need.memory_bytes)),
        *("--threads", str(need.threads)),
        *("--host", "0" if isolation != "none" else str(os.getpid())),
    ]
    try:
        process = subprocess.Popen(
            wrapped(command, isolation, model=need.path, scratch=scratch, page=place.page),
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=writing,
            pass_fds=(listener.fileno(), theirs.fileno()),
            cwd=scratch,
            env={
                **need.environment,
                **environment(os.environ, threads=need.threads, scratch=scratch, mark=mark),
            },
            start_new_session=True,
        )
    except BaseException:
        for each in (ours, page):
            each.close()
        os.close(reading)
        raise
    finally:
        theirs.close()
        os.close(writing)
    ours.setblocking(False)
    log = logs / f"{need.name.replace('/', '.')}-{place.replica}.log"
    output = Output(reading, log)
    return Running(
        process=process,
        instance=instance,
        page=page,
        control=ours,
        output=output,
        ended=os.pidfd_open(process.pid),
        mark=mark,
    )


def mark_of(folder: Path) -> str:
    """What the marks of all processes of a host begin with."""
    return f"{folder}/"


def interpreter_of(folder: Path) -> str:
    """The interpreter that loads the model in a folder: its own, or ours."""
    try:
        return read_served_form(folder).python or sys.executable
    except GoldenloopError:
        return sys.executable  # the process finds the same and says it


def _make_scratch(place: Place, model: Path) -> Path:
    """A folder of the process's own to work in, with links to the model's files: code may open them by their bare names."""
    scratch = place.folder / f"{place.name}.tmp"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700)
    with contextlib.suppress(OSError):
        for entry in model.iterdir():
            (scratch / entry.name).symlink_to(entry)
    return scratch
