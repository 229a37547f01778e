"""Steps on this machine: forked from pre-imported interpreters (`goldenloop.pipelines.zygote`), each in a process group
of its own.

There is one interpreter of this installation, and one for each environment of packages (`environments`) that steps have
needed lately. What has to be done before a step can start (building its environment, finding out whether containers
work) is a step of the executor's own, so that nothing here waits for it, and it ends when we do.

If an interpreter dies, its steps are reported as LOST and another one is started with the next request.

Bounds: `most_steps` requests that have not ended, `_MOST_INTERPRETERS` environments with an interpreter; the one that has
been idle longest is ended for another.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from goldenloop.core.errors import UnavailableError
from goldenloop.pipelines.environments import Environment, Environments, PackageSet, wanted
from goldenloop.pipelines.executor import Limits, Outcome, StepRequest, StepResult, log_tail
from goldenloop.pipelines.interpreters import Interpreter
from goldenloop.pipelines.isolation import (
    Isolation,
    container_name,
    image_note,
    in_container,
    in_sandbox,
    may_be_there,
)
from goldenloop.pipelines.python_step import match_python_step
from goldenloop.pipelines.zygote import PREIMPORTED
from goldenloop.pipelines.zygote_protocol import CommandProgram, ModuleProgram, PythonProgram, Start

_PIECE = 1 << 16
_SIGNALED = 128  # an exit code above it, from a shell or a runtime, is that of a signal
_MOST_INTERPRETERS = 4  # beside our own; each has some 100 MB
_BUILD_LIMITS = Limits(seconds=3600.0)
_PROBE_LIMITS = Limits(seconds=60.0)
_OWN = "goldenloop/"  # ids of what the executor does for itself begin with it
_REASON_LINES = 8  # of what pip said, in a result
_SAYS_NOTHING = ("$ ", "WARNING:", "Looking in ")  # lines of it that do not say why it failed


class LocalExecutor:
    """See the module and `Executor`. Starting it returns at once; the interpreter warms up beside.

    `preimported` names the modules that interpreters import before they take steps. `environments` is the folder of
    environments; by default all installations of a user share one. With `isolate`, steps that name an image run in it
    where podman or docker works, else in a sandbox where bubblewrap works; they see the `readable` folders there.
    """

    def __init__(
        self,
        *,
        preimported: tuple[str, ...] = PREIMPORTED,
        environments: Path | None = None,
        isolate: bool = False,
        readable: tuple[Path, ...] = (),
        most_steps: int = 1_000,
    ) -> None:
        self._preimported = preimported
        self._environments = Environments(environments or _shared_folder())
        self._isolation = None if isolate and may_be_there() else Isolation()  # none: nobody knows yet
        self._readable = readable
        self._most_steps = most_steps
        self._waking, self._woken = socket.socketpair()
        self._waking.setblocking(False)
        self._woken.setblocking(False)
        self._requests: dict[str, StepRequest] = {}  # all that have not ended
        self._notes: dict[str, tuple[str, ...]] = {}
        self._containers: dict[str, str] = {}  # the runtime of the steps that run in containers
        self._wrapped: set[str] = set()  # the steps that run behind a program that reports a signal as an exit code
        self._waiting: dict[str, list[StepRequest]] = {}  # by the id of our own step that they wait for
        self._deferred: list[StepRequest] = []  # no interpreter is free for their environment
        self._results: list[StepResult] = []
        self._closed = False
        self.starts = 0  # how often our own interpreter was started
        self._zygote = self._start_zygote()
        self._others: dict[str, tuple[Interpreter, Environment]] = {}  # by key; the one used last comes last

    def submit(self, request: StepRequest) -> None:
        if self._closed:
            raise UnavailableError("the executor is closed")
        if len(self._requests) >= self._most_steps:
            raise UnavailableError(
                f"{self._most_steps} steps are under way", where="executor", mend="Wait until some have ended."
            )
        self._requests[request.id] = request
        self._place(request)

    def poll(self) -> list[StepResult]:
        self._collect()
        results, self._results = self._results, []
        return results

    def wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        self._collect()
        while not self._results:
            left = max(0.0, deadline - time.monotonic())
            sources: list[Interpreter | socket.socket] = [*self._interpreters(), self._woken]
            readable, _, _ = select.select(sources, [], [], left)
            if self._woken in readable:
                with contextlib.suppress(BlockingIOError):
                    self._woken.recv(_PIECE)
                return
            if not readable:
                return
            self._collect()  # it may have said that a step has started, which is nobody's concern

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            self._waking.send(b"w")

    def cancel(self, step: str) -> None:
        request = self._requests.get(step)
        if request is None:
            return
        for waiting in (*self._waiting.values(), self._deferred):
            if request in waiting:
                waiting.remove(request)
                self._finish(StepResult(id=step, outcome=Outcome.CANCELED))
                self.wake()
        for interpreter in self._interpreters():
            interpreter.cancel(step)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for interpreter in self._interpreters():
            interpreter.close()
        for _, environment in self._others.values():
            environment.give_back()
        self._waking.close()
        self._woken.close()

    # Where a step runs

    def _place(self, request: StepRequest) -> None:
        """Start a step, or what must be there before it."""
        needs = wanted(request.packages)
        if needs is not None:
            self._place_in_environment(request, needs)
        elif self._may_be_isolated(request) and self._isolation is None:
            self._find_isolation(request)
        else:
            self._start(request, self._zygote)

    def _place_in_environment(self, request: StepRequest, needs: PackageSet) -> None:
        found = self._others.pop(needs.key, None)
        if found is None:
            if len(self._others) >= _MOST_INTERPRETERS and not self._end_an_idle_one():
                self._deferred.append(request)
                return
            environment = self._environments.use(needs)
            if environment is None:
                self._build(request, needs)
                return
            found = Interpreter(environment.python, preimported=self._preimported), environment
        self._others[needs.key] = found
        self._start(request, found[0])

    def _end_an_idle_one(self) -> bool:
        for key, (interpreter, environment) in self._others.items():
            if interpreter.is_idle:
                interpreter.close()
                environment.give_back()
                del self._others[key]
                return True
        return False

    def _start(self, request: StepRequest, interpreter: Interpreter) -> None:
        program, notes = self._program(request)
        self._notes[request.id] = notes
        resources = request.resources
        memory = [size for size in (request.limits.memory_bytes, resources.memory_bytes) if size is not None]
        interpreter.start(
            Start(
                id=request.id,
                program=program,
                environment=request.environment,
                threads=max(1, int(resources.processors or 1)),
                folder=request.folder,
                log=request.log,
                limits=msgspec.structs.replace(request.limits, memory_bytes=min(memory, default=None)),
                heading="\n".join(f"[goldenloop: {note}]" for note in notes),
            )
        )

    def _program(self, request: StepRequest) -> tuple[PythonProgram | ModuleProgram | CommandProgram, tuple[str, ...]]:
        """What runs, and what of the request is not honoured."""
        notes: list[str] = []
        if request.resources.accelerators:
            asked = f"{request.resources.accelerators} × {request.resources.accelerator_type or 'accelerator'}"
            notes.append(f"{asked} is not reserved: the step sees what this machine has")
        component = match_python_step(request.command)
        if component is not None:
            if request.image:
                notes.append(image_note(request.image, why=f"Python {_python_version()} of this machine runs the step"))
            return PythonProgram(source=component.source, args=request.args), tuple(filter(None, notes))
        words = (*request.command, *request.args)
        if words[:2] == (sys.executable, "-m"):
            return ModuleProgram(words=words[2:]), tuple(notes)
        isolation = self._isolation if request.image else None
        if isolation is not None and isolation.runtime is not None:
            self._containers[request.id] = isolation.runtime
            self._wrapped.add(request.id)
            return CommandProgram(words=in_container(isolation.runtime, request, readable=self._readable)), tuple(notes)
        if request.image:
            where = "in a sandbox on this machine" if isolation and isolation.bubblewrap else "on this machine"
            notes.append(image_note(request.image, why=f"the command runs {where}"))
        behind: tuple[str, ...] = ()
        if isolation is not None and isolation.bubblewrap is not None:
            self._wrapped.add(request.id)
            behind = in_sandbox(isolation.bubblewrap, request, readable=self._readable)
        return CommandProgram(words=words, behind=behind), tuple(filter(None, notes))

    def _may_be_isolated(self, request: StepRequest) -> bool:
        return request.image is not None and match_python_step(request.command) is None

    # What is done before

    def _build(self, request: StepRequest, needs: PackageSet) -> None:
        place = self._environments.place(needs)
        (place / "build.log").unlink(missing_ok=True)
        words = ("goldenloop.pipelines.environment_build", str(place), msgspec.json.encode(needs).decode())
        _note(request, f"making an environment with {needs.describe()}; see {place / 'build.log'}")
        self._prepare(request, needs.key, words, folder=place, log=place / "build.log", limits=_BUILD_LIMITS)

    def _find_isolation(self, request: StepRequest) -> None:
        folder = self._environments.folder
        folder.mkdir(parents=True, exist_ok=True)
        words = ("goldenloop.pipelines.isolation", str(folder / "isolation.json"))
        self._prepare(request, "isolation", words, folder=folder, log=folder / "isolation.log", limits=_PROBE_LIMITS)

    def _prepare(
        self, request: StepRequest, name: str, words: tuple[str, ...], *, folder: Path, log: Path, limits: Limits
    ) -> None:
        step = _OWN + name
        if step in self._waiting:
            self._waiting[step].append(request)
            return
        self._waiting[step] = [request]
        self._zygote.start(
            Start(id=step, program=ModuleProgram(words=words), folder=str(folder), log=str(log), limits=limits)
        )

    def _prepared(self, result: StepResult) -> None:
        """Something of our own has ended: go on with those who waited for it."""
        waiting = self._waiting.pop(result.id, [])
        if result.id == f"{_OWN}isolation":
            self._isolation = self._read_isolation(result)
        elif not result.succeeded and result.outcome is not Outcome.LOST:
            log = self._environments.folder / result.id.removeprefix(_OWN) / "build.log"
            lines = [line for line in log_tail(log).splitlines() if not line.startswith(_SAYS_NOTHING)]
            said = "\n".join(lines[-_REASON_LINES:])
            for request in waiting:
                reason = (
                    f"its packages ({' '.join(request.packages)}) could not be installed: {said or result.describe()}"
                )
                _note(request, reason)
                self._finish(StepResult(id=request.id, outcome=Outcome.REFUSED, reason=reason))
            return
        for request in waiting:
            self._place(request)

    def _read_isolation(self, result: StepResult) -> Isolation:
        if not result.succeeded:
            return Isolation()
        try:
            return msgspec.json.decode((self._environments.folder / "isolation.json").read_bytes(), type=Isolation)
        except (OSError, msgspec.DecodeError):
            return Isolation()

    # What has ended

    def _collect(self) -> None:
        if self._closed:
            return
        ended = [result for interpreter in self._interpreters() for result in interpreter.results()]
        if self._zygote.is_dead:
            self._zygote = self._start_zygote()
        for key in [key for key, (interpreter, _) in self._others.items() if interpreter.is_dead]:
            self._others.pop(key)[1].give_back()
        for result in ended:
            if result.id.startswith(_OWN):
                self._prepared(result)
            elif result.id in self._requests:
                self._finish(result)
        if self._deferred:
            deferred, self._deferred = self._deferred, []
            for request in deferred:
                self._place(request)

    def _finish(self, result: StepResult) -> None:
        del self._requests[result.id]
        runtime = self._containers.pop(result.id, None)
        if runtime is not None and result.outcome is not Outcome.EXITED:
            self._remove_container(runtime, container_name(result.id))
        if result.id in self._wrapped:
            self._wrapped.discard(result.id)
            if result.outcome is Outcome.EXITED and result.code > _SIGNALED:
                result = msgspec.structs.replace(result, outcome=Outcome.SIGNALED, code=result.code - _SIGNALED)
        notes = self._notes.pop(result.id, ())
        self._results.append(msgspec.structs.replace(result, notes=notes) if notes else result)

    def _remove_container(self, runtime: str, name: str) -> None:
        """The end of the runtime's command does not always take the container along."""
        folder = self._environments.folder
        self._zygote.start(
            Start(
                id=f"{_OWN}remove-{name}",
                program=CommandProgram(words=(runtime, "rm", "--force", name)),
                folder=str(folder),
                log=str(folder / "isolation.log"),
                limits=_PROBE_LIMITS,
            )
        )

    def _interpreters(self) -> Iterator[Interpreter]:
        yield self._zygote
        yield from [interpreter for interpreter, _ in self._others.values()]

    def _start_zygote(self) -> Interpreter:
        self.starts += 1
        return Interpreter(sys.executable, preimported=self._preimported)


def _note(request: StepRequest, text: str) -> None:
    with contextlib.suppress(OSError), open(request.log, "a") as log:
        log.write(f"[goldenloop: {text}]\n")


def _shared_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "goldenloop" / "environments"


def _python_version() -> str:
    return ".".join(map(str, sys.version_info[:2]))
