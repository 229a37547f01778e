"""A zygote as its owner sees it: a process, the socket to it, and the steps that run from it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess

import msgspec

from goldenloop.pipelines.executor import Outcome, StepResult
from goldenloop.pipelines.step_process import thread_variables
from goldenloop.pipelines.zygote_protocol import Cancel, Ended, FromZygote, Ready, Start, Started, ToZygote

_PIECE = 1 << 16
_CLOSE_SECONDS = 10.0
_decoder: msgspec.json.Decoder[FromZygote] = msgspec.json.Decoder(FromZygote)


class Interpreter:
    """Starting it returns at once; the interpreter warms up beside and takes its steps when it is ready.

    When it dies, `is_dead` becomes true and its steps are among its results as LOST.
    """

    def __init__(self, python: str, *, preimported: tuple[str, ...]) -> None:
        self.is_dead = False
        self._running: dict[str, int | None] = {}  # the process group of each step, None until it is known
        self._results: list[StepResult] = []
        self._incoming = bytearray()
        self._connection, other = socket.socketpair()
        self._connection.setblocking(False)
        folder = os.path.dirname(python)
        environment = {
            **os.environ,
            **thread_variables(1),
            "_KFP_RUNTIME": "true",
            "PYTHONUNBUFFERED": "1",
            "PATH": os.pathsep.join(filter(None, (folder, os.environ.get("PATH")))),
            "VIRTUAL_ENV": os.path.dirname(folder),
        }
        with other:
            self._process = subprocess.Popen(
                [python, "-m", "goldenloop.pipelines.zygote", str(other.fileno()), *preimported],
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_idle(self) -> bool:
        return not self._running

    def fileno(self) -> int:
        """What to wait on for news from it."""
        return self._connection.fileno()

    def start(self, message: Start) -> None:
        """Let it fork a step."""
        self._running[message.id] = None
        self._send(message)

    def cancel(self, step: str) -> None:
        """Let it end a step, if that runs here."""
        if step in self._running:
            self._send(Cancel(step))

    def results(self) -> list[StepResult]:
        """What has ended since the last call."""
        self._receive()
        results, self._results = self._results, []
        return results

    def close(self) -> None:
        """End it and its steps."""
        self._connection.close()
        try:
            self._process.wait(0 if self.is_dead else _CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._kill_groups()

    def _send(self, message: ToZygote) -> None:
        data = memoryview(msgspec.json.encode(message) + b"\n")
        while data and not self.is_dead:
            try:
                data = data[self._connection.send(data) :]
            except BlockingIOError:
                # It may be blocked on us: take what it says while we wait until it takes what we say.
                select.select([self._connection], [self._connection], [])
                self._receive()
            except OSError:
                self._receive()
                self._lose()

    def _receive(self) -> None:
        while not self.is_dead:
            try:
                piece = self._connection.recv(_PIECE)
            except BlockingIOError:
                return
            except OSError:
                piece = b""
            if not piece:
                self._lose()
                return
            self._incoming += piece
            while (end := self._incoming.find(b"\n")) >= 0:
                line = bytes(self._incoming[:end])
                del self._incoming[: end + 1]
                self._take(_decoder.decode(line))

    def _take(self, message: FromZygote) -> None:
        match message:
            case Started(step, pid):
                self._running[step] = pid
            case Ended(result):
                if self._running.pop(result.id, 0) != 0:
                    self._results.append(result)
            case Ready():
                pass

    def _lose(self) -> None:
        """It is gone: end what its steps left behind, and report them."""
        if self.is_dead:
            return
        self.is_dead = True
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        self.close()
        self._results += [StepResult(id=step, outcome=Outcome.LOST) for step in self._running]
        self._running.clear()

    def _kill_groups(self) -> None:
        for group in self._running.values():
            if group is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, signal.SIGKILL)
