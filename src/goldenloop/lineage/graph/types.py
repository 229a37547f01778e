"""Types of nodes: put, changed, found.

A type that is there already may be put again. It may gain properties where the caller says that fields may be added, and leave some out
where the caller says that they may be omitted; the type of a property's values never changes. A base can be set once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeAlias

import msgspec
from sqlalchemy import ColumnElement, Row, func, insert, select, tuple_, update

from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.lineage.graph.records import (
    MOST_PROPERTIES,
    ExistsError,
    Kind,
    NodeType,
    PropertyType,
    UnsupportedError,
    check_text,
)
from goldenloop.store.database import Transaction
from goldenloop.store.tables import graph_types

_Row: TypeAlias = Row[tuple[object, ...]]
_UNSET = 0  # a base that is said to be none


def put_types(
    transaction: Transaction, kind: Kind, types: Sequence[NodeType], *, can_add: bool = False, can_omit: bool = False
) -> list[int]:
    """Add types or change those that are there; return their ids in order.

    Raises InvalidSpecError, ExistsError where a type differs from the one that is there in what may not change, UnsupportedError where its
    base would change.
    """
    wanted = [(given.name, given.version) for given in types]
    stored = {(found.name, found.version): found for found in _find(transaction, kind, _named(wanted))}
    ids: list[int] = []
    for given in types:
        _check(given)
        before = stored.get((given.name, given.version))
        if before is None:
            after = msgspec.structs.replace(given, id=_next_id(transaction))
            _guard_external_id(transaction, kind, after)
            transaction.execute(insert(graph_types).values(id=after.id, kind=kind.value, **_row(after)))
        else:
            after = _merged(before, given, can_add=can_add, can_omit=can_omit)
            if after != before:
                _guard_external_id(transaction, kind, after)
                transaction.execute(update(graph_types).where(graph_types.c.id == after.id).values(**_row(after)))
        assert after.id is not None
        stored[(given.name, given.version)] = after
        ids.append(after.id)
    return ids


def type_named(transaction: Transaction, kind: Kind, name: str, version: str = "") -> NodeType:
    """Return a type. Raises NotFoundError."""
    found = _find(transaction, kind, _named([(name, version)]))
    if not found:
        of_version = f" of version {version!r}" if version else ""
        raise NotFoundError(
            f"there is no {kind.word} type {name!r}{of_version}", mend="Put it first, or list the types."
        )
    return found[0]


def types_by_id(transaction: Transaction, kind: Kind, ids: Collection[int]) -> list[NodeType]:
    """The types of these ids that are there, by id."""
    return _find(transaction, kind, graph_types.c.id.in_(ids)) if ids else []


def types_by_external_id(transaction: Transaction, kind: Kind, external_ids: Collection[str]) -> list[NodeType]:
    """The types of these external ids that are there, by id."""
    return _find(transaction, kind, graph_types.c.external_id.in_(external_ids)) if external_ids else []


def all_types(transaction: Transaction, kind: Kind) -> list[NodeType]:
    """Every type of a kind, by id."""
    return _find(transaction, kind, None)


def _named(wanted: Sequence[tuple[str, str]]) -> ColumnElement[bool]:
    if len(wanted) == 1:  # by far the most
        return (graph_types.c.name == wanted[0][0]) & (graph_types.c.version == wanted[0][1])
    return tuple_(graph_types.c.name, graph_types.c.version).in_(wanted)


def _find(transaction: Transaction, kind: Kind, where: ColumnElement[bool] | None) -> list[NodeType]:
    query = select(graph_types).where(graph_types.c.kind == kind.value).order_by(graph_types.c.id)
    if where is not None:
        query = query.where(where)
    return [_type(row) for row in transaction.execute(query)]


def _check(given: NodeType) -> None:
    if not given.name:
        raise InvalidSpecError("No type name is specified", where="name", mend="Give the type a name.")
    check_text(given.name, where="name")
    check_text(given.version, where="version")
    check_text(given.external_id, where="external_id")
    check_text(given.description, where="description", most=65_535)
    if len(given.properties) > MOST_PROPERTIES:
        raise InvalidSpecError(f"a type has at most {MOST_PROPERTIES} properties", where=given.name)
    for name, value_type in given.properties.items():
        check_text(name, where="properties")
        if value_type not in PropertyType.__members__.values():
            raise InvalidSpecError(
                "Property is UNKNOWN",
                where=f"properties.{name}",
                mend="Say what its values are: INT, DOUBLE, STRING, STRUCT, PROTO or BOOLEAN.",
            )
    if given.base == _UNSET:
        raise UnsupportedError(
            "base_type deletion is not supported", where=given.name, mend="Leave base_type out, or give a type."
        )


def _merged(before: NodeType, given: NodeType, *, can_add: bool, can_omit: bool) -> NodeType:
    changed = [name for name, kind in before.properties.items() if given.properties.get(name, kind) != kind]
    if changed:
        raise _differs(given, f"the values of property {changed[0]!r} are of another type", "Take another name for it.")
    omitted = before.properties.keys() - given.properties.keys()
    if omitted and not can_omit:
        raise _differs(given, f"the stored type has property {min(omitted)!r} too", "Set can_omit_fields.")
    added = given.properties.keys() - before.properties.keys()
    if added and not can_add:
        raise _differs(given, f"the stored type has no property {min(added)!r}", "Set can_add_fields.")
    if given.base is not None and before.base is not None and given.base != before.base:
        raise UnsupportedError(
            "base_type update is not supported", where=given.name, mend="Give the type a new version."
        )
    return msgspec.structs.replace(
        before,
        properties={**before.properties, **given.properties},
        base=given.base if before.base is None else before.base,
        external_id=given.external_id or before.external_id,
    )


def _differs(given: NodeType, what: str, mend: str) -> ExistsError:
    return ExistsError(f"Type already exists with different properties: {what}", where=given.name, mend=mend)


def _guard_external_id(transaction: Transaction, kind: Kind, given: NodeType) -> None:
    """Raise ExistsError where another type of the kind has the external id."""
    others = types_by_external_id(transaction, kind, [given.external_id] if given.external_id else [])
    if any(other.id != given.id for other in others):
        raise ExistsError(
            f"the external id {given.external_id!r} is another type's", where=given.name, mend="Give it a new one."
        )


def _next_id(transaction: Transaction) -> int:
    return (transaction.scalar(select(func.max(graph_types.c.id))) or 0) + 1


def _row(given: NodeType) -> dict[str, object]:
    row = msgspec.structs.asdict(given)
    del row["id"]
    return {**row, "external_id": given.external_id or None, "properties": dict(given.properties)}


def _type(row: _Row) -> NodeType:
    return NodeType(**{name: value for name, value in row._mapping.items() if name != "kind"})
