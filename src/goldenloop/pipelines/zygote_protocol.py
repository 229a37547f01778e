"""What an executor and its zygote say to each other: JSON lines over a socket."""

from __future__ import annotations

import msgspec

from goldenloop.pipelines.executor import Limits, StepResult


class PythonProgram(msgspec.Struct, frozen=True, kw_only=True, tag="python"):
    """A lightweight KFP component: its source, and the arguments of KFP's step runtime."""

    source: str
    args: tuple[str, ...]


class ModuleProgram(msgspec.Struct, frozen=True, kw_only=True, tag="module"):
    """What `python -m` would run: a module and its arguments."""

    words: tuple[str, ...]


class CommandProgram(msgspec.Struct, frozen=True, kw_only=True, tag="command"):
    """A command line, found on the PATH that the step sees. `behind`: the words of a program that runs it, a sandbox."""

    words: tuple[str, ...]
    behind: tuple[str, ...] = ()


class Start(msgspec.Struct, frozen=True, kw_only=True, tag="start"):
    """A step to fork. `heading` goes into its log before its own output."""

    id: str
    program: PythonProgram | ModuleProgram | CommandProgram
    environment: dict[str, str] = {}
    threads: int = 1  # of numeric libraries
    folder: str
    log: str
    limits: Limits = Limits()
    heading: str = ""


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
