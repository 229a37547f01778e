"""The calls about types: put one, put many, find by name, id and external id, list."""

from __future__ import annotations

from collections.abc import Iterator

from goldenloop.api.mlmd.calls import Asked, Call, Request, name_of, required
from goldenloop.api.mlmd.conversion import type_of, write_type
from goldenloop.core.errors import NotFoundError
from goldenloop.lineage.graph.records import Kind, NodeType, UnsupportedError
from goldenloop.lineage.graph.types import all_types, put_types, type_named, types_by_external_id, types_by_id


def type_calls() -> Iterator[Call]:
    """All of them."""
    for kind in Kind:
        yield from _of_kind(kind)
    yield Call(name="PutTypes", answer=_put_types, writes=True)


def _of_kind(kind: Kind) -> Iterator[Call]:
    name = name_of(kind)
    field = f"{kind.word}_type"

    def write(asked: Asked, found: list[NodeType]) -> None:
        for each in found:
            write_type(each, getattr(asked.response, f"{field}s").add())

    def put(asked: Asked) -> None:
        request = asked.request
        _check_match(request)
        given = type_of(kind, getattr(request, field))
        can_add, can_omit = request.can_add_fields, request.can_omit_fields
        [asked.response.type_id] = put_types(asked.transaction, kind, [given], can_add=can_add, can_omit=can_omit)

    def get(asked: Asked) -> None:
        found = type_named(asked.transaction, kind, asked.request.type_name, asked.request.type_version)
        write_type(found, getattr(asked.response, field))

    def by_id(asked: Asked) -> None:
        write(asked, types_by_id(asked.transaction, kind, set(asked.request.type_ids)))

    def by_external_id(asked: Asked) -> None:
        wanted = [required(each, where="external_ids") for each in asked.request.external_ids]
        found = types_by_external_id(asked.transaction, kind, wanted)
        if wanted and not found:
            raise NotFoundError("No types found for external_ids", where="external_ids")
        write(asked, found)

    def all_of_kind(asked: Asked) -> None:
        write(asked, all_types(asked.transaction, kind))

    yield Call(name=f"Put{name}Type", answer=put, writes=True)
    yield Call(name=f"Get{name}Type", answer=get)
    yield Call(name=f"Get{name}TypesByID", answer=by_id)
    yield Call(name=f"Get{name}TypesByExternalIds", answer=by_external_id)
    yield Call(name=f"Get{name}Types", answer=all_of_kind)


def _put_types(asked: Asked) -> None:
    request = asked.request
    _check_match(request)
    for kind in Kind:
        given = [type_of(kind, each) for each in getattr(request, f"{kind.word}_types")]
        ids = put_types(
            asked.transaction, kind, given, can_add=request.can_add_fields, can_omit=request.can_omit_fields
        )
        getattr(asked.response, f"{kind.word}_type_ids").extend(ids)


def _check_match(request: Request) -> None:
    if not request.all_fields_match:
        raise UnsupportedError("Must match all fields", where="all_fields_match", mend="Leave it out.")
