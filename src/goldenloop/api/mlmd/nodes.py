"""The calls about artifacts, executions and contexts: put, find, list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from goldenloop.api.mlmd.calls import PLURALS, Asked, Call, field_of, name_of, required
from goldenloop.api.mlmd.conversion import node_of, page_of, write_node, write_type
from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.lineage.graph.listing import list_nodes
from goldenloop.lineage.graph.nodes import id_of_name, ids_of_external, nodes_by_id, nodes_where, put_nodes
from goldenloop.lineage.graph.records import MILLISECOND, ChangedError, Kind, Node
from goldenloop.lineage.graph.types import type_named, types_by_id
from goldenloop.store.database import Transaction
from goldenloop.store.tables import graph_members, graph_nodes

_MOST_URIS = 10_000  # addresses in one request


def node_calls() -> Iterator[Call]:
    """All of them."""
    for kind in Kind:
        yield from _of_kind(kind)
    yield Call(name="GetArtifactsByURI", answer=_by_uri)
    for kind in (Kind.ARTIFACT, Kind.EXECUTION):
        yield _by_context(kind)


def write_nodes(asked: Asked, kind: Kind, found: Iterable[Node]) -> None:
    """Add nodes to the response."""
    written = getattr(asked.response, field_of(kind))
    for node in found:
        write_node(kind, node, written.add())


def _of_kind(kind: Kind) -> Iterator[Call]:
    many, field = PLURALS[kind], field_of(kind)

    def put(asked: Asked) -> None:
        given = [node_of(kind, message) for message in getattr(asked.request, field)]
        if kind is Kind.ARTIFACT and asked.request.options.abort_if_latest_updated_time_changed:
            _check_unchanged(asked.transaction, given)
        mask = [path for path in asked.request.update_mask.paths if path]
        ids = put_nodes(asked.transaction, kind, given, now_us=asked.now_us, mask=mask)
        getattr(asked.response, f"{kind.word}_ids").extend(ids)

    def listed(asked: Asked) -> None:
        _list(asked, kind)

    def by_id(asked: Asked) -> None:
        found = nodes_by_id(asked.transaction, kind, getattr(asked.request, f"{kind.word}_ids"))
        write_nodes(asked, kind, found)
        if kind is Kind.ARTIFACT and asked.request.populate_artifact_types:
            for each in types_by_id(asked.transaction, kind, {node.type_id for node in found if node.type_id}):
                write_type(each, asked.response.artifact_types.add())

    def by_type(asked: Asked) -> None:
        try:
            found = type_named(asked.transaction, kind, asked.request.type_name, asked.request.type_version)
        except NotFoundError:
            return
        _list(asked, kind, type_id=found.id)

    def by_type_and_name(asked: Asked) -> None:
        request = asked.request
        try:
            found = type_named(asked.transaction, kind, request.type_name, request.type_version)
        except NotFoundError:
            return
        assert found.id is not None
        identity = id_of_name(asked.transaction, found.id, getattr(request, f"{kind.word}_name"))
        for node in nodes_by_id(asked.transaction, kind, [] if identity is None else [identity]):
            write_node(kind, node, getattr(asked.response, kind.word))

    def by_external_id(asked: Asked) -> None:
        wanted = [required(each, where="external_ids") for each in asked.request.external_ids]
        ids = ids_of_external(asked.transaction, kind, wanted).values()
        if wanted and not ids:
            raise NotFoundError(f"No {field} found for external_ids", where="external_ids")
        write_nodes(asked, kind, nodes_by_id(asked.transaction, kind, ids))

    yield Call(name=f"Put{many}", answer=put, writes=True)
    yield Call(name=f"Get{many}", answer=listed)
    yield Call(name=f"Get{many}ByID", answer=by_id)
    yield Call(name=f"Get{many}ByType", answer=by_type)
    yield Call(name=f"Get{name_of(kind)}ByTypeAndName", answer=by_type_and_name)
    yield Call(name=f"Get{many}ByExternalIds", answer=by_external_id)


def _by_context(kind: Kind) -> Call:
    def answer(asked: Asked) -> None:
        _list(asked, kind, context_id=asked.request.context_id)

    return Call(name=f"Get{PLURALS[kind]}ByContext", answer=answer)


def _by_uri(asked: Asked) -> None:
    wanted = sorted(set(asked.request.uris))
    if len(wanted) > _MOST_URIS:
        raise InvalidSpecError(f"there are more than {_MOST_URIS}", where="uris", mend="Send several requests.")
    write_nodes(asked, Kind.ARTIFACT, nodes_where(asked.transaction, Kind.ARTIFACT, graph_nodes.c.uri.in_(wanted)))


def _list(asked: Asked, kind: Kind, *, type_id: int | None = None, context_id: int | None = None) -> None:
    conditions = []
    if type_id is not None:
        conditions.append(graph_nodes.c.type_id == type_id)
    if context_id is not None:
        members = graph_members.select().with_only_columns(graph_members.c.node_id)
        conditions.append(graph_nodes.c.id.in_(members.where(graph_members.c.context_id == context_id)))
    page = page_of(asked.request.options) if asked.request.HasField("options") else None
    found, token = list_nodes(asked.transaction, kind, page, *conditions)
    write_nodes(asked, kind, found)
    if token:
        asked.response.next_page_token = token


def _check_unchanged(transaction: Transaction, given: list[Node]) -> None:
    """Raise ChangedError where a node was changed since the time that the caller knows."""
    wanted = {node.id: node for node in given if node.id is not None}
    for stored in nodes_by_id(transaction, Kind.ARTIFACT, [identity for identity in wanted if identity is not None]):
        known, now = wanted[stored.id or 0].updated_us // MILLISECOND, stored.updated_us // MILLISECOND
        if known != now:
            raise ChangedError(
                f"artifact {stored.id} was changed at {now} ms, and the given one says {known}",
                where="abort_if_latest_updated_time_changed",
                mend="Read it again.",
            )
