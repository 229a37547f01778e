"""The process from which steps are forked: an interpreter that has already imported what steps import, so that one
costs milliseconds.

It speaks JSON lines over the socket whose number is its first argument: in come `start` and `cancel`, out go `ready`,
`started` and `ended`. It runs no threads and imports nothing that starts one, because a fork copies only the thread
that forks. When the socket closes, its owner is gone: it ends every step and itself.

Each child gets its own process group, working folder and limits, and dies with this process. Its output comes through a
pipe, so that the log can be cut at its limit without disturbing the step.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import logging
import os
import resource
import runpy
import select
import selectors
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NoReturn

import msgspec

from goldenloop.pipelines.executor import Limits, Outcome, StepRequest, StepResult
from goldenloop.pipelines.python_step import PythonStep, match_python_step

# What steps commonly import. The order is that of cost; what is not installed is left out.
PREIMPORTED = (
    "kfp.dsl.executor_main",
    "numpy",
    "pandas",
    "pyarrow.parquet",
    "joblib",
    "sklearn.pipeline",
    "sklearn.compose",
    "sklearn.preprocessing",
    "sklearn.impute",
    "sklearn.dummy",
    "sklearn.linear_model",
    "sklearn.ensemble",
    "sklearn.metrics",
)
_GRACE_SECONDS = 2.0  # between asking a step to end and ending it
_PIECE = 1 << 16
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class Start(msgspec.Struct, frozen=True, tag="start"):
    request: StepRequest


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    id: str


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    seconds: float


class Started(msgspec.Struct, frozen=True, tag="started"):
    id: str
    pid: int


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    result: StepResult


ToZygote = Start | Cancel
FromZygote = Ready | Started | Ended

_decoder: msgspec.json.Decoder[ToZygote] = msgspec.json.Decoder(ToZygote)


class _Log:
    """A step's log file, cut at its limit."""

    def __init__(self, path: str, limit: int) -> None:
        self._file: BinaryIO = open(path, "ab", buffering=0)  # noqa: SIM115 - it lives as long as the step
        self._left = max(0, limit - self._file.tell())
        self._limit = limit
        self._dropped = 0

    def write(self, piece: bytes) -> None:
        kept = piece[: self._left]
        self._left -= len(kept)
        self._dropped += len(piece) - len(kept)
        if kept:
            with contextlib.suppress(OSError):  # a full disk does not end the step
                self._file.write(kept)

    def close(self) -> None:
        if self._dropped:
            with contextlib.suppress(OSError):
                note = f"\n[the log was cut at {self._limit} bytes; {self._dropped} bytes are not kept]\n"
                self._file.write(note.encode())
        self._file.close()


class _Child:
    """A running step, as the zygote sees it."""

    def __init__(self, request: StepRequest, pid: int, output: int, log: _Log) -> None:
        self.request = request
        self.pid = pid
        self.output = output
        self.log = log
        self.descriptor = os.pidfd_open(pid)
        self.deadline = time.monotonic() + request.limits.seconds
        self.kill_at: float | None = None  # when a step that was asked to end is ended
        self.ended_as: Outcome | None = None
        self.memory_kills = _memory_kills()


