"""What the engine asks of whoever runs steps, so that `local` can be followed by `ray` and `kubernetes`.

Rules every executor keeps (`goldenloop.testing.executors` checks them):

- each submitted request ends in exactly one result, whatever happens to it, unless the executor is closed first;
- `submit` and `poll` do not wait for a step, nor for its packages; `wait` waits until there may be something to poll;
- when the process that owns the executor dies, however it dies, its steps die with it;
- a step that reaches one of its limits ends, with all its processes, and its result names the limit;
- a step's output goes to its log while it runs; of one that is too long the beginning and the end are kept, and the log
  says how much is not;
- what an executor does not honour of a request (an image, accelerators) is the first thing in the log, and is in the
  result's notes.
"""

from __future__ import annotations

import signal
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import msgspec

MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a step may use. A limit that is reached ends the step; none means: what the machine has."""

    seconds: float | None = 24 * 3600.0  # wall time
    processor_seconds: int | None = None  # CPU time of each of its processes
    memory_bytes: int | None = (
        None  # what all its processes together have of memory to themselves, without what they share
    )
    file_bytes: int = 64 * GIBIBYTE  # the largest file it may write; a longer write fails
    folder_bytes: int = 64 * GIBIBYTE  # what may lie in its folder, and so the most its outputs can hold
    log_bytes: int = 10 * MEBIBYTE  # what is kept of its output


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What a step asks of a machine. On one machine: processors set how many threads numeric libraries start, memory is
    a limit beside that of `Limits`, and accelerators are the machine's, unreserved, which a note says.
    """

    processors: float | None = None  # the limit, or what is requested where there is none
    memory_bytes: int | None = None
    accelerators: int = 0
    accelerator_type: str = ""


class StepRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at a step. `id` is unique for ever; `folder` exists and is the step's own; the log is appended to.

    `packages`: the words that would follow `pip install`, requirements and options as they are written in the
    specification; `environments.packages_of` reads them from a KFP component's command. What the executor's own
    interpreter satisfies costs nothing; for anything else there is an environment, built once and shared.

    `image`: the container image that the specification names, none where it does not matter.
    """

    id: str
    command: tuple[str, ...]
    args: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    packages: tuple[str, ...] = ()
    image: str | None = None
    resources: Resources = Resources()
    folder: str
    log: str
    limits: Limits = Limits()


class Outcome(StrEnum):
    """How an attempt ended."""

    EXITED = "exited"  # by itself; the exit code says how
    SIGNALED = "signaled"  # by a signal that was not ours
    TIMED_OUT = "timed_out"  # it reached its wall time and was ended
    EXCEEDED = "exceeded"  # it reached another of its limits and was ended; the reason says which
    CANCELED = "canceled"  # it was asked to be ended
    LOST = "lost"  # its process is gone and nobody knows how it ended; it may be started again
    REFUSED = "refused"  # it could not be started


class StepResult(msgspec.Struct, frozen=True, kw_only=True):
    """The end of one attempt: for EXITED the exit code, for SIGNALED the signal's number, for REFUSED, TIMED_OUT and
    EXCEEDED the reason. `out_of_memory`: it got no more memory, and that is why it ended.
    """

    id: str
    outcome: Outcome
    code: int = 0
    out_of_memory: bool = False
    reason: str = ""
    notes: tuple[str, ...] = ()  # what was asked for and not honoured

    @property
    def succeeded(self) -> bool:
        """Whether it ended by itself with exit code 0."""
        return self.outcome is Outcome.EXITED and self.code == 0

    def describe(self) -> str:
        """Say in words how it ended.

        >>> StepResult(id="s", outcome=Outcome.SIGNALED, code=9, out_of_memory=True).describe()
        'was killed by SIGKILL: the machine was out of memory'
        """
        match self.outcome:
            case Outcome.EXITED:
                by = f"ended with exit code {self.code}"
                return f"{by}: it was out of memory" if self.out_of_memory else by
            case Outcome.SIGNALED:
                by = f"was killed by {signal_name(self.code)}"
                return f"{by}: the machine was out of memory" if self.out_of_memory else by
            case Outcome.TIMED_OUT:
                return f"was ended at its time limit{f' ({self.reason})' if self.reason else ''}"
            case Outcome.EXCEEDED:
                return f"was ended: {self.reason}"
            case Outcome.CANCELED:
                return "was cancelled"
            case Outcome.LOST:
                return "lost its process"
            case Outcome.REFUSED:
                return f"could not be started: {self.reason}"


def signal_name(number: int) -> str:
    """Return a signal's name.

    >>> signal_name(11)
    'SIGSEGV'
    """
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Executor(Protocol):
    """Runs steps; see the rules above. One thread uses it, except `wake`, which any thread may call."""

    def submit(self, request: StepRequest) -> None:
        """Take a step; it may start at once or later."""
        ...

    def poll(self) -> list[StepResult]:
        """Return the results that have come since the last call."""
        ...

    def wait(self, seconds: float) -> None:
        """Return when there may be something to poll, when `wake` is called, or when the time is over."""
        ...

    def wake(self) -> None:
        """End a `wait` that goes on, or the next one."""
        ...

    def cancel(self, step: str) -> None:
        """End a step; its result says CANCELED unless it had ended before. Unknown ids are ignored."""
        ...

    def close(self) -> None:
        """End every step and give back what is held."""
        ...


_KFP_INPUT = (
    "Got executor_input:\n{"  # what KFP's runtime prints of the step's inputs, down to the next line that is "}"
)
_TAIL_BYTES = 1 << 16


def log_tail(path: Path, *, lines: int = 20, characters: int = 3_000) -> str:
    """Return the last lines of a log that the step itself wrote, or nothing where there is none."""
    try:
        with open(path, "rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - _TAIL_BYTES))
            text = stream.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    if _KFP_INPUT in text:
        text = text.rpartition(_KFP_INPUT)[2].partition("\n}\n")[2]
    return "\n".join(text.strip().splitlines()[-lines:])[-characters:]
