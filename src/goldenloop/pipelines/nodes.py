"""What a run's tree is made of in memory, and what the book has of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import msgspec

from goldenloop.core.json import Json, JsonObject
from goldenloop.core.phases import RunState
from goldenloop.pipelines.plan import Layout
from goldenloop.pipelines.values import Values
from goldenloop.standards.pipeline_ir import Component, Task


class Kind(StrEnum):
    """What a task of a run is."""

    STEP = "step"  # a container to run
    IMPORTER = "importer"  # an artifact to import
    SCOPE = "scope"  # a nested pipeline, a branch, what an exit handler guards
    LOOP = "loop"
    ROUND = "round"  # one round of a loop

    @property
    def is_leaf(self) -> bool:
        """Whether there is something to do for it, apart from what it holds."""
        return self in (Kind.STEP, Kind.IMPORTER)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What the book has about a task. `scope` is the path of what it stands in, `index` the number of a round."""

    id: str
    run_id: str
    path: str
    scope: str
    kind: Kind
    component: str
    index: int | None = None
    state: RunState = RunState.PENDING
    attempt: int = 0  # attempts that have failed
    forgiven: int = 0  # those of them that do not count, because somebody asked for a retry
    not_before_us: int | None = None
    inputs: Values = Values()
    outputs: Values = Values()
    error: str | None = None


class Book(Protocol):
    """Where a run's changes are noted, all of one turn or none, and read again."""

    def now_us(self) -> int:
        """The time that changes are noted with."""
        ...

    def add(self, entry: Entry) -> None:
        """Note a task that is new."""
        ...

    def change(self, identity: str, changes: Mapping[str, Json]) -> None:
        """Note new values of a task's fields."""
        ...

    def entries(self, run_id: str, scope: str) -> list[Entry]:
        """The tasks that stand in a scope; of a loop the rounds that have not ended."""
        ...

    def begun_rounds(self, run_id: str, loop: str) -> tuple[int, bool]:
        """How many rounds of a loop have begun, and whether one of them failed."""
        ...

    def round_outputs(self, run_id: str, loop: str) -> Iterable[Values]:
        """What the rounds of a loop gave, in the order of its items."""
        ...

    def artifact_facts(self, ids: Iterable[str]) -> dict[str, JsonObject]:
        """What conditions may ask of artifacts, by id."""
        ...


@dataclass(eq=False, slots=True)
class Node:
    """A task that is known in memory. `stands_in` is None for a round, which has a loop instead."""

    id: str
    path: str
    kind: Kind
    task: Task
    component: Component
    stands_in: Frame | None = None
    loop: Node | None = None
    state: RunState = RunState.PENDING
    attempt: int = 0
    forgiven: int = 0
    not_before_us: int | None = None
    outputs: Values = field(default_factory=Values)
    error: str | None = None
    waiting: int = 0  # how many of those it waits for have not ended
    blocked: bool = False  # one of those did not succeed
    inside: Frame | Rounds | None = None


@dataclass(eq=False, slots=True)
class Frame:
    """A scope that is open: its inputs, and its tasks by name. The root has no owner."""

    path: str
    layout: Layout
    inputs: Values
    owner: Node | None = None
    nodes: dict[str, Node] = field(default_factory=dict)
    open: int = 0
    failed: bool = False
    error: str | None = None


@dataclass(eq=False, slots=True)
class Rounds:
    """A loop that is open: its items, and how many rounds have begun and are going on."""

    inputs: Values
    items: list[Json]
    begun: int = 0
    open: int = 0
    queued: bool = False  # it stands in the line of loops that may begin a round
    failed: bool = False
    error: str | None = None


def kind_of(task: Task, component: Component) -> Kind:
    """What a task is, by what it uses."""
    if task.loop is not None:
        return Kind.LOOP
    if component.scope is not None:
        return Kind.SCOPE
    return Kind.IMPORTER if component.importer is not None else Kind.STEP


def node_of(
    entry: Entry, task: Task, component: Component, *, stands_in: Frame | None = None, loop: Node | None = None
) -> Node:
    """The task of an entry."""
    return Node(
        entry.id,
        entry.path,
        entry.kind,
        task,
        component,
        stands_in,
        loop,
        entry.state,
        entry.attempt,
        entry.forgiven,
        entry.not_before_us,
        entry.outputs,
        entry.error,
    )
