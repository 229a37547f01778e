"""The calls that write nodes, events and memberships at once: an execution with its artifacts and contexts, and a whole subgraph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from goldenloop.api.mlmd.calls import Asked, Call, Request
from goldenloop.api.mlmd.conversion import event_of, node_of
from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.lineage.graph.links import put_events, put_members
from goldenloop.lineage.graph.nodes import id_of_name, ids_of_external, present_ids, put_nodes
from goldenloop.lineage.graph.records import Event, Kind, Node
from goldenloop.serving.grpc.status import CallError, Status
from goldenloop.store.database import Transaction

_NO_ARTIFACT = -1  # what is answered for a pair that has neither an artifact nor an event


def batch_calls() -> Iterator[Call]:
    """Both of them."""
    yield Call(name="PutExecution", answer=_put_execution, writes=True)
    yield Call(name="PutLineageSubgraph", answer=_put_subgraph, writes=True)


def _put_execution(asked: Asked) -> None:
    request, transaction, now_us = asked.request, asked.transaction, asked.now_us
    if not request.HasField("execution"):
        raise InvalidSpecError("No execution is found", where="execution", mend="Give one.")
    pairs = request.artifact_event_pairs
    given = [node_of(Kind.ARTIFACT, pair.artifact) for pair in pairs if pair.HasField("artifact")]
    if request.options.reuse_artifact_if_already_exist_by_external_id:
        given = _reused(transaction, given)
    drawn = iter(put_nodes(transaction, Kind.ARTIFACT, given, now_us=now_us) if given else ())
    put_ids = [next(drawn) if pair.HasField("artifact") else None for pair in pairs]
    [execution_id] = put_nodes(
        transaction,
        Kind.EXECUTION,
        [node_of(Kind.EXECUTION, request.execution)],
        now_us=now_us,
        touch=request.options.force_update_time,
    )
    artifact_ids: list[int] = []
    events: list[Event] = []
    named: list[Event] = []  # whose artifact is not in the request, so that nobody knows whether it is there
    for pair, put_id in zip(pairs, put_ids, strict=True):
        if pair.HasField("event"):
            event = event_of(pair.event, artifact_id=put_id, execution_id=execution_id)
            if event.execution_id != execution_id:
                raise InvalidSpecError(
                    f"the event names execution {event.execution_id}, and this is {execution_id}",
                    where="artifact_event_pairs",
                    mend="Leave the event's execution_id out.",
                )
            if put_id is not None and event.artifact_id != put_id:
                raise InvalidSpecError(
                    f"the event names artifact {event.artifact_id}, and its pair has {put_id}",
                    where="artifact_event_pairs",
                    mend="Leave the event's artifact_id out.",
                )
            (events if put_id is not None else named).append(event)
            artifact_ids.append(event.artifact_id)
        else:
            artifact_ids.append(_NO_ARTIFACT if put_id is None else put_id)
    put_events(transaction, events, now_us=now_us, are_known=True)
    put_events(transaction, named, now_us=now_us)
    contexts = _contexts(asked, request)
    put_members(transaction, Kind.EXECUTION, [(each, execution_id) for each in contexts], are_known=True)
    members = sorted(set(artifact_ids) - {_NO_ARTIFACT})
    put_members(transaction, Kind.ARTIFACT, [(each, one) for each in contexts for one in members], are_known=True)
    asked.response.execution_id = execution_id
    asked.response.artifact_ids.extend(artifact_ids)
    asked.response.context_ids.extend(contexts)


def _put_subgraph(asked: Asked) -> None:
    request, transaction, now_us = asked.request, asked.transaction, asked.now_us
    _check_edges(request)
    contexts = _contexts(asked, request)
    artifacts = [node_of(Kind.ARTIFACT, message) for message in request.artifacts]
    if request.options.reuse_artifact_if_already_exist_by_external_id:
        artifacts = _reused(transaction, artifacts)
    artifact_ids = put_nodes(transaction, Kind.ARTIFACT, artifacts, now_us=now_us)
    executions = [node_of(Kind.EXECUTION, message) for message in request.executions]
    execution_ids = put_nodes(transaction, Kind.EXECUTION, executions, now_us=now_us)
    for kind, ids in ((Kind.EXECUTION, execution_ids), (Kind.ARTIFACT, artifact_ids)):
        pairs = {(each, one): None for each in contexts for one in ids}
        put_members(transaction, kind, list(pairs), are_known=True)
    events = [
        event_of(
            edge.event,
            artifact_id=artifact_ids[edge.artifact_index] if edge.HasField("artifact_index") else None,
            execution_id=execution_ids[edge.execution_index] if edge.HasField("execution_index") else None,
        )
        for edge in request.event_edges
    ]
    put_events(transaction, events, now_us=now_us)
    asked.response.artifact_ids.extend(artifact_ids)
    asked.response.execution_ids.extend(execution_ids)
    asked.response.context_ids.extend(contexts)


def _contexts(asked: Asked, request: Request) -> list[int]:
    """Put the contexts of a request, or find them where they may be reused; return their ids in order."""
    transaction, options = asked.transaction, request.options
    forced = options.force_reuse_context if options.DESCRIPTOR.fields_by_name.get("force_reuse_context") else False
    ids: list[int] = []
    for message in request.contexts:
        node = node_of(Kind.CONTEXT, message)
        if node.id is not None and forced:
            if not present_ids(transaction, Kind.CONTEXT, [node.id]):
                raise NotFoundError(f"there is no context {node.id}", where="contexts", mend="Put it first.")
            ids.append(node.id)
            continue
        if node.type_id is None or node.name is None:
            raise InvalidSpecError("Context is missing a type_id or a name", where="contexts", mend="Give both.")
        found = None
        if options.reuse_context_if_already_exist and node.id is None:
            found = id_of_name(transaction, node.type_id, node.name)
        ids += [found] if found is not None else put_nodes(transaction, Kind.CONTEXT, [node], now_us=asked.now_us)
    return ids


def _reused(transaction: Transaction, given: Sequence[Node]) -> list[Node]:
    """New artifacts whose external id is there already become changes of those that have it."""
    wanted = [node.external_id for node in given if node.id is None and node.external_id]
    known = ids_of_external(transaction, Kind.ARTIFACT, wanted)
    return [
        msgspec.structs.replace(node, id=known[node.external_id])
        if node.id is None and node.external_id in known
        else node
        for node in given
    ]


def _check_edges(request: Request) -> None:
    """Raise CallError for an index outside the request, InvalidSpecError for an edge that does not say what it links."""
    for edge in request.event_edges:
        if not edge.HasField("event"):
            raise InvalidSpecError("No event found for event_edge", where="event_edges", mend="Give one.")
        for word, nodes in (("execution", request.executions), ("artifact", request.artifacts)):
            if not edge.HasField(f"{word}_index"):
                if not edge.event.HasField(f"{word}_id"):
                    raise InvalidSpecError(
                        f"Event_edge is missing an {word}",
                        where="event_edges",
                        mend=f"Give {word}_index, or {word}_id.",
                    )
                continue
            index = getattr(edge, f"{word}_index")
            if not 0 <= index < len(nodes):
                raise CallError(
                    Status.OUT_OF_RANGE,
                    f"{word}_index {index} is outside the request, which has {len(nodes)}",
                    where="event_edges",
                    mend="Count from 0.",
                )
            if edge.event.HasField(f"{word}_id") and getattr(edge.event, f"{word}_id") != nodes[index].id:
                raise InvalidSpecError(
                    f"the event names {word} {getattr(edge.event, f'{word}_id')}, and {word}_index {index} is another",
                    where="event_edges",
                    mend="Give one of the two.",
                )
