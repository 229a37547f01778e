"""The supervisor: owns the listening sockets and the children, starts again what dies, and decides nothing else.

The sockets are bound here and inherited, so a connection that comes while a child is being replaced waits instead of being refused.
Children do not outlive the supervisor, whatever ends it: two control processes on one home would both write.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from goldenloop.control.home import Home
from goldenloop.core.errors import ConflictError

_BACK_OFF_SECONDS = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)  # before the n-th start in a row; the last one is kept
_STEADY_SECONDS = 10.0  # a child that lived so long starts its count anew
_GRACE_SECONDS = 15.0  # to end by itself when asked
_BACKLOG = 1_024
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)  # looked up before any fork


@dataclass(slots=True)
class Child:
    """A process that shall run."""

    name: str
    command: list[str]
    descriptors: tuple[int, ...]
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    on_end: Callable[[int], None] = lambda _pid: None  # called with the id of a process that has ended
    orphaned_by: signal.Signals = signal.SIGKILL  # what it gets when the supervisor is gone without having ended it
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    failures: int = 0
    not_before: float = 0.0

    def start(self) -> None:
        supervisor, orphaned_by = os.getpid(), int(self.orphaned_by)

        def die_with_supervisor() -> None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, orphaned_by, 0, 0, 0)
            if os.getppid() != supervisor:  # it died before the line above
                os._exit(1)

        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=self.descriptors,
                env={**os.environ, **self.environment},
                start_new_session=True,
                preexec_fn=die_with_supervisor,  # the supervisor has one thread, so this is safe
            )
        self.started_at = time.monotonic()

    def has_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None


def bind(host: str, port: int, flag: str) -> socket.socket:
    """A listening socket that children inherit. Raises ConflictError where the port is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConflictError(
            f"port {port} cannot be used: {error.strerror}",
            where=flag,
            mend=f"Give another one, or {flag} 0 for any that is free.",
        ) from error
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted connections inherit it
    listener.listen(_BACKLOG)
    listener.set_inheritable(True)
    return listener


class Supervisor:
    """Keeps children running until it is told to stop."""

    def __init__(self, home: Home, children: list[Child]) -> None:
        self._home = home
        self._children = children
        self._stopping = False

    def run(self) -> None:
        """Start the children and mind them; returns when all have ended after SIGTERM or SIGINT."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        for child in self._children:
            child.start()
        while not self._stopping:
            self._mind()
            time.sleep(0.05)
        self._end()

    def _mind(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.process is not None and child.has_ended():
                if now - child.started_at > _STEADY_SECONDS:
                    child.failures = 0
                pause = _BACK_OFF_SECONDS[min(child.failures, len(_BACK_OFF_SECONDS) - 1)]
                child.failures += 1
                child.not_before = now + pause
                self._note(f"{child.name} ended with {child.process.returncode}; it starts again in {pause:g} s")
                child.on_end(child.process.pid)
                child.process = None
            if child.process is None and now >= child.not_before:
                child.start()

    def _end(self) -> None:
        """Control first, so that nothing new is decided; then the workers, which finish what they have."""
        for child in self._children:
            process = child.process
            if process is None:
                continue
            process.terminate()
            try:
                process.wait(timeout=_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                self._note(f"{child.name} did not end in {_GRACE_SECONDS:g} s and is killed")
                process.kill()
                process.wait()

    def _stop(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def _note(self, text: str) -> None:
        with open(self._home.logs / "supervisor.log", "a") as log:
            log.write(json.dumps({"at": time.time(), "text": text}) + "\n")


def python_module(name: str, *arguments: str) -> list[str]:
    """The command that runs a module of ours."""
    return [sys.executable, "-m", name, *arguments]
