"""What links nodes: events between artifacts and executions, members of contexts, parents of contexts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final, Literal

from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError

from goldenloop.core.errors import InvalidSpecError
from goldenloop.lineage.graph.nodes import present_ids
from goldenloop.lineage.graph.records import MILLISECOND, Event, EventType, ExistsError, Kind, check_text
from goldenloop.store.database import Transaction, insert_ignoring
from goldenloop.store.tables import graph_events, graph_members, graph_nodes, graph_parents

_PIECE: Final = 1_000  # ids that one query names


def put_events(transaction: Transaction, events: Sequence[Event], *, now_us: int, are_known: bool = False) -> None:
    """Add events; `are_known` says that both ends of each are there for certain.

    Raises InvalidSpecError, also for ends that are not there; ExistsError for an event of the same type between the same two.
    """
    if not events:
        return
    for event in events:
        if event.type not in EventType.__members__.values():
            raise InvalidSpecError("No event type is specified", where="type", mend="Give one: INPUT, OUTPUT …")
        for step in event.path or ():
            check_text(step if isinstance(step, str) else None, where="path")
    if not are_known:
        _check_present(transaction, Kind.ARTIFACT, {event.artifact_id for event in events}, where="artifact_id")
        _check_present(transaction, Kind.EXECUTION, {event.execution_id for event in events}, where="execution_id")
    first = (transaction.scalar(select(func.max(graph_events.c.id))) or 0) + 1
    rows = [
        {
            "id": identity,
            "artifact_id": event.artifact_id,
            "execution_id": event.execution_id,
            "type": event.type,
            "milliseconds": now_us // MILLISECOND if event.milliseconds is None else event.milliseconds,
            "path": None if event.path is None else list(event.path),
        }
        for identity, event in enumerate(events, first)
    ]
    try:
        transaction.execute(insert(graph_events), rows)
    except IntegrityError as error:
        raise ExistsError(
            "Given event already exists: an execution and an artifact have one event of a type",
            mend="Leave it out, or give it another type.",
        ) from error


def events_of(transaction: Transaction, side: Literal["artifact", "execution"], ids: Iterable[int]) -> list[Event]:
    """The events of these artifacts or executions, in the order in which they came."""
    wanted = sorted(set(ids))
    column = graph_events.c.artifact_id if side == "artifact" else graph_events.c.execution_id
    found: list[tuple[int, Event]] = []
    for begin in range(0, len(wanted), _PIECE):
        query = select(graph_events).where(column.in_(wanted[begin : begin + _PIECE]))
        found += [
            (
                row.id,
                Event(
                    artifact_id=row.artifact_id,
                    execution_id=row.execution_id,
                    type=row.type,
                    milliseconds=row.milliseconds,
                    path=None if row.path is None else tuple(row.path),
                ),
            )
            for row in transaction.execute(query)
        ]
    return [event for _, event in sorted(found, key=lambda each: each[0])]


def put_members(
    transaction: Transaction, kind: Kind, members: Collection[tuple[int, int]], *, are_known: bool = False
) -> None:
    """Put artifacts or executions into contexts, as (context, node); a second time changes nothing. Raises InvalidSpecError."""
    if not members:
        return
    if not are_known:
        _check_present(transaction, Kind.CONTEXT, {context for context, _ in members}, where="context_id")
        _check_present(transaction, kind, {node for _, node in members}, where=f"{kind.word}_id")
    rows = [{"context_id": context, "node_id": node} for context, node in members]
    transaction.execute(insert_ignoring(transaction, graph_members), rows)


def members_of(transaction: Transaction, ids: Iterable[int]) -> list[tuple[int, int]]:
    """What these artifacts or executions belong to, as (context, node)."""
    wanted = sorted(set(ids))
    found: list[tuple[int, int]] = []
    for begin in range(0, len(wanted), _PIECE):
        query = select(graph_members).where(graph_members.c.node_id.in_(wanted[begin : begin + _PIECE]))
        found += [(row.context_id, row.node_id) for row in transaction.execute(query)]
    return found


def put_parents(transaction: Transaction, parents: Sequence[tuple[int, int]]) -> None:
    """Put contexts under others, as (child, parent).

    Raises InvalidSpecError where one is not there or a context would come to stand under itself, ExistsError where it is so already.
    """
    ends = {identity for pair in parents for identity in pair}
    _check_present(transaction, Kind.CONTEXT, ends, where="parent_contexts")
    for child, parent in parents:
        if child == parent or child in _above(transaction, parent):
            raise InvalidSpecError(
                f"There is a cycle detected of the given relationship: context {parent} stands under {child}",
                where="parent_contexts",
                mend="Leave one of the links out.",
            )
        try:
            transaction.execute(insert(graph_parents).values(child_id=child, parent_id=parent))
        except IntegrityError as error:
            raise ExistsError(
                f"Given parent_context already exists: {child} under {parent}", mend="Leave it out."
            ) from error


def linked_contexts(
    transaction: Transaction, side: Literal["parents", "children"], ids: Collection[int]
) -> dict[int, list[int]]:
    """The parents, or the children, of contexts; who has none is not in it."""
    child, parent = graph_parents.c.child_id, graph_parents.c.parent_id
    mine, other = (child, parent) if side == "parents" else (parent, child)
    wanted = sorted(set(ids))
    found: dict[int, list[int]] = {}
    for begin in range(0, len(wanted), _PIECE):
        query = select(mine.label("mine"), other.label("other")).where(mine.in_(wanted[begin : begin + _PIECE]))
        for row in transaction.execute(query.order_by(other)):
            found.setdefault(row.mine, []).append(row.other)
    return found


def _above(transaction: Transaction, identity: int) -> set[int]:
    """All contexts above one, however far."""
    start = select(graph_parents.c.parent_id).where(graph_parents.c.child_id == identity)
    above = start.cte("above", recursive=True)
    further = select(graph_parents.c.parent_id).join(above, graph_parents.c.child_id == above.c.parent_id)
    return set(transaction.scalars(select(above.union(further).c.parent_id)))


def _check_present(transaction: Transaction, kind: Kind, ids: set[int], *, where: str) -> None:
    missing = ids - present_ids(transaction, kind, ids)
    if missing:
        raise InvalidSpecError(
            f"No {kind.word} with the given id {min(missing)}", where=where, mend=f"Put the {kind.word} first."
        )


def context_ids(transaction: Transaction, node_id: int) -> list[int]:
    """The contexts that a node belongs to."""
    query = select(graph_members.c.context_id).where(graph_members.c.node_id == node_id)
    return list(transaction.scalars(query.join(graph_nodes, graph_nodes.c.id == graph_members.c.context_id)))
