"""What the reconcilers act on, in one place: the same reconcilers run on real processes, in a backtest and in a simulation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from goldenloop.control.attesting import Attestor
from goldenloop.control.telling import note
from goldenloop.core.clock import Clock
from goldenloop.core.errors import GoldenloopError
from goldenloop.core.json import JsonObject
from goldenloop.core.routing import RoutingTable
from goldenloop.lineage.timeline import Happening, tell
from goldenloop.monitors.analyst import Analyst
from goldenloop.store.artifacts import Artifacts
from goldenloop.store.database import Database, Transaction


class Runs(Protocol):
    """What moves pipeline runs on (goldenloop.pipelines.engine.Engine)."""

    def advance(self) -> bool:
        """Start what can start, collect what has ended; whether something moved."""
        ...


class Jobs(Protocol):
    """Work on data and models that control has done for it outside of its own process; see goldenloop.control.jobs."""

    def result(self, key: str, kind: str, request: msgspec.Struct) -> msgspec.Raw | GoldenloopError | None:
        """The result of this job, or its error; None while it goes on. The first call starts it."""
        ...

    def forget(self, key: str) -> None:
        """The result is written down; the job's files may go."""
        ...

    def folder(self, key: str) -> Path:
        """Where the job's files are."""
        ...


class Router(Protocol):
    """Brings routing tables to whoever answers requests."""

    def publish(self, table: RoutingTable) -> None:
        """Make this the table in force."""
        ...

    def held(self, namespace: str, service: str) -> tuple[int, int] | None:
        """The first and the last event time of the requests that wait there for control, or None."""
        ...

    def settle(self) -> bool:
        """Return when everything that had arrived is answered and logged; whether that is certain."""
        ...

    def failures(self) -> dict[str, str]:
        """Versions that could not be loaded: `namespace/service/version` to why."""
        ...

    def workers(self) -> int:
        """How many there are that answer requests."""
        ...

    def serving(self, generation: int) -> bool:
        """Whether there is one that answers requests, and all of them do by this table or a later one."""
        ...

    def wanted(self) -> dict[tuple[str, str], bool]:
        """What clients asked for since it was last written down: which service is to be loaded, and which is not."""
        ...

    def written_down(self, wanted: dict[tuple[str, str], bool]) -> None:
        """This is on record; it need not be told again."""
        ...


@dataclass(slots=True)
class World:
    """The places that reconcilers read from and act on."""

    database: Database
    artifacts: Artifacts
    clock: Clock
    runs: Runs
    jobs: Jobs
    analyst: Analyst
    router: Router
    sign: Callable[[Path], None] = lambda _: None  # marks a folder as one that may be unpickled where it is served
    attestor: Attestor | None = None  # signs versions and checks them; a backtest, which serves nobody, has none
    has_people: bool = True  # whether somebody can be asked for approval; a backtest passes what would wait
    # The event time of the row at this place of a service's stream, where the sender said what it will send; else None.
    foresee: Callable[[str, str, int], int | None] = lambda _namespace, _service, _place: None
    lock: threading.RLock = field(
        default_factory=threading.RLock
    )  # decisions by hand and by reconcilers do not interleave


@dataclass(frozen=True, slots=True)
class Storyteller:
    """Writes the timeline of one loop at one event time."""

    transaction: Transaction
    namespace: str
    loop: str
    event_us: int
    now_us: int

    def tell(self, kind: str, text: str, **facts: object) -> None:
        """Add a line, with facts that JSON can carry, and what people are to be told of it."""
        carried: JsonObject = msgspec.to_builtins(facts)
        happening = Happening(
            namespace=self.namespace,
            loop=self.loop,
            kind=kind,
            text=text,
            facts=carried,
            event_us=self.event_us,
            created_us=self.now_us,
        )
        tell(self.transaction, happening)
        note(self.transaction, happening)
