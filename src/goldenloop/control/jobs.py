"""Jobs: work that control wants done outside of its own process, each in a sandboxed step process.

A job has a key, a kind, and a request; its result is a record. It may be asked for again and again: after a crash it is simply done
once more, because a job changes nothing but its own folder. What it found counts when control has written it down.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import msgspec

from goldenloop.core.errors import GoldenloopError, InvalidSpecError, RefusedError, UnavailableError
from goldenloop.core.ids import digest_text, uuid7
from goldenloop.pipelines.executor import Executor, Limits, Outcome, StepRequest, StepResult, log_tail

_LOSSES_FORGIVEN = 3  # how often a job may lose its process before that is its result
_SECONDS = 1_800.0
_PREFIX = "job-"


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An error that travels from a job's process."""

    kind: str
    what: str
    where: str = ""
    mend: str = ""

    def error(self) -> GoldenloopError:
        known: dict[str, type[GoldenloopError]] = {
            kind.__name__: kind for kind in (InvalidSpecError, RefusedError, UnavailableError)
        }
        return known.get(self.kind, GoldenloopError)(self.what, where=self.where, mend=self.mend)


class LocalJobs:
    """Jobs through an executor. One thread calls it."""

    def __init__(self, executor: Executor, folder: Path) -> None:
        self._executor = executor
        self._folder = folder
        self._waiting: dict[str, str] = {}  # key → step id
        self._requests: dict[str, StepRequest] = {}
        self._ended: dict[str, StepResult] = {}
        self._losses: dict[str, int] = {}

    def result(self, key: str, kind: str, request: msgspec.Struct) -> msgspec.Raw | GoldenloopError | None:
        """See `goldenloop.control.world.Jobs`."""
        self._collect()
        if key not in self._waiting:
            self._start(key, kind, request)
            return None
        ended = self._ended.get(self._waiting[key])
        if ended is None:
            return None
        # A job is our own work and changes nothing but its folder: one that was killed is done again, as one whose process is gone.
        if ended.outcome in (Outcome.LOST, Outcome.SIGNALED) and self._losses.get(key, 0) < _LOSSES_FORGIVEN:
            self._losses[key] = self._losses.get(key, 0) + 1
            self._start(key, kind, request)
            return None
        return self._read(key, ended)

    def forget(self, key: str) -> None:
        step = self._waiting.pop(key, None)
        if step is not None:
            self._ended.pop(step, None)
            self._requests.pop(step, None)
        self._losses.pop(key, None)
        shutil.rmtree(self.folder(key), ignore_errors=True)
        # What whoever asked put beside the folder, such as the rows to train on.
        for beside in self._folder.glob(f"{self.folder(key).name}.*"):
            beside.unlink(missing_ok=True)

    def folder(self, key: str) -> Path:
        return self._folder / digest_text(key)[:16]

    def _start(self, key: str, kind: str, request: msgspec.Struct) -> None:
        folder = self.folder(key)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "request.json").write_bytes(msgspec.json.encode(request))
        step = StepRequest(
            id=_PREFIX + uuid7(),
            command=(sys.executable, "-m", "goldenloop.control.work.main", kind, str(folder)),
            folder=str(folder),
            log=str(folder / "log.txt"),
            limits=Limits(seconds=_SECONDS),
        )
        self._waiting[key] = step.id
        self._requests[step.id] = step
        self._executor.submit(step)

    def _collect(self) -> None:
        for result in self._executor.poll():
            self._ended[result.id] = result

    def _read(self, key: str, ended: StepResult) -> msgspec.Raw | GoldenloopError:
        folder = self.folder(key)
        failure = folder / "failure.json"
        if failure.exists():
            return msgspec.json.decode(failure.read_bytes(), type=Failure).error()
        response = folder / "response.json"
        if ended.succeeded and response.exists():
            return msgspec.Raw(response.read_bytes())
        tail = log_tail(folder / "log.txt", lines=1)
        return GoldenloopError(
            f"the work {ended.describe()}", where=key, mend=f"Its last words: {tail}" if tail else ""
        )


class SharedExecutor:
    """One executor used from two sides: the engine's steps and control's jobs, told apart by their ids."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._results: dict[bool, list[StepResult]] = {True: [], False: []}

    def side(self, *, jobs: bool) -> Executor:
        """The executor as one side sees it."""
        return _Side(self, jobs=jobs)

    @property
    def whole(self) -> Executor:
        return self._executor

    def poll(self, *, jobs: bool) -> list[StepResult]:
        for result in self._executor.poll():
            self._results[result.id.startswith(_PREFIX)].append(result)
        mine, self._results[jobs] = self._results[jobs], []
        return mine


class _Side:
    def __init__(self, shared: SharedExecutor, *, jobs: bool) -> None:
        self._shared = shared
        self._jobs = jobs

    def submit(self, request: StepRequest) -> None:
        self._shared.whole.submit(request)

    def poll(self) -> list[StepResult]:
        return self._shared.poll(jobs=self._jobs)

    def wait(self, seconds: float) -> None:
        self._shared.whole.wait(seconds)

    def wake(self) -> None:
        self._shared.whole.wake()

    def cancel(self, step: str) -> None:
        self._shared.whole.cancel(step)

    def close(self) -> None:
        """Closing is done once, by whoever made the executor."""
