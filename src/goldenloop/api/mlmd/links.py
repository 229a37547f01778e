"""The calls about what links nodes: events, what belongs to contexts, contexts under contexts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from goldenloop.api.mlmd.calls import Asked, Call, name_of
from goldenloop.api.mlmd.conversion import event_of, write_event, write_node
from goldenloop.api.mlmd.nodes import write_nodes
from goldenloop.core.errors import InvalidSpecError
from goldenloop.lineage.graph.links import (
    context_ids,
    events_of,
    linked_contexts,
    put_events,
    put_members,
    put_parents,
)
from goldenloop.lineage.graph.nodes import nodes_by_id
from goldenloop.lineage.graph.records import Kind

_LINKS: tuple[tuple[Literal["parents", "children"], str], ...] = (("parents", "Parent"), ("children", "Children"))


def link_calls() -> Iterator[Call]:
    """All of them."""
    yield Call(name="PutEvents", answer=_put_events, writes=True)
    yield Call(name="PutAttributionsAndAssociations", answer=_put_members, writes=True)
    yield Call(name="PutParentContexts", answer=_put_parents, writes=True)
    yield from (_events("artifact"), _events("execution"))
    yield from (_contexts_of(Kind.ARTIFACT), _contexts_of(Kind.EXECUTION))
    for side, word in _LINKS:
        yield _linked(side, word)
        yield _linked_of_many(side, word)


def _put_events(asked: Asked) -> None:
    events = [event_of(message) for message in asked.request.events]
    put_events(asked.transaction, events, now_us=asked.now_us)


def _put_members(asked: Asked) -> None:
    for kind, messages in ((Kind.ARTIFACT, asked.request.attributions), (Kind.EXECUTION, asked.request.associations)):
        pairs = [(message.context_id, getattr(message, f"{kind.word}_id")) for message in messages]
        put_members(asked.transaction, kind, pairs)


def _put_parents(asked: Asked) -> None:
    for message in asked.request.parent_contexts:
        if not message.HasField("parent_id") or not message.HasField("child_id"):
            raise InvalidSpecError(
                "Missing parent / child id in the parent_context", where="parent_contexts", mend="Give both."
            )
    put_parents(asked.transaction, [(message.child_id, message.parent_id) for message in asked.request.parent_contexts])


def _events(side: Literal["artifact", "execution"]) -> Call:
    def answer(asked: Asked) -> None:
        for event in events_of(asked.transaction, side, getattr(asked.request, f"{side}_ids")):
            write_event(event, asked.response.events.add())

    return Call(name=f"GetEventsBy{side.capitalize()}IDs", answer=answer)


def _contexts_of(kind: Kind) -> Call:
    def answer(asked: Asked) -> None:
        ids = context_ids(asked.transaction, getattr(asked.request, f"{kind.word}_id"))
        write_nodes(asked, Kind.CONTEXT, nodes_by_id(asked.transaction, Kind.CONTEXT, ids))

    return Call(name=f"GetContextsBy{name_of(kind)}", answer=answer)


def _linked(side: Literal["parents", "children"], word: str) -> Call:
    def answer(asked: Asked) -> None:
        identity = asked.request.context_id
        ids = linked_contexts(asked.transaction, side, [identity]).get(identity, [])
        write_nodes(asked, Kind.CONTEXT, nodes_by_id(asked.transaction, Kind.CONTEXT, ids))

    return Call(name=f"Get{word}ContextsByContext", answer=answer)


def _linked_of_many(side: Literal["parents", "children"], word: str) -> Call:
    def answer(asked: Asked) -> None:
        linked = linked_contexts(asked.transaction, side, asked.request.context_ids)
        ends = {end for ids in linked.values() for end in ids}
        nodes = {node.id: node for node in nodes_by_id(asked.transaction, Kind.CONTEXT, ends)}
        for identity, ids in linked.items():
            written = getattr(asked.response.contexts[identity], f"{word.lower()}_contexts")
            for each in ids:
                write_node(Kind.CONTEXT, nodes[each], written.add())

    return Call(name=f"Get{word}ContextsByContexts", answer=answer)
