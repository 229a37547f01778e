"""The process from which steps are forked: an interpreter that has already imported what steps import, so that one
costs milliseconds.

It speaks `zygote_protocol` over the socket whose number is its first argument. It runs no threads and imports nothing
that starts one, because a fork copies only the thread that forks. When the socket closes, its owner is gone: it ends
every step and itself.

Each child gets its own process group, working folder and limits, and dies with this process. What a step leaves running
behind comes to this process as to a parent (it is a subreaper), and is ended with the step. A step's output comes
through a pipe, so that the log can be cut at its limit without disturbing the step.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import select
import selectors
import signal
import socket
import sys
import time
from pathlib import Path

import msgspec

from goldenloop.pipelines.executor import Outcome, StepResult
from goldenloop.pipelines.step_log import StepLog
from goldenloop.pipelines.step_process import STEP_VARIABLE, become_step
from goldenloop.pipelines.step_usage import children_of, folder_bytes, memory_of, readable
from goldenloop.pipelines.zygote_protocol import Ended, FromZygote, Ready, Start, Started, ToZygote

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
_MEMORY_LOOK_SECONDS = 0.1
_FOLDER_LOOK_SECONDS = 1.0  # at least; and at most one part in _FOLDER_LOOK_COST of the time goes into looking
_FOLDER_LOOK_COST = 50
_PIECE = 1 << 16
_SWEEPS = 20  # how often what a step left behind is looked for: what is ended may have children of its own
_PR_SET_CHILD_SUBREAPER = 36
_OUT_OF_MEMORY = (b"MemoryError", b"std::bad_alloc", b"Cannot allocate memory", b"java.lang.OutOfMemoryError")

_decoder: msgspec.json.Decoder[ToZygote] = msgspec.json.Decoder(ToZygote)


class _Child:
    """A running step, as the zygote sees it."""

    def __init__(self, start: Start, pid: int, output: int, log: StepLog) -> None:
        now = time.monotonic()
        limits = start.limits
        self.start = start
        self.pid = pid
        self.output = output
        self.log = log
        self.descriptor = os.pidfd_open(pid)
        self.deadline = None if limits.seconds is None else now + limits.seconds
        self.kill_at: float | None = None  # when a step that was asked to end is ended
        self.next_memory_look = None if limits.memory_bytes is None else now + _MEMORY_LOOK_SECONDS
        self.next_folder_look = now + _FOLDER_LOOK_SECONDS
        self.ended_as: Outcome | None = None
        self.reason = ""
        self.out_of_memory = False
        self.memory_kills = _memory_kills()

    def next_moment(self) -> float:
        """When something is to be done about it, on the monotonic clock."""
        if self.kill_at is not None:
            return self.kill_at
        moments = (self.deadline, self.next_memory_look, self.next_folder_look)
        return min(moment for moment in moments if moment is not None)


class Zygote:
    """The loop: take requests, fork, pump output, mind the limits, reap, report."""

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
            self._end_orphans(None)

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
            if child.start.id not in self._children:
                continue  # it was reaped a moment ago, and its descriptors are closed
            if key.fd == child.output:
                self._pump(child)
            else:
                self._reap(child)
        now = time.monotonic()
        for child in list(self._children.values()):
            if now >= child.next_moment():
                self._mind(child, now)
        return True

    def _patience(self) -> float | None:
        moments = [child.next_moment() for child in self._children.values()]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _mind(self, child: _Child, now: float) -> None:
        """Hold a step to its limits."""
        limits = child.start.limits
        if child.kill_at is not None:
            _kill_group(child.pid, signal.SIGKILL)
            child.kill_at = now + _GRACE_SECONDS
            return
        if child.deadline is not None and now >= child.deadline:
            self._end(child, Outcome.TIMED_OUT, f"{limits.seconds:g} s")
            return
        if limits.memory_bytes is not None and child.next_memory_look is not None and now >= child.next_memory_look:
            child.next_memory_look = now + _MEMORY_LOOK_SECONDS
            used = memory_of(child.pid, enough=limits.memory_bytes)
            if used >= limits.memory_bytes:
                reason = f"out of memory: it used {readable(used)}, and its limit is {readable(limits.memory_bytes)}"
                child.out_of_memory = True
                self._end(child, Outcome.EXCEEDED, reason)
                _kill_group(child.pid, signal.SIGKILL)  # it would go on taking
                return
        if now >= child.next_folder_look:
            used = folder_bytes(child.start.folder, enough=limits.folder_bytes + 1)
            pause = max(_FOLDER_LOOK_SECONDS, _FOLDER_LOOK_COST * (time.monotonic() - now))
            child.next_folder_look = time.monotonic() + pause
            if used > limits.folder_bytes:
                self._end(child, Outcome.EXCEEDED, f"there are more than {readable(limits.folder_bytes)} in its folder")

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
                self._start(message)
            elif (child := self._children.get(message.id)) is not None:
                self._end(child, Outcome.CANCELED)
        return True

    def _end(self, child: _Child, outcome: Outcome, reason: str = "") -> None:
        if child.ended_as is None:
            child.ended_as = outcome
            child.reason = reason
            child.kill_at = time.monotonic() + _GRACE_SECONDS
            _kill_group(child.pid, signal.SIGTERM)

    def _start(self, start: Start) -> None:
        try:
            log = StepLog(start.log, start.limits.log_bytes, heading=start.heading)
            reading, writing = os.pipe()
            sys.stdout.flush()
            sys.stderr.flush()
            parent = os.getpid()
            pid = os.fork()
        except OSError as error:
            self.send(Ended(StepResult(id=start.id, outcome=Outcome.REFUSED, reason=str(error))))
            return
        if pid == 0:
            self._let_go()
            os.close(reading)
            become_step(start, output=writing, parent=parent)
        os.close(writing)
        with contextlib.suppress(OSError):  # the child does it too; whoever comes first
            os.setpgid(pid, pid)
        os.set_blocking(reading, False)
        child = _Child(start, pid, reading, log)
        self._children[start.id] = child
        self._selector.register(reading, selectors.EVENT_READ, child)
        self._selector.register(child.descriptor, selectors.EVENT_READ, child)
        self.send(Started(start.id, pid))

    def _let_go(self) -> None:
        """In the child: close what is the zygote's."""
        self._selector.close()
        self._connection.close()
        for other in self._children.values():
            os.close(other.output)
            os.close(other.descriptor)

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
        del self._children[child.start.id]
        self._end_orphans(child)
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(child.output, _PIECE):
                child.log.write(piece)
        with contextlib.suppress(KeyError):
            self._selector.unregister(child.output)
        self._selector.unregister(child.descriptor)
        os.close(child.output)
        os.close(child.descriptor)
        result = _result(child, status)
        child.log.close()
        self.send(Ended(result))

    def _end_orphans(self, of: _Child | None) -> None:
        """End the processes that a step left behind, also those that made a session of their own; none: of all steps."""
        ended: set[int] = set()
        for _ in range(_SWEEPS):
            steps = {child.pid for child in self._children.values()}
            orphans = [pid for pid in children_of(os.getpid()) if pid not in steps]
            found = False
            for pid in orphans:
                if of is not None and not self._is_left_by(pid, of):
                    continue
                found = True
                if pid not in ended:
                    ended.add(pid)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            if not found:
                return
            time.sleep(0.001)

    def _is_left_by(self, pid: int, step: _Child) -> bool:
        """Whether an orphan is the step's, by its group, its environment, or because there is no other step."""
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(pid) == step.pid or not self._children:
                return True
        mark = f"{STEP_VARIABLE}={step.start.id}".encode()
        with contextlib.suppress(OSError):
            return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return False


