"""The calls that walk the graph."""

from __future__ import annotations

from collections.abc import Iterator, Set

from goldenloop.api.mlmd.calls import Asked, Call
from goldenloop.api.mlmd.conversion import write_event, write_node, write_type
from goldenloop.core.errors import InvalidSpecError
from goldenloop.lineage.graph.links import members_of
from goldenloop.lineage.graph.nodes import nodes_by_id
from goldenloop.lineage.graph.records import Kind, UnsupportedError
from goldenloop.lineage.graph.types import types_by_id
from goldenloop.lineage.graph.walking import MOST_HOPS, Direction, Ending, Walk, walk
from goldenloop.standards.mlmd.entities import ENTITIES

_PARTS = frozenset(field.split()[1] for field in ENTITIES["LineageGraph"])  # what an answer may have
_TYPED = {Kind.ARTIFACT: "artifact_types", Kind.EXECUTION: "execution_types", Kind.CONTEXT: "context_types"}


def lineage_calls() -> Iterator[Call]:
    """Both of them."""
    yield Call(name="GetLineageSubgraph", answer=_subgraph)
    yield Call(name="GetLineageGraph", answer=_graph)


def _graph(_asked: Asked) -> None:
    raise UnsupportedError(
        "GetLineageGraph is not implemented, as in ML Metadata itself", mend="Call GetLineageSubgraph."
    )


def _subgraph(asked: Asked) -> None:
    wanted = frozenset(asked.request.read_mask.paths) or _PARTS
    found = walk(asked.transaction, _walk(asked))
    graph = asked.response.lineage_subgraph
    ids: dict[Kind, list[int]] = {Kind.ARTIFACT: found.artifacts, Kind.EXECUTION: found.executions}
    links = {
        kind: members_of(asked.transaction, ids[kind]) if wanted & {link, "contexts", "context_types"} else []
        for kind, link in ((Kind.ARTIFACT, "attributions"), (Kind.EXECUTION, "associations"))
    }
    ids[Kind.CONTEXT] = sorted({context for pairs in links.values() for context, _ in pairs})
    for kind in Kind:
        _write_nodes(asked, kind, ids[kind], wanted)
    if "events" in wanted:
        for event in found.events:
            write_event(event, graph.events.add())
    for kind, link in ((Kind.ARTIFACT, "attributions"), (Kind.EXECUTION, "associations")):
        if link in wanted:
            for context, node in links[kind]:
                written = getattr(graph, link).add()
                written.context_id = context
                setattr(written, f"{kind.word}_id", node)


def _walk(asked: Asked) -> Walk:
    """Where to walk. Raises InvalidSpecError where no start is said."""
    options = asked.request.lineage_subgraph_query_options
    starts = options.WhichOneof("starting_nodes")
    if starts is None:
        raise InvalidSpecError(
            "Missing arguments for listing starting nodes",
            where="starting_nodes",
            mend="Give starting_artifacts or starting_executions.",
        )
    endings = {
        kind: Ending(filter_query=ending.filter_query, included=ending.include_ending_nodes)
        for kind, ending in ((Kind.ARTIFACT, options.ending_artifacts), (Kind.EXECUTION, options.ending_executions))
        if ending.filter_query
    }
    return Walk(
        start=Kind.ARTIFACT if starts == "starting_artifacts" else Kind.EXECUTION,
        filter_query=getattr(options, starts).filter_query,
        hops=options.max_num_hops if options.HasField("max_num_hops") else MOST_HOPS,
        direction=Direction(options.direction),
        endings=endings,
    )


def _write_nodes(asked: Asked, kind: Kind, ids: list[int], wanted: Set[str]) -> None:
    """The nodes of a kind and their types, as far as they are wanted."""
    graph = asked.response.lineage_subgraph
    nodes_wanted, types_wanted = f"{kind.word}s" in wanted, _TYPED[kind] in wanted
    if not nodes_wanted and not types_wanted:
        return
    found = nodes_by_id(asked.transaction, kind, ids)
    if nodes_wanted:
        written = getattr(graph, f"{kind.word}s")
        for node in found:
            write_node(kind, node, written.add())
    if types_wanted:
        for each in types_by_id(asked.transaction, kind, {node.type_id for node in found if node.type_id}):
            write_type(each, getattr(graph, _TYPED[kind]).add())
