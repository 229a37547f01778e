"""Walking the graph along its events: from some artifacts or executions upstream, downstream, or both ways.

A hop leads from artifacts to executions or back. A query reads the events of all that the hop before
reached, and of some hops more where the way is narrow; its cost is that of what it finds, whatever else is in the graph. Who passes the
filter of an ending is not walked through.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from enum import IntEnum
from functools import cache
from typing import Final, TypeAlias

import msgspec
from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Select,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY

from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.lineage.graph.listing import LARGEST_PAGE, node_ids
from goldenloop.lineage.graph.records import INPUTS, OUTPUTS, Event, Kind
from goldenloop.store.database import Transaction
from goldenloop.store.tables import graph_events

MOST_HOPS: Final = 100
MOST_STARTS: Final = LARGEST_PAGE + 1  # nodes that a walk begins at; others that pass the filter are left out
MOST_NODES: Final = 100_000  # nodes that one walk may reach
MOST_EVENTS: Final = 1_000_000
AHEAD: Final = 50  # hops that one query looks ahead
NARROW: Final = 8  # nodes from which it does; where many lead on, more than is needed might come
_PIECE: Final = 1_000  # ids that one query names
_COLUMNS = (
    graph_events.c.id,
    graph_events.c.artifact_id,
    graph_events.c.execution_id,
    graph_events.c.type,
    graph_events.c.milliseconds,
    graph_events.c.path,
)
# The node that a hop goes from, and the event: its id, both ends, type, time, path.
_Row: TypeAlias = tuple[int, int, int, int, int, int, list[int | str] | None]


class Direction(IntEnum):
    """Where a walk goes. Not to say is both ways."""

    UNSPECIFIED = 0
    UPSTREAM = 1
    DOWNSTREAM = 2
    BOTH = 3


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """Where a walk ends: at nodes that pass the filter, which belong to what is found or do not."""

    filter_query: str
    included: bool = False


class Walk(msgspec.Struct, frozen=True, kw_only=True):
    """From where, how far and which way."""

    start: Kind
    filter_query: str
    hops: int = MOST_HOPS
    direction: Direction = Direction.UNSPECIFIED
    endings: dict[Kind, Ending] = msgspec.field(default_factory=dict)


class Walked(msgspec.Struct, frozen=True, kw_only=True):
    """What was reached."""

    artifacts: list[int]
    executions: list[int]
    events: list[Event]


def walk(transaction: Transaction, asked: Walk) -> Walked:
    """Walk. Raises InvalidSpecError, also for a walk that reaches too much, NotFoundError where no node passes the first filter."""
    if not asked.filter_query:
        raise InvalidSpecError(
            "Cannot list starting nodes if filter_query is unspecified",
            where="starting_nodes",
            mend="Say where to begin: filter_query: \"uri = '…'\".",
        )
    if asked.hops < 0:
        raise InvalidSpecError(
            f"max_num_hops cannot be negative: {asked.hops}", where="max_num_hops", mend=f"Give 0 to {MOST_HOPS}."
        )
    starts = node_ids(transaction, asked.start, asked.filter_query, most=MOST_STARTS)
    if not starts:
        raise NotFoundError("Cannot find qualified nodes to start the traversal", where="starting_nodes")
    return _Walker(transaction, asked).run(starts)


class _Walker:
    def __init__(self, transaction: Transaction, asked: Walk) -> None:
        self._transaction = transaction
        self._asked = asked
        self._reached: dict[Kind, dict[int, None]] = {Kind.ARTIFACT: {}, Kind.EXECUTION: {}}  # in their order
        self._ends: dict[Kind, dict[int, None]] = {Kind.ARTIFACT: {}, Kind.EXECUTION: {}}
        self._events: dict[int, Event] = {}  # by the id of the row
        self._known: dict[int, list[_Row]] = {}  # the events that hops from a node go along

    def run(self, starts: list[int]) -> Walked:
        side = self._asked.start
        frontier = self._enter(side, starts)
        for _ in range(min(self._asked.hops, MOST_HOPS)):
            if not frontier:
                break
            frontier = self._hop(side, frontier)
            side = _other(side)
        artifacts, executions = (self._found(kind) for kind in (Kind.ARTIFACT, Kind.EXECUTION))
        return Walked(artifacts=artifacts, executions=executions, events=list(self._events.values()))

    def _found(self, kind: Kind) -> list[int]:
        ending = self._asked.endings.get(kind)
        return [*self._reached[kind], *(self._ends[kind] if ending is not None and ending.included else ())]

    def _hop(self, side: Kind, frontier: list[int]) -> list[int]:
        """Go from nodes of one side to those of the other; return what is new and not an ending."""
        rows = self._rows(frontier)
        far = _other(side)
        new = self._enter(far, dict.fromkeys(row[3] if side is Kind.ARTIFACT else row[2] for row in rows))
        ending = self._asked.endings.get(far)
        for _, identity, artifact_id, execution_id, event_type, milliseconds, path in rows:
            end = execution_id if side is Kind.ARTIFACT else artifact_id
            if end in self._ends[far] and not (ending is not None and ending.included):
                continue
            self._events[identity] = Event(
                artifact_id=artifact_id,
                execution_id=execution_id,
                type=event_type,
                milliseconds=milliseconds,
                path=None if path is None else tuple(path),
            )
        return new

    def _enter(self, kind: Kind, ids: Iterable[int]) -> list[int]:
        """Note what is reached for the first time; return what is walked on from."""
        reached, ends = self._reached[kind], self._ends[kind]
        new = [identity for identity in ids if identity not in reached and identity not in ends]
        ending = self._asked.endings.get(kind)
        if ending is not None and new:
            at_end = _passing(self._transaction, kind, ending.filter_query, new)
            ends |= dict.fromkeys(identity for identity in new if identity in at_end)
            new = [identity for identity in new if identity not in at_end]
        reached |= dict.fromkeys(new)
        if sum(map(len, self._reached.values())) > MOST_NODES:
            raise _too_much()
        return new

    def _rows(self, ids: list[int]) -> Iterable[_Row]:
        """The events that hops from these nodes go along."""
        unknown = [identity for identity in ids if identity not in self._known]
        if unknown:
            self._look(unknown)
        return [row for identity in ids for row in self._known[identity]]

    def _look(self, ids: list[int]) -> None:
        """Read the events of nodes, and of what comes next where few nodes lead on and all of it will be walked."""
        ahead = AHEAD if len(ids) <= NARROW and not self._asked.endings else 0
        statement = _statement(self._asked.direction, self._transaction.dialect.name)
        rows: list[_Row] = list(self._transaction.execute(statement, {"ids": ids, "ahead": ahead}))
        if len(rows) > MOST_EVENTS:
            raise _too_much()
        found: defaultdict[int, list[_Row]] = defaultdict(list)
        for row in rows:
            found[row[0]].append(row)
        self._known |= {identity: [] for identity in ids} | found


def _too_much() -> InvalidSpecError:
    return InvalidSpecError(
        f"the walk reaches more than {MOST_NODES} nodes or {MOST_EVENTS} events",
        where="max_num_hops",
        mend="Go fewer hops, or set endings.",
    )


def _other(kind: Kind) -> Kind:
    return Kind.EXECUTION if kind is Kind.ARTIFACT else Kind.ARTIFACT


def _types(side: Kind, direction: Direction) -> Collection[int]:
    """The events along which a hop goes from this side: an artifact's makers are upstream, an execution's inputs are."""
    if direction not in (Direction.UPSTREAM, Direction.DOWNSTREAM):
        return INPUTS | OUTPUTS
    return OUTPUTS if (side is Kind.ARTIFACT) == (direction is Direction.UPSTREAM) else INPUTS


def _passing(transaction: Transaction, kind: Kind, filter_query: str, ids: list[int]) -> set[int]:
    """Those of the ids that pass a filter."""
    found: set[int] = set()
    for begin in range(0, len(ids), _PIECE):
        piece = ids[begin : begin + _PIECE]
        found |= set(node_ids(transaction, kind, filter_query, most=len(piece), among=piece))
    return found


@cache
def _statement(direction: Direction, dialect: str) -> Select[int, int, int, int, int, int, list[int | str] | None]:
    """The events that hops from these nodes go along, and those that so many further hops would go along.

    The ids are one parameter, so that the statement is made once. Artifacts and executions draw ids from one sequence: an id says
    which of them it is.
    """
    if dialect == "postgresql":
        start = select(func.unnest(bindparam("ids", type_=ARRAY(BigInteger))).label("node"), literal(0).label("depth"))
    else:
        listed = func.json_each(bindparam("ids", type_=JSON)).table_valued("value")
        start = select(cast(listed.c.value, BigInteger).label("node"), literal(0).label("depth"))
    near = start.cte("near", recursive=True)
    far_end = case(
        (graph_events.c.artifact_id == near.c.node, graph_events.c.execution_id), else_=graph_events.c.artifact_id
    )
    further = (
        select(far_end, near.c.depth + 1)
        .join_from(near, graph_events, _leads(near.c.node, direction))
        .where(near.c.depth < bindparam("ahead", type_=BigInteger))
    )
    near = near.union(further)
    nodes = select(near.c.node).distinct().subquery()
    return (
        select(nodes.c.node, *_COLUMNS)
        .join_from(nodes, graph_events, _leads(nodes.c.node, direction))
        .limit(MOST_EVENTS + 1)
    )


def _leads(node: ColumnElement[int], direction: Direction) -> ColumnElement[bool]:
    """Whether a hop from the node goes along an event."""
    return or_(
        *(
            and_(column == node, graph_events.c.type.in_(sorted(_types(side, direction))))
            for side, column in (
                (Kind.ARTIFACT, graph_events.c.artifact_id),
                (Kind.EXECUTION, graph_events.c.execution_id),
            )
        )
    )
