"""What the platform itself keeps in the graph: nodes known by an external id and their events, written as often as need be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from goldenloop.lineage.graph.links import events_of, put_events
from goldenloop.lineage.graph.nodes import ids_of_external, put_nodes
from goldenloop.lineage.graph.records import Event, Kind, Node, NodeType
from goldenloop.lineage.graph.types import put_types
from goldenloop.store.database import Transaction


def keep_nodes(
    transaction: Transaction, kind: Kind, wanted: Sequence[tuple[str, str, Node]], *, now_us: int
) -> dict[str, int]:
    """Add nodes, each with its external id and the name of its type, or change those that are there; return their ids by external id."""
    names = list(dict.fromkeys(name for _, name, _ in wanted))
    types = dict(
        zip(names, put_types(transaction, kind, [NodeType(name=name) for name in names], can_omit=True), strict=True)
    )
    there = ids_of_external(transaction, kind, [identity for identity, _, _ in wanted])
    nodes = [
        msgspec.structs.replace(node, id=there.get(identity), type_id=types[name], external_id=identity)
        for identity, name, node in wanted
    ]
    return dict(
        zip([identity for identity, _, _ in wanted], put_nodes(transaction, kind, nodes, now_us=now_us), strict=True)
    )


def keep_events(transaction: Transaction, wanted: Iterable[Event], *, now_us: int) -> None:
    """Add events between nodes that are there, the first of each type between the same two. Nodes that have an event already get none."""
    first: dict[tuple[int, int, int], Event] = {}
    for event in wanted:
        first.setdefault((event.artifact_id, event.execution_id, event.type), event)
    kept = events_of(transaction, "execution", {event.execution_id for event in first.values()})
    known = {(event.artifact_id, event.execution_id) for event in kept}
    new = [event for event in first.values() if (event.artifact_id, event.execution_id) not in known]
    put_events(transaction, new, now_us=now_us, are_known=True)
