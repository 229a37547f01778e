"""One replica of a version: its socket, its process while there is one, and what the host knows of it.

    waiting ──▶ starting ──▶ ready ──▶ ending ──▶ idle          asked to end: nobody needs it, or it is to be replaced
       ▲            │          │          │         │
       └────────────┴── pausing ◀─────────┘         └──▶ starting on the next connection

The socket is there from the beginning to the removal of the version, so a connection that comes while no process runs waits; it is also
what starts the process. After a failure there is a pause, which grows with failures in a row. Who connects during a long pause, or after
the model could not be loaded, is told why.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from goldenloop.serving.predictors.control import CLOSED, LoadFailed, Ready, ToHost
from goldenloop.serving.predictors.isolation import Isolation
from goldenloop.serving.predictors.launch import Running, launch
from goldenloop.serving.predictors.limits import end_marked, resident_bytes
from goldenloop.serving.predictors.messages import Refused, plain_frame
from goldenloop.serving.predictors.needs import Need
from goldenloop.serving.predictors.places import End, EndKind, Place, State, Status, reachable

PAUSES = (0.05, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds after the n-th failure in a row; the last one is kept
STEADY_SECONDS = 30.0  # a process that was ready for so long starts its count anew
LONG_PAUSE_SECONDS = 2.0  # who connects during a longer one is not left waiting
GRACE_SECONDS = 10.0  # to finish what has begun when asked to end
TIME_SLACK_SECONDS = 0.25  # after the time limit of a call before its process is killed
CLOSED_SECONDS = 1.0  # a process that lives on so long without its connection to the host is ended
DEAF_SECONDS = 5.0  # a process that is not busy and leaves connections waiting so long has lost its socket
_BACKLOG = 128
_MEMORY_TOLERANCE = 64 << 20  # bytes over the limit: the interpreter's own
_KNOWN_TO_LOAD: tuple[State, ...] = ("ready", "ending", "idle")
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # nothing that a model's fault leads to
_CLOSED = "the model's code closed the process's own connections"
_decoder = msgspec.json.Decoder[ToHost](ToHost)


class Replica:
    """See above. `selector` calls the functions that are registered with it; everything runs in one thread."""

    def __init__(
        self,
        place: Place,
        need: Need,
        *,
        selector: selectors.BaseSelector,
        logs: Path,
        isolation: Isolation,
        load_seconds: float,
        refusal: Callable[[Need], str],
    ) -> None:
        self.place = place
        self.need = need
        self._selector = selector
        self._logs = logs
        self._isolation = isolation
        self._load_seconds = load_seconds
        self._refusal = refusal  # why this version must not be loaded; empty where it may be
        before = place.read_status()
        self.state: State = "idle" if before is not None and before.state in _KNOWN_TO_LOAD else "waiting"
        self.is_needed = True
        self._failures = 0
        self._reason = ""
        self._last_end: End | None = None
        self._not_before = 0.0
        self._pause = 0.0
        self._since = time.monotonic()
        self._deaf_since: float | None = None
        self._running: Running | None = None
        self._listener = self._listen()
        self._watches_listener = False
        self._watch_listener(True)
        self._tell()

    # what the host asks

    @property
    def is_running(self) -> bool:
        """Whether there is a process."""
        return self._running is not None

    @property
    def connections(self) -> int:
        """How many workers are connected."""
        return self._running.page.connections if self._running is not None else 0

    @property
    def is_permanent(self) -> bool:
        """Whether it shall run also when nobody asks."""
        return self.is_needed and self.place.replica < self.need.min_replicas

    def change(self, need: Need) -> None:
        """Be needed otherwise; a process with other limits than those is replaced."""
        before, self.need, self.is_needed = self.need, need, True
        if (before.memory_bytes, before.threads) != (need.memory_bytes, need.threads):
            self.ask_to_end()

    def look(self) -> None:
        """Do what time makes due: start, end, kill."""
        now = time.monotonic()
        if self._running is None:
            self._look_to_start(now)
        else:
            self._look_at(self._running, now)

    def ask_to_end(self) -> None:
        """Let the process finish what has begun and end."""
        running = self._running
        if running is not None and self.state != "ending":
            running.kill_at = time.monotonic() + GRACE_SECONDS
            with contextlib.suppress(OSError):
                running.control.send(b"e")
            self._move("ending")

    def close(self) -> None:
        """Kill the process and remove everything."""
        if self._running is not None:
            self._running.expected = ("asked", "it is no longer needed")
            self._kill(self._running)
            self._reap()
        self._watch_listener(False)
        self._listener.close()
        self.place.remove()

    # starting

    def _listen(self) -> socket.socket:
        self.place.socket.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        with reachable(self.place.socket) as path:
            listener.bind(path)
        self.place.socket.chmod(0o600)
        listener.listen(_BACKLOG)
        return listener

    def _watch_listener(self, wanted: bool) -> None:
        if wanted and not self._watches_listener:
            self._selector.register(self._listener, selectors.EVENT_READ, self._someone_connects)
        elif not wanted and self._watches_listener:
            self._selector.unregister(self._listener)
        self._watches_listener = wanted

    def _someone_connects(self) -> None:
        now = time.monotonic()
        if self._running is not None:
            return
        if now >= self._not_before:
            self._start()
        elif self._is_refusing:
            self._refuse()
        else:
            self._watch_listener(False)  # it waits; `look` starts the process when the pause is over

    @property
    def _is_refusing(self) -> bool:
        """Whether who connects during the pause is told why instead of waiting."""
        failed_to_load = self._last_end is not None and self._last_end.kind == "load"
        return failed_to_load or self._pause > LONG_PAUSE_SECONDS

    def _look_to_start(self, now: float) -> None:
        if now < self._not_before:
            return
        # The first replica of a new version is started once, so that it is known whether it loads.
        is_new = self.state == "waiting" and self.place.replica == 0 and self._failures == 0 and self.is_needed
        if self.is_permanent or is_new or (self.state == "pausing" and self._someone_waits()):
            self._start()
        else:
            if self.state == "pausing":
                self._move("waiting")
            self._watch_listener(True)

    def _someone_waits(self) -> bool:
        with selectors.PollSelector() as one:
            one.register(self._listener, selectors.EVENT_READ)
            return bool(one.select(0))

    def _start(self) -> None:
        if wrong := self._refusal(self.need):
            self._fail(End(instance=0, kind="load", reason=wrong))
            return
        self._watch_listener(False)
        try:
            running = launch(self.place, self.need, self._listener, logs=self._logs, isolation=self._isolation)
        except OSError as error:
            self._fail(End(instance=0, kind="load", reason=f"the process cannot be started: {error.strerror}"))
            return
        running.kill_at = time.monotonic() + self._load_seconds
        self._running = running
        self._selector.register(running.control, selectors.EVENT_READ, self._hear)
        self._selector.register(running.output.descriptor, selectors.EVENT_READ, self._pump)
        self._selector.register(running.ended, selectors.EVENT_READ, self._reap)
        self._move("starting")

    # watching

    def _pump(self) -> None:
        running = self._running
        assert running is not None
        if not running.output.pump():
            self._selector.unregister(running.output.descriptor)

    def _hear(self) -> None:
        """The process says something, or has closed the connection."""
        running = self._running
        assert running is not None
        try:
            piece = running.control.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._selector.unregister(running.control)
            running.deaf_at = time.monotonic()  # most likely it ends; if not, `look` ends it
            return
        running.heard += piece
        while (end := running.heard.find(b"\n")) >= 0:
            line = bytes(running.heard[:end])
            del running.heard[: end + 1]
            self._take(running, line)

    def _take(self, running: Running, line: bytes) -> None:
        try:
            message = _decoder.decode(line)
        except (msgspec.DecodeError, ValueError):
            return  # foreign code wrote into the descriptor
        if isinstance(message, Ready):
            running.kill_at = None
            self._since = time.monotonic()
            if self.state == "starting":
                self._move("ready")
        elif isinstance(message, LoadFailed):
            running.expected = ("load", message.reason)
        elif self.state == "starting":
            running.expected = ("load", f"out of memory: it may use {_size(self.need.memory_bytes)}")
        else:
            running.expected = ("memory", f"out of memory: it may use {_size(self.need.memory_bytes)}")

    def _look_at(self, running: Running, now: float) -> None:
        held = resident_bytes(running.process.pid)
        kill_at_ns = running.page.kill_at_ns
        if held > self.need.memory_bytes + _MEMORY_TOLERANCE:
            reason = f"out of memory: it held {_size(held)} of {_size(self.need.memory_bytes)}"
            self._end_it(running, "memory", reason)
        elif kill_at_ns and time.monotonic_ns() > kill_at_ns + TIME_SLACK_SECONDS * 1e9:
            self._end_it(
                running, "time", "the model did not answer in the time that the call had; its process was ended"
            )
        elif running.kill_at is not None and now > running.kill_at:
            if self.state == "starting":
                self._end_it(running, "load", f"it did not finish loading in {self._load_seconds:g} s")
            else:
                self._end_it(running, "asked", f"it did not end in {GRACE_SECONDS:g} s when asked to")
        elif running.deaf_at is not None and now - running.deaf_at > CLOSED_SECONDS:
            self._end_it(running, "raised", _CLOSED)
        elif self.state == "ready":
            self._look_at_ready(running, now, is_busy=bool(kill_at_ns))

    def _look_at_ready(self, running: Running, now: float, *, is_busy: bool) -> None:
        if self._failures and now - self._since > STEADY_SECONDS:
            self._failures = 0
            self._reason = ""
            self._tell()
        if is_busy or not self._someone_waits():
            self._deaf_since = None
        elif self._deaf_since is None:
            self._deaf_since = now
        elif now - self._deaf_since > DEAF_SECONDS:
            self._end_it(running, "raised", _CLOSED)
            return
        last = max(self._since, running.page.last_work_ns / 1e9)
        if not is_busy and not self.is_permanent and now - last > self.need.idle_seconds:
            self.ask_to_end()

    def _end_it(self, running: Running, kind: EndKind, reason: str) -> None:
        running.expected = running.expected or (kind, reason)
        self._kill(running)

    def _kill(self, running: Running) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(running.process.pid, signal.SIGKILL)

    # ending

    def _reap(self) -> None:
        running = self._running
        assert running is not None
        _, status, usage = os.wait4(running.process.pid, 0)
        running.process.returncode = os.waitstatus_to_exitcode(status)
        self._kill(running)  # whatever it left in its group
        end_marked(running.mark)  # and outside of it
        self._hear_the_rest(running)
        for registered in (running.output.descriptor, running.ended, running.control):
            with contextlib.suppress(KeyError):  # it has ended already
                self._selector.unregister(registered)
        running.output.close()
        running.control.close()
        had_answered = running.page.calls > 0
        running.page.close()
        os.close(running.ended)
        shutil.rmtree(self.place.folder / f"{self.place.name}.tmp", ignore_errors=True)
        self._running = None
        end = self._ending_of(running, status, usage.ru_maxrss << 10)
        if end.kind == "asked":
            self._last_end = end
            self._deaf_since = None
            self._watch_listener(True)
            self._move("idle")
        else:
            self._fail(end, had_answered=had_answered)

    def _hear_the_rest(self, running: Running) -> None:
        with contextlib.suppress(OSError):
            while piece := running.control.recv(1 << 16):
                running.heard += piece
        for line in bytes(running.heard).split(b"\n"):
            self._take(running, line)

    def _ending_of(self, running: Running, status: int, largest: int) -> End:
        if running.expected is not None:
            kind, reason = running.expected
        elif self.state == "ending":
            kind, reason = "asked", "it was asked to end"
        elif os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            kind, reason = "crashed", f"the model's process was ended by signal {number} ({_signal_name(number)})"
            if largest > 0.9 * self.need.memory_bytes:
                kind, reason = "memory", f"out of memory: it held {_size(largest)} of {_size(self.need.memory_bytes)}"
        elif os.WEXITSTATUS(status) == CLOSED:
            kind, reason = "raised", _CLOSED
        else:
            kind, reason = "raised", f"the model's code ended its process with code {os.WEXITSTATUS(status)}"
        is_from_outside = os.WIFSIGNALED(status) and os.WTERMSIG(status) in _FROM_OUTSIDE and running.expected is None
        if self.state == "starting" and kind not in ("asked", "load") and not is_from_outside:
            kind, reason = "load", f"{reason} while it was loading"
        return End(instance=running.instance, kind=kind, reason=reason)

    def _fail(self, end: End, *, had_answered: bool = False) -> None:
        # A model that answers and dies now and then is worth more than one that never comes up.
        longest = PAUSES.index(LONG_PAUSE_SECONDS) if had_answered else len(PAUSES) - 1
        self._pause = PAUSES[min(self._failures, longest)]
        self._failures += 1
        self._last_end = end
        self._reason = end.reason
        self._deaf_since = None
        self._not_before = time.monotonic() + self._pause
        self._move("pausing")
        if self._is_refusing:
            self._refuse()
        self._watch_listener(self._is_refusing)

    def _refuse(self) -> None:
        """Tell everybody who waits why there is no model, and when there may be one."""
        left = max(0.0, self._not_before - time.monotonic())
        refused = plain_frame(Refused(self._reason, left))
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.setblocking(False)
                connection.send(refused)

    def _move(self, state: State) -> None:
        self.state = state
        self._tell()

    def _tell(self) -> None:
        status = Status(
            state=self.state,
            pid=self._running.process.pid if self._running is not None else None,
            failures=self._failures,
            reason=self._reason,
            ended=self._last_end,
        )
        with contextlib.suppress(OSError):  # a full disk: workers go on without it
            self.place.write_status(status)


def _size(count: int) -> str:
    return f"{count / (1 << 20):.0f} MiB"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
