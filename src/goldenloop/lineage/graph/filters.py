"""A filter's tree → a condition of SQL on `graph_nodes`.

What may be named: the fields of the node; `properties.NAME.KIND_value` and `custom_properties.NAME.KIND_value`; and, under names that the
caller makes up (`contexts_a`, `events_0`), what the node is linked to. All that is said of one such name holds for the same neighbour.
A node that has no neighbour or property of a kind that the filter names is not found, whatever the filter says of it: that is ML Metadata's
rule too, whose filters join. Texts are compared exactly, by LIKE too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Double,
    FromClause,
    and_,
    false,
    literal,
    not_,
    or_,
    select,
    true,
)

from goldenloop.core.errors import InvalidSpecError
from goldenloop.lineage.graph.records import MILLISECOND, Kind
from goldenloop.standards.mlmd.entities import ENUMS
from goldenloop.standards.mlmd.filter_query import (
    All,
    Any,
    Compare,
    Condition,
    In,
    IsNull,
    Like,
    Literal,
    Name,
    Not,
    Operand,
    Truth,
)
from goldenloop.store.tables import (
    graph_events,
    graph_members,
    graph_nodes,
    graph_parents,
    graph_properties,
    graph_types,
)

MOST_NEIGHBOURS: Final = 20  # neighbours and properties that one filter names; each is a table to look at

_Sql: TypeAlias = ColumnElement[object]
_ENUMERATIONS: Final = {
    "state": ENUMS["Artifact.State"],
    "last_known_state": ENUMS["Execution.State"],
    "event": ENUMS["Event.Type"],
}
_COMPARE: Final[dict[str, Callable[[_Sql, _Sql], ColumnElement[bool]]]] = {
    "=": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}
_VALUES: Final = {"int_value": "number", "double_value": "number", "string_value": "text", "bool_value": "truth"}
_NEIGHBOURS: Final = {
    Kind.ARTIFACT: ("contexts", "events"),
    Kind.EXECUTION: ("contexts", "events"),
    Kind.CONTEXT: ("artifacts", "executions", "parent_contexts", "child_contexts"),
}


class _Term(msgspec.Struct, frozen=True):
    """An operand in SQL. Its type is number, text or truth, or the enumeration of which it is."""

    sql: _Sql
    type: str


def filter_condition(kind: Kind, condition: Condition, *, dialect: str) -> ColumnElement[bool]:
    """The condition in SQL. Raises InvalidSpecError for names that are not there and for comparisons that make no sense."""
    scope = _Scope(kind, graph_nodes, dialect)
    wanted = scope.condition(condition)
    if not scope.joined:
        return wanted
    # Neighbours are many for one node, and whichever of them fits will do. By itself, the query may begin where the fewest are.
    base = graph_nodes.alias()
    scope = _Scope(kind, base, dialect)
    wanted = scope.condition(condition)
    found = select(base.c.id).select_from(base, *scope.joined).where(base.c.kind == kind.value, *scope.links, wanted)
    return graph_nodes.c.id.in_(found)


class _Scope:
    """The tables that a filter looks at beside the node's own."""

    def __init__(self, kind: Kind, base: FromClause, dialect: str) -> None:
        self._kind = kind
        self._base = base
        self._dialect = dialect
        self.joined: list[FromClause] = []
        self.links: list[ColumnElement[bool]] = []
        self._tables: dict[tuple[str, ...], dict[str, _Term]] = {}

    def condition(self, given: Condition) -> ColumnElement[bool]:
        match given:
            case All():
                return and_(*(self.condition(each) for each in given.conditions))
            case Any():
                return or_(*(self.condition(each) for each in given.conditions))
            case Not():
                return not_(self.condition(given.condition))
            case Compare():
                return self._compare(given)
            case In():
                return self._in(given)
            case Like():
                return self._like(given)
            case IsNull():
                term = self._term(given.operand)
                return term.sql.is_not(None) if given.negated else term.sql.is_(None)
            case Truth():
                term = self._term(given.operand)
                if term.type != "truth":
                    raise _wrong(
                        f"{_text(given.operand)} is neither true nor false by itself", "Compare it with something."
                    )
                return term.sql == true()

    def _compare(self, given: Compare) -> ColumnElement[bool]:
        left, right = self._pair(given.left, given.right)
        made = _COMPARE[given.operator](left.sql, right.sql)
        if given.operator == "!=" and left.type in _ENUMERATIONS:
            return or_(made, left.sql.is_(None))  # a state that was never said is not that state
        return made

    def _in(self, given: In) -> ColumnElement[bool]:
        pairs = [self._pair(given.operand, option) for option in given.options]
        left = pairs[0][0]
        made = left.sql.in_([right.sql for _, right in pairs])
        if not given.negated:
            return made
        return or_(not_(made), left.sql.is_(None)) if left.type in _ENUMERATIONS else not_(made)

    def _like(self, given: Like) -> ColumnElement[bool]:
        term = self._term(given.operand)
        if term.type != "text" or not isinstance(given.pattern, Literal) or not isinstance(given.pattern.value, str):
            raise _wrong("LIKE is between a text and a pattern that is written out", "Write: name LIKE 'run-%'.")
        pattern = given.pattern.value
        if self._dialect == "sqlite":
            made = term.sql.op("GLOB", is_comparison=True, return_type=Boolean())(_glob(pattern))
        else:
            made = term.sql.like(
                re.sub(r"(\\.)|\\\Z", lambda found: found[1] or "\\\\", pattern, flags=re.DOTALL), escape="\\"
            )
        return not_(made) if given.negated else made

    def _pair(self, left: Operand, right: Operand) -> tuple[_Term, _Term]:
        """Two operands that are compared. Raises InvalidSpecError where they cannot be."""
        first = self._term(left, beside=right)
        second = self._term(right, beside=left)
        if first.type != second.type:
            raise _wrong(
                f"{_text(left)} cannot be compared with {_text(right)}",
                "Compare numbers with numbers, texts with texts, states with their names.",
            )
        return first, second

    def _term(self, given: Operand, *, beside: Operand | None = None) -> _Term:
        if isinstance(given, Literal):
            return _literal(given)
        field = self._field(given.path)
        if field is not None:
            return field
        other = self._field(beside.path) if isinstance(beside, Name) else None
        if other is not None and other.type in _ENUMERATIONS:
            values = _ENUMERATIONS[other.type]
            if len(given.path) == 1 and given.path[0] in values:
                return _Term(literal(values.index(given.path[0])), other.type)
            raise _wrong(f"Unsupported enum value: {_text(given)}", f"Give one of {', '.join(values)}.")
        known = ", ".join(
            [*_fields(self._kind), "properties.NAME.int_value", *(f"{each}_NAME.…" for each in _NEIGHBOURS[self._kind])]
        )
        raise _wrong(f"an {self._kind.word} has no {_text(given)}", f"There is {known}.")

    def _field(self, path: tuple[str, ...]) -> _Term | None:
        if len(path) == 1:
            return _node_fields(self._kind, self._base).get(path[0])
        if len(path) == 3 and path[0] in ("properties", "custom_properties"):
            return self._table(path[:2], self._property).get(path[2])
        for prefix in _NEIGHBOURS[self._kind]:
            if len(path) == 2 and path[0].startswith(f"{prefix}_"):
                return self._table((prefix, path[0]), self._neighbour).get(path[1])
        return None

    def _table(self, key: tuple[str, ...], make: Callable[[tuple[str, ...]], dict[str, _Term]]) -> dict[str, _Term]:
        if key not in self._tables:
            if len(self._tables) >= MOST_NEIGHBOURS:
                raise _wrong(f"it names more than {MOST_NEIGHBOURS} neighbours and properties", "Ask for less at once.")
            self._tables[key] = make(key)
        return self._tables[key]

    def _property(self, key: tuple[str, ...]) -> dict[str, _Term]:
        table = graph_properties.alias()
        self.joined.append(table)
        is_custom = true() if key[0] == "custom_properties" else false()
        self.links += [table.c.node_id == self._base.c.id, table.c.is_custom == is_custom, table.c.name == key[1]]
        return {name: _Term(table.c[name], kind) for name, kind in _VALUES.items()}

    def _neighbour(self, key: tuple[str, ...]) -> dict[str, _Term]:
        if key[0] == "events":
            return self._event()
        node, link = graph_nodes.alias(), (graph_members if "_" not in key[0] else graph_parents).alias()
        mine, other = {
            "contexts": ("node_id", "context_id"),
            "artifacts": ("context_id", "node_id"),
            "executions": ("context_id", "node_id"),
            "parent_contexts": ("child_id", "parent_id"),
            "child_contexts": ("parent_id", "child_id"),
        }[key[0]]
        kind = {"artifacts": Kind.ARTIFACT, "executions": Kind.EXECUTION}.get(key[0], Kind.CONTEXT)
        self.joined += [link, node]
        self.links += [link.c[mine] == self._base.c.id, link.c[other] == node.c.id, node.c.kind == kind.value]
        return _node_fields(kind, node)

    def _event(self) -> dict[str, _Term]:
        table = graph_events.alias()
        self.joined.append(table)
        mine, other = (
            ("artifact_id", "execution_id") if self._kind is Kind.ARTIFACT else ("execution_id", "artifact_id")
        )
        self.links.append(table.c[mine] == self._base.c.id)
        return {
            other: _Term(table.c[other], "number"),
            "type": _Term(table.c.type, "event"),
            "milliseconds_since_epoch": _Term(table.c.milliseconds, "number"),
        }


