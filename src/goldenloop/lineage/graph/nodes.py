"""Artifacts, executions and contexts: put and found.

A node without an id is new; one with an id is changed. A change without a mask replaces what may change: address, state, external id, the
name of a context, and all properties. With a mask it touches only what the mask names: `uri`, `properties` (all of them),
`properties.NAME`, `custom_properties.NAME` …; names that no field has are passed over. The time of the last change moves only where
something changed, and then always forward.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.lineage.graph.properties import (
    check_custom,
    check_properties,
    property_rows,
    read_properties,
)
from goldenloop.lineage.graph.records import (
    LONGEST_ADDRESS,
    MILLISECOND,
    ExistsError,
    Kind,
    Node,
    NodeType,
    Value,
    Values,
    check_text,
)
from goldenloop.lineage.graph.types import types_by_id
from goldenloop.store.database import Transaction
from goldenloop.store.tables import graph_nodes, graph_properties, graph_types

_PIECE: Final = 1_000  # ids that one query names
_COLUMNS = (
    graph_nodes.c.id,
    graph_nodes.c.type_id,
    graph_types.c.name.label("type"),
    graph_nodes.c.name,
    graph_nodes.c.external_id,
    graph_nodes.c.uri,
    graph_nodes.c.state,
    graph_nodes.c.created_us,
    graph_nodes.c.updated_us,
)
_SELECTED = select(*_COLUMNS).join(graph_types, graph_types.c.id == graph_nodes.c.type_id).order_by(graph_nodes.c.id)


def put_nodes(
    transaction: Transaction,
    kind: Kind,
    nodes: Sequence[Node],
    *,
    now_us: int,
    mask: Collection[str] = (),
    touch: bool = False,
) -> list[int]:
    """Add nodes or change them; return their ids in order. With `touch`, a change that changes nothing moves the time too.

    Raises InvalidSpecError, NotFoundError for a type that is not there, ExistsError for a name or external id that is taken.
    """
    new = [node for node in nodes if node.id is None]
    changed = [node for node in nodes if node.id is not None]
    drawn = iter(_add(transaction, kind, new, now_us=now_us) if new else ())
    if changed:
        _change(transaction, kind, changed, now_us=now_us, mask=frozenset(mask), touch=touch)
    return [next(drawn) if node.id is None else node.id for node in nodes]


def nodes_by_id(transaction: Transaction, kind: Kind, ids: Iterable[int]) -> list[Node]:
    """The nodes of these ids that are there and of this kind, by id."""
    wanted = sorted(set(ids))
    found: list[Node] = []
    for begin in range(0, len(wanted), _PIECE):
        found += nodes_where(transaction, kind, graph_nodes.c.id.in_(wanted[begin : begin + _PIECE]))
    return found


def nodes_where(transaction: Transaction, kind: Kind, where: ColumnElement[bool]) -> list[Node]:
    """The nodes of a kind for which this holds, by id. The caller bounds how many there may be."""
    rows = transaction.execute(_SELECTED.where(graph_nodes.c.kind == kind.value, where)).all()
    properties = read_properties(transaction, [row.id for row in rows])
    none: tuple[dict[str, Value], dict[str, Value]] = ({}, {})
    nodes: list[Node] = []
    for row in rows:
        own, custom = properties.get(row.id, none)
        nodes.append(
            Node(
                id=row.id,
                type_id=row.type_id,
                type=row.type,
                name=row.name,
                external_id=row.external_id,
                uri=row.uri,
                state=row.state,
                properties=own,
                custom=custom,
                created_us=row.created_us,
                updated_us=row.updated_us,
            )
        )
    return nodes


def present_ids(transaction: Transaction, kind: Kind, ids: Collection[int]) -> set[int]:
    """Those of the ids that are nodes of this kind."""
    wanted = sorted(set(ids))
    found: set[int] = set()
    for begin in range(0, len(wanted), _PIECE):
        piece = graph_nodes.c.id.in_(wanted[begin : begin + _PIECE])
        found |= set(transaction.scalars(select(graph_nodes.c.id).where(graph_nodes.c.kind == kind.value, piece)))
    return found


def id_of_name(transaction: Transaction, type_id: int, name: str) -> int | None:
    """The node of this name in a type."""
    query = select(graph_nodes.c.id).where(graph_nodes.c.type_id == type_id, graph_nodes.c.name == name)
    return transaction.scalar(query)


def ids_of_external(transaction: Transaction, kind: Kind, external_ids: Collection[str]) -> dict[str, int]:
    """The nodes of a kind with these external ids."""
    wanted = sorted(set(external_ids))
    found: dict[str, int] = {}
    for begin in range(0, len(wanted), _PIECE):
        query = select(graph_nodes.c.external_id, graph_nodes.c.id).where(
            graph_nodes.c.kind == kind.value, graph_nodes.c.external_id.in_(wanted[begin : begin + _PIECE])
        )
        found |= {str(row.external_id): row.id for row in transaction.execute(query)}
    return found


# New nodes


def _add(transaction: Transaction, kind: Kind, nodes: Sequence[Node], *, now_us: int) -> list[int]:
    types = _types_of(transaction, kind, nodes)
    first = (transaction.scalar(select(func.max(graph_nodes.c.id))) or 0) + 1
    rows: list[dict[str, object]] = []
    values: list[dict[str, object]] = []
    for identity, node in enumerate(nodes, first):
        assert node.type_id is not None
        _check(kind, node)
        if node.properties:
            check_properties(types[node.type_id], node.properties)
            values += property_rows(identity, node.properties, is_custom=False)
        if node.custom:
            check_custom(node.custom)
            values += property_rows(identity, node.custom, is_custom=True)
        rows.append(
            {
                "id": identity,
                "kind": kind.value,
                "type_id": node.type_id,
                "name": node.name or None,
                "external_id": node.external_id or None,
                "uri": node.uri,
                "state": node.state,
                "created_us": now_us,
                "updated_us": now_us,
            }
        )
    try:
        transaction.execute(insert(graph_nodes), rows)
    except IntegrityError as error:
        raise _taken(kind, error) from error
    if values:
        transaction.execute(insert(graph_properties), values)
    return list(range(first, first + len(rows)))


def _types_of(transaction: Transaction, kind: Kind, nodes: Sequence[Node]) -> dict[int, NodeType]:
    """The types of new nodes. Raises InvalidSpecError where one is not said, NotFoundError where it is not there."""
    wanted = {node.type_id for node in nodes if node.type_id is not None}
    if any(node.type_id is None for node in nodes):
        raise InvalidSpecError("Type id is missing", where="type_id", mend=f"Give the id of the {kind.word}'s type.")
    types = {found.id: found for found in types_by_id(transaction, kind, wanted) if found.id is not None}
    if missing := wanted - types.keys():
        raise NotFoundError(f"there is no {kind.word} type with id {min(missing)}", mend="Put the type first.")
    return types


# Changes


def _change(
    transaction: Transaction, kind: Kind, nodes: Sequence[Node], *, now_us: int, mask: frozenset[str], touch: bool
) -> None:
    wanted = [node.id for node in nodes if node.id is not None]
    stored = {found.id: found for found in nodes_by_id(transaction, kind, wanted)}
    types = {
        found.id: found
        for found in types_by_id(transaction, kind, {node.type_id for node in stored.values() if node.type_id})
    }
    for node in nodes:
        before = stored.get(node.id)
        if before is None:
            raise InvalidSpecError(
                f"Cannot find the given id {node.id}", where=kind.word, mend="Leave the id out to add a new one."
            )
        if node.type_id is not None and node.type_id != before.type_id:
            raise InvalidSpecError(
                f"Given type_id {node.type_id} is different from the one known before: {before.type_id}",
                where=f"{kind.word} {node.id}",
                mend="Leave the type out; it never changes.",
            )
        after = _after(kind, before, node, mask)
        _check(kind, after)
        check_properties(
            types[before.type_id],
            {name: after.properties[name] for name in _touched(node, mask) & after.properties.keys()},
        )
        check_custom(after.custom)
        if _is_same(after, before) and not touch:
            continue
        after = msgspec.structs.replace(after, updated_us=max(now_us, before.updated_us + MILLISECOND))
        _write(transaction, kind, before, after)
        stored[node.id] = after


def _touched(node: Node, mask: frozenset[str]) -> set[str]:
    """The properties that a change is about."""
    if not mask or "properties" in mask:
        return set(node.properties)
    return {path.partition(".")[2] for path in mask if path.startswith("properties.")}


def _after(kind: Kind, before: Node, given: Node, mask: frozenset[str]) -> Node:
    """The node as it will be."""
    fields = {"external_id": given.external_id or None, "uri": given.uri, "state": given.state}
    if kind is Kind.CONTEXT:
        fields["name"] = given.name or None
    if mask:
        names = {"last_known_state" if kind is Kind.EXECUTION else "state": "state"}
        meant = {names.get(path, path) for path in mask}
        fields = {name: value for name, value in fields.items() if name in meant}
    return msgspec.structs.replace(
        before,
        **fields,
        properties=_after_values(before.properties, given.properties, mask, "properties"),
        custom=_after_values(before.custom, given.custom, mask, "custom_properties"),
    )


def _after_values(before: Values, given: Values, mask: frozenset[str], field: str) -> Values:
    if not mask or field in mask:
        return given
    after = dict(before)
    for path in mask:
        place, _, name = path.partition(".")
        if place == field and name:
            after.pop(name, None)
            if name in given:
                after[name] = given[name]
    return after


def _write(transaction: Transaction, kind: Kind, before: Node, after: Node) -> None:
    """Bring the row of a node and its properties to what they shall be."""
    assert after.id is not None
    columns = ("name", "external_id", "uri", "state", "updated_us")
    row = {column: getattr(after, column) for column in columns}
    try:
        transaction.execute(update(graph_nodes).where(graph_nodes.c.id == after.id).values(**row))
    except IntegrityError as error:
        raise _taken(kind, error) from error
    for is_custom, old, new in (
        (False, before.properties, after.properties),
        (True, before.custom, after.custom),
    ):
        gone = [name for name in old if name not in new or not _are_same(old[name], new[name])]
        if gone:
            mine = (graph_properties.c.node_id == after.id, graph_properties.c.is_custom == is_custom)
            transaction.execute(delete(graph_properties).where(*mine, graph_properties.c.name.in_(gone)))
        written = {name: value for name, value in new.items() if name not in old or name in gone}
        if written:
            transaction.execute(insert(graph_properties), list(property_rows(after.id, written, is_custom=is_custom)))


def _is_same(one: Node, other: Node) -> bool:
    pairs = ((one.properties, other.properties), (one.custom, other.custom))
    return one == other and all(_are_same(mine[name], theirs[name]) for mine, theirs in pairs for name in mine)


def _are_same(one: Value | None, other: Value | None) -> bool:
    return one == other and type(one) is type(other)  # True, 1 and 1.0 are equal


# Checks


def _check(kind: Kind, node: Node) -> None:
    if kind is Kind.CONTEXT and not node.name:
        raise InvalidSpecError("Context name should not be empty", where="name", mend="Give the context a name.")
    check_text(node.name, where="name")
    check_text(node.external_id, where="external_id")
    check_text(node.uri, where="uri", most=LONGEST_ADDRESS)


def _taken(kind: Kind, error: IntegrityError) -> ExistsError:
    what = "external id" if "external_id" in str(error.orig) else "name in its type"
    return ExistsError(f"another {kind.word} has this {what}", mend="Give it another one, or its id to change it.")