class Zygote:
    """The loop: take requests, fork, pump output, reap, report."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._incoming = bytearray()
        self._children: dict[str, _Child] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(connection, selectors.EVENT_READ, None)

    def run(self) -> None:
        """Serve until the owner is gone; then end every step."""
        try:
            while self._turn():
                pass
        finally:
            for child in self._children.values():
                _kill_group(child.pid, signal.SIGKILL)

    def send(self, message: FromZygote) -> None:
        """Tell the owner something."""
        self._connection.sendall(msgspec.json.encode(message) + b"\n")

    def _turn(self) -> bool:
        for key, _ in self._selector.select(self._patience()):
            if key.data is None:
                if not self._receive():
                    return False
                continue
            child: _Child = key.data
            if child.request.id not in self._children:
                continue  # it was reaped a moment ago, and its descriptors are closed
            if key.fd == child.output:
                self._pump(child)
            else:
                self._reap(child)
        now = time.monotonic()
        for child in list(self._children.values()):
            self._mind_time(child, now)
        return True

    def _patience(self) -> float | None:
        moments = [child.kill_at or child.deadline for child in self._children.values()]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _mind_time(self, child: _Child, now: float) -> None:
        if child.kill_at is not None:
            if now >= child.kill_at:
                _kill_group(child.pid, signal.SIGKILL)
                child.kill_at = now + _GRACE_SECONDS
        elif now >= child.deadline:
            self._end(child, Outcome.TIMED_OUT)

    def _receive(self) -> bool:
        try:
            piece = self._connection.recv(_PIECE)
        except ConnectionError:
            return False
        if not piece:
            return False
        self._incoming += piece
        while (end := self._incoming.find(b"\n")) >= 0:
            line = bytes(self._incoming[:end])
            del self._incoming[: end + 1]
            message = _decoder.decode(line)
            if isinstance(message, Start):
                self._start(message.request)
            elif (child := self._children.get(message.id)) is not None:
                self._end(child, Outcome.CANCELED)
        return True

    def _end(self, child: _Child, outcome: Outcome) -> None:
        if child.ended_as is None:
            child.ended_as = outcome
            child.kill_at = time.monotonic() + _GRACE_SECONDS
            _kill_group(child.pid, signal.SIGTERM)

    def _start(self, request: StepRequest) -> None:
        try:
            log = _Log(request.log, request.limits.log_bytes)
            reading, writing = os.pipe()
            sys.stdout.flush()
            sys.stderr.flush()
            parent = os.getpid()
            pid = os.fork()
        except OSError as error:
            self.send(Ended(StepResult(id=request.id, outcome=Outcome.REFUSED, reason=str(error))))
            return
        if pid == 0:
            os.close(reading)
            self._become_step(request, writing, parent)
        os.close(writing)
        with contextlib.suppress(OSError):  # the child does it too; whoever comes first
            os.setpgid(pid, pid)
        os.set_blocking(reading, False)
        child = _Child(request, pid, reading, log)
        self._children[request.id] = child
        self._selector.register(reading, selectors.EVENT_READ, child)
        self._selector.register(child.descriptor, selectors.EVENT_READ, child)
        self.send(Started(request.id, pid))

    def _pump(self, child: _Child) -> None:
        try:
            piece = os.read(child.output, _PIECE)
        except BlockingIOError:
            return
        if piece:
            child.log.write(piece)
        else:
            self._selector.unregister(child.output)  # all writers closed it; the end of the process comes on its own

    def _reap(self, child: _Child) -> None:
        _, status, _usage = os.wait4(child.pid, 0)
        _kill_group(child.pid, signal.SIGKILL)  # whatever it left behind
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(child.output, _PIECE):
                child.log.write(piece)
        with contextlib.suppress(KeyError):
            self._selector.unregister(child.output)
        self._selector.unregister(child.descriptor)
        os.close(child.output)
        os.close(child.descriptor)
        child.log.close()
        del self._children[child.request.id]
        self.send(Ended(_result(child, status)))

    def _become_step(self, request: StepRequest, writing: int, parent: int) -> NoReturn:
        """In the child: never returns to the loop, whatever happens."""
        code = 1
        try:
            self._selector.close()
            self._connection.close()
            for other in self._children.values():
                os.close(other.output)
                os.close(other.descriptor)
            os.setpgid(0, 0)
            _die_with(parent)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.dup2(writing, 1)
            os.dup2(writing, 2)
            os.closerange(3, max(nothing, writing) + 1)
            os.chdir(request.folder)
            _limit(request.limits)
            os.environ.update(request.environment)
            os.environ["TMPDIR"] = request.folder
            step = match_python_step(request.command)
            if step is not None:
                code = _run_python(step, request)
            elif request.command[:2] == (sys.executable, "-m"):
                code = _run_module((*request.command[2:], *request.args))
            else:
                _execute(request)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)


def _result(child: _Child, status: int) -> StepResult:
    identity = child.request.id
    if child.ended_as is not None:
        reason = f"{child.request.limits.seconds:g} s" if child.ended_as is Outcome.TIMED_OUT else ""
        return StepResult(id=identity, outcome=child.ended_as, reason=reason)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        starved = number == signal.SIGKILL and _memory_kills() > child.memory_kills
        return StepResult(id=identity, outcome=Outcome.SIGNALED, code=number, out_of_memory=starved)
    return StepResult(id=identity, outcome=Outcome.EXITED, code=os.waitstatus_to_exitcode(status))


def _execute(request: StepRequest) -> NoReturn:
    words = (*request.command, *request.args)
    if not words:
        print("the step has no command: an image's own entry point cannot be run here", file=sys.stderr)
        os._exit(127)
    os.environ.pop("_KFP_RUNTIME", None)
    try:
        os.execvp(words[0], words)
    except OSError as error:
        print(f"{words[0]}: {error.strerror}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def _run_python(step: PythonStep, request: StepRequest) -> int:
    """Do what the template does, in this process; return the exit code."""
    program = Path(request.folder) / "ephemeral_component.py"
    program.write_text(step.source)
    sys.argv = ["executor_main", "--component_module_path", str(program), *request.args]
    return _run_in_process(lambda: importlib.import_module("kfp.dsl.executor_main").executor_main())


def _run_module(words: tuple[str, ...]) -> int:
    """Do what `python -m MODULE` does, in this process, where most of what it imports is there already."""
    sys.argv = list(words)
    os.environ.pop("_KFP_RUNTIME", None)
    return _run_in_process(lambda: runpy.run_module(words[0], run_name="__main__", alter_sys=True))


def _run_in_process(program: Callable[[], object]) -> int:
    """Run a program as an interpreter of its own would: fresh streams, its exit code, its threads awaited."""
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    logging.root.handlers.clear()
    code = 0
    try:
        program()
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
        if isinstance(ending.code, str):
            print(ending.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    return code


def _limit(limits: Limits) -> None:
    bounds = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, limits.processor_seconds),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
    ]
    if limits.memory_bytes is not None:
        bounds.append((resource.RLIMIT_AS, limits.memory_bytes))
    for kind, bound in bounds:
        _, hard = resource.getrlimit(kind)
        allowed = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(kind, (allowed, allowed))


def _die_with(parent: int) -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def _kill_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _memory_kills() -> int:
    """How often the kernel has killed for memory: in our control group where it says so, on the machine otherwise."""
    for path in ("/sys/fs/cgroup/memory.events", "/proc/vmstat"):
        try:
            lines = Path(path).read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


def main() -> None:
    """Run on the socket whose descriptor is the first argument; the others name modules to import before."""
    began = time.monotonic()
    connection = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, who then closes the socket
    for name in sys.argv[2:]:
        if _owner_is_gone(connection):
            return
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    sys.argv = sys.argv[:1]
    gc.collect()
    gc.freeze()
    zygote = Zygote(connection)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the owner is gone; `run` has ended the steps
        zygote.send(Ready(time.monotonic() - began))
        zygote.run()


def _owner_is_gone(connection: socket.socket) -> bool:
    readable, _, _ = select.select([connection], [], [], 0)
    return bool(readable) and connection.recv(1, socket.MSG_PEEK) == b""


if __name__ == "__main__":
    main()