def _fields(kind: Kind) -> tuple[str, ...]:
    own = {Kind.ARTIFACT: ("uri", "state"), Kind.EXECUTION: ("last_known_state",), Kind.CONTEXT: ()}[kind]
    return (
        "id",
        "type_id",
        "type",
        "name",
        "external_id",
        "create_time_since_epoch",
        "last_update_time_since_epoch",
        *own,
    )


def _node_fields(kind: Kind, node: FromClause) -> dict[str, _Term]:
    fields = {
        "id": _Term(node.c.id, "number"),
        "type_id": _Term(node.c.type_id, "number"),
        "type": _Term(_type_name(node), "text"),
        "name": _Term(node.c.name, "text"),
        "external_id": _Term(node.c.external_id, "text"),
        "create_time_since_epoch": _Term(node.c.created_us.op("/")(MILLISECOND), "number"),
        "last_update_time_since_epoch": _Term(node.c.updated_us.op("/")(MILLISECOND), "number"),
        "uri": _Term(node.c.uri, "text"),
        "state": _Term(node.c.state, "state"),
        "last_known_state": _Term(node.c.state, "last_known_state"),
    }
    return {name: fields[name] for name in _fields(kind)}


def _type_name(node: FromClause) -> _Sql:
    types = graph_types.alias()
    return select(types.c.name).where(types.c.id == node.c.type_id).correlate(node).scalar_subquery()


def _literal(given: Literal) -> _Term:
    value = given.value
    if value is None:
        raise _wrong("nothing is equal to NULL", "Write: IS NULL, or IS NOT NULL.")
    if isinstance(value, bool):
        return _Term(literal(value, Boolean()), "truth")
    if isinstance(value, str):
        return _Term(literal(value), "text")
    return _Term(literal(value, BigInteger() if isinstance(value, int) else Double()), "number")


def _glob(pattern: str) -> str:
    """A pattern of LIKE as one of GLOB, which tells capitals apart."""
    wild = {"%": "*", "_": "?"}
    parts = re.findall(r"\\?.", pattern, flags=re.DOTALL)
    return "".join(wild[part] if part in wild else f"[{part[-1]}]" if part[-1] in "*?[" else part[-1] for part in parts)


def _text(given: Operand) -> str:
    return ".".join(given.path) if isinstance(given, Name) else repr(given.value)


def _wrong(what: str, mend: str) -> InvalidSpecError:
    return InvalidSpecError(what, where="filter_query", mend=mend)
