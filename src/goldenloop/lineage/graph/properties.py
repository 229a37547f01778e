"""Properties of nodes: those that the type declares, whose values have the declared type, and custom ones, which are free."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from sqlalchemy import select

from goldenloop.core.errors import InvalidSpecError
from goldenloop.lineage.graph.records import (
    LARGEST_VALUE,
    MOST_PROPERTIES,
    NodeType,
    Packed,
    PropertyType,
    Value,
    Values,
    check_text,
    kind_of_value,
)
from goldenloop.store.database import Transaction
from goldenloop.store.tables import graph_properties

_PIECE: Final = 1_000  # nodes that one query names
_ROW: dict[str, object] = {
    "int_value": None,
    "double_value": None,
    "string_value": None,
    "bool_value": None,
    "message": None,
}
_COLUMN: Final = {
    PropertyType.INT: "int_value",
    PropertyType.DOUBLE: "double_value",
    PropertyType.STRING: "string_value",
    PropertyType.BOOLEAN: "bool_value",
    PropertyType.STRUCT: "message",
    PropertyType.PROTO: "message",
}


def check_properties(node_type: NodeType, values: Values) -> None:
    """Raise InvalidSpecError for a property that the type does not have, or a value of another type than it says."""
    for name, value in values.items():
        declared = node_type.properties.get(name)
        if declared is None:
            raise InvalidSpecError(
                f"Found unknown property: {name}",
                where=f"type {node_type.name}",
                mend="Add it to the type, or make it a custom property.",
            )
        if value is None or kind_of_value(value) != declared:
            raise InvalidSpecError(
                f"Found unmatched property type: {name}",
                where=f"type {node_type.name}",
                mend=f"Its values are of type {PropertyType(declared).name}.",
            )
    _check_sizes(values, where="properties")


def check_custom(values: Values) -> None:
    """Raise InvalidSpecError for a property without a value, or one that is too large."""
    for name, value in values.items():
        if value is None:
            raise InvalidSpecError(
                f"Found unmatched property type: {name}",
                where="custom_properties",
                mend="Give it a value, or leave it out.",
            )
    _check_sizes(values, where="custom_properties")


def property_rows(node_id: int, values: Values, *, is_custom: bool) -> Iterator[dict[str, object]]:
    """The rows of a node's properties."""
    for name, value in values.items():
        assert value is not None
        kind = kind_of_value(value)
        content = value.content if isinstance(value, Packed) else value
        yield {
            **_ROW,
            "node_id": node_id,
            "is_custom": is_custom,
            "name": name,
            "kind": kind.value,
            _COLUMN[kind]: content,
        }


def read_properties(
    transaction: Transaction, ids: Sequence[int]
) -> dict[int, tuple[dict[str, Value], dict[str, Value]]]:
    """The declared and the custom properties of nodes; who has none is not in it."""
    found: defaultdict[int, tuple[dict[str, Value], dict[str, Value]]] = defaultdict(lambda: ({}, {}))
    for begin in range(0, len(ids), _PIECE):
        query = select(graph_properties).where(graph_properties.c.node_id.in_(ids[begin : begin + _PIECE]))
        for row in transaction.execute(query):
            found[row.node_id][row.is_custom][row.name] = _value(row.kind, row)
    return found


def _value(kind: int, row: object) -> Value:
    value: Value = getattr(row, _COLUMN[PropertyType(kind)])
    if kind in (PropertyType.STRUCT, PropertyType.PROTO):
        assert isinstance(value, bytes)
        return Packed(PropertyType(kind), value)
    return value


def _check_sizes(values: Values, *, where: str) -> None:
    if len(values) > MOST_PROPERTIES:
        raise InvalidSpecError(f"a node has at most {MOST_PROPERTIES} of them", where=where)
    for name, value in values.items():
        check_text(name, where=where)
        if isinstance(value, str):
            check_text(value, where=f"{where}.{name}", most=LARGEST_VALUE)
        elif isinstance(value, Packed) and len(value.content) > LARGEST_VALUE:
            raise InvalidSpecError(
                f"it has more than {LARGEST_VALUE} bytes", where=f"{where}.{name}", mend="Keep it in an artifact."
            )