def _result(child: _Child, status: int) -> StepResult:
    identity = child.start.id
    if child.ended_as is not None:
        return StepResult(id=identity, outcome=child.ended_as, reason=child.reason, out_of_memory=child.out_of_memory)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU:
            reason = f"it reached its limit of CPU time, {child.start.limits.processor_seconds} s"
            return StepResult(id=identity, outcome=Outcome.EXCEEDED, reason=reason)
        if number == signal.SIGXFSZ:
            reason = f"it wrote a file of more than {readable(child.start.limits.file_bytes)}"
            return StepResult(id=identity, outcome=Outcome.EXCEEDED, reason=reason)
        starved = number == signal.SIGKILL and _memory_kills() > child.memory_kills
        return StepResult(id=identity, outcome=Outcome.SIGNALED, code=number, out_of_memory=starved)
    code = os.waitstatus_to_exitcode(status)
    starved = code != 0 and any(child.log.mentions(word) for word in _OUT_OF_MEMORY)
    return StepResult(id=identity, outcome=Outcome.EXITED, code=code, out_of_memory=starved)


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
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for name in sys.argv[2:]:
        if _owner_is_gone(connection):
            return
        with contextlib.suppress(
            Exception
        ):  # also one that is there and cannot be imported: a step that needs it says so
            importlib.import_module(name)
    sys.argv = sys.argv[:1]
    gc.collect()
    gc.freeze()
    zygote = Zygote(connection)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the owner is gone; `run` has ended the steps
        zygote.send(Ready(time.monotonic() - began))
        zygote.run()


def _owner_is_gone(connection: socket.socket) -> bool:
    readable_now, _, _ = select.select([connection], [], [], 0)
    return bool(readable_now) and connection.recv(1, socket.MSG_PEEK) == b""


if __name__ == "__main__":
    main()
