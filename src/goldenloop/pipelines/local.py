"""Steps on this machine: forked from a pre-imported interpreter (`goldenloop.pipelines.zygote`), each in a process
group of its own.

If that interpreter dies, its steps are reported as LOST and another one is started with the next request.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time

import msgspec

from goldenloop.core.errors import UnavailableError
from goldenloop.pipelines.executor import Outcome, StepRequest, StepResult
from goldenloop.pipelines.zygote import PREIMPORTED, Cancel, Ended, FromZygote, Ready, Start, Started, ToZygote

_PIECE = 1 << 16
_CLOSE_SECONDS = 10.0
# Steps run side by side, so each computes with one thread; a step may set these for itself before it imports.
_SINGLE_THREADED = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}
_decoder: msgspec.json.Decoder[FromZygote] = msgspec.json.Decoder(FromZygote)


class LocalExecutor:
    """See the module and `Executor`. Starting it returns at once; the interpreter warms up beside.

    `preimported` names the modules that it imports before it takes steps.
    """

    def __init__(self, *, preimported: tuple[str, ...] = PREIMPORTED) -> None:
        self._preimported = preimported
        self._waking, self._woken = socket.socketpair()
        self._waking.setblocking(False)
        self._woken.setblocking(False)
        self._running: dict[str, int | None] = {}  # the process group of each step, None until it is known
        self._results: list[StepResult] = []
        self._closed = False
        self.starts = 0  # how often an interpreter was started
        self._start_zygote()

    def submit(self, request: StepRequest) -> None:
        if self._closed:
            raise UnavailableError("the executor is closed")
        self._running[request.id] = None
        self._send(Start(request))

    def poll(self) -> list[StepResult]:
        self._receive()
        results, self._results = self._results, []
        return results

    def wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._results:
            left = max(0.0, deadline - time.monotonic())
            readable, _, _ = select.select([self._connection, self._woken], [], [], left)
            if self._woken in readable:
                with contextlib.suppress(BlockingIOError):
                    self._woken.recv(_PIECE)
                return
            if not readable:
                return
            self._receive()  # it may have said that a step has started, which is nobody's concern

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            self._waking.send(b"w")

    def cancel(self, step: str) -> None:
        if step in self._running:
            self._send(Cancel(step))

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._connection.close()  # which ends it and its steps
        try:
            self._zygote.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._zygote.kill()
            self._zygote.wait()
        self._kill_groups()
        self._waking.close()
        self._woken.close()

    def _start_zygote(self) -> None:
        self._connection, other = socket.socketpair()
        self._connection.setblocking(False)
        self._incoming = bytearray()
        self.starts += 1
        environment = {**os.environ, **_SINGLE_THREADED, "_KFP_RUNTIME": "true", "PYTHONUNBUFFERED": "1"}
        with other:
            self._zygote = subprocess.Popen(
                [sys.executable, "-m", "goldenloop.pipelines.zygote", str(other.fileno()), *self._preimported],
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )

    def _send(self, message: ToZygote) -> None:
        data = memoryview(msgspec.json.encode(message) + b"\n")
        while data:
            try:
                data = data[self._connection.send(data) :]
            except BlockingIOError:
                # It may be blocked on us: take what it says while we wait until it takes what we say.
                select.select([self._connection], [self._connection], [])
                self._receive()
            except OSError:
                self._receive()
                self._recover()
                return

    def _receive(self) -> None:
        while True:
            try:
                piece = self._connection.recv(_PIECE)
            except BlockingIOError:
                return
            except OSError:
                piece = b""
            if not piece:
                self._recover()
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

    def _recover(self) -> None:
        """The interpreter is gone: report its steps, end what they left behind, start another."""
        if self._closed:
            return
        self._connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._zygote.wait(1.0)
        if self._zygote.poll() is None:
            self._zygote.kill()
            self._zygote.wait()
        self._kill_groups()
        self._results += [StepResult(id=step, outcome=Outcome.LOST) for step in self._running]
        self._running.clear()
        self._start_zygote()

    def _kill_groups(self) -> None:
        for group in self._running.values():
            if group is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, signal.SIGKILL)
