"""Searches: comparisons and orders of MLflow's filter language as SQL, and pages of what they find.

A page begins after the last row of the one before, by all that it is sorted by and the id at last, so that rows that come or go
shift nothing. Values only ever reach the database as parameters.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from sqlalchemy import (
    ColumnElement,
    Float,
    FromClause,
    Integer,
    Numeric,
    Row,
    Select,
    and_,
    case,
    exists,
    func,
    or_,
)

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.ids import digest_text
from goldenloop.standards.mlflow.filters import (
    Comparison,
    Entity,
    Operator,
    Ordering,
    Vocabulary,
    holds,
    read_filter,
    read_orders,
)
from goldenloop.store.database import Transaction
from goldenloop.store.tracking_tables import tracked_datasets, tracked_inputs, tracked_params, tracked_tags

_NUMBERS = (Integer, Float, Numeric)


@dataclass(frozen=True, slots=True, kw_only=True)
class Searchable:
    """A kind of thing that can be searched for. `owner` is its id as tags and params know it; `metrics` has columns
    `key`, `value`, `is_nan` and the one in `measured`, which is the same id.
    """

    vocabulary: Vocabulary
    attributes: Mapping[str, ColumnElement[object]]
    tag_kind: str
    owner: ColumnElement[str]
    default: tuple[
        tuple[ColumnElement[object], bool], ...
    ]  # what to sort by at last, and whether downwards; ends with the id
    metrics: FromClause | None = None
    measured: str = ""
    run: ColumnElement[str] | None = None  # what inputs know it by
    assumed: Mapping[str, str] = field(default_factory=dict)  # tags that are as good as there, with these values
    largest_page: int = 1_000


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asks for."""

    filter: str = ""
    order_by: Sequence[str] = ()
    max_results: int
    page_token: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A page, and the token of the next one, empty where there is none."""

    rows: Sequence[Row[tuple[object, ...]]]
    next_token: str


class _Token(msgspec.Struct, frozen=True, array_like=True):
    question: str
    values: list[str | int | float]


@dataclass(slots=True)
class _Query:
    """A statement in the making: what is sorted by, and the tables that it takes."""

    terms: list[tuple[ColumnElement[object], bool]] = field(default_factory=list)
    joins: list[tuple[FromClause, ColumnElement[bool]]] = field(default_factory=list)


def search(
    transaction: Transaction,
    searchable: Searchable,
    columns: Select[tuple[object, ...]],
    question: Question,
    *,
    where: Sequence[ColumnElement[bool]],
    scope: str = "",
) -> Found:
    """A page of what fits. `scope` says in words what `where` holds, so that a token of another search is told apart.

    Raises InvalidSpecError for a filter, an order, a size or a token that is wrong.
    """
    if not 1 <= question.max_results <= searchable.largest_page:
        raise InvalidSpecError(
            f"{question.max_results} is no size of a page",
            where="max_results",
            mend=f"Ask for 1 to {searchable.largest_page}.",
        )
    comparisons = read_filter(question.filter, searchable.vocabulary)
    orderings = read_orders(question.order_by, searchable.vocabulary)
    query = _Query()
    for ordering in orderings:
        _sort(query, searchable, ordering)
    query.terms += searchable.default
    statement = columns.where(*where, *(condition(transaction, searchable, each) for each in comparisons))
    for table, on in query.joins:
        statement = statement.outerjoin(table, on)
    asked = digest_text(question.filter, *question.order_by, scope)[:16]
    if question.page_token:
        statement = statement.where(_after(query.terms, _values(question.page_token, asked)))
    statement = statement.add_columns(*(term.label(f"_sorted_{place}") for place, (term, _) in enumerate(query.terms)))
    statement = statement.order_by(*(term.desc() if downwards else term.asc() for term, downwards in query.terms))
    rows = list(transaction.execute(statement.limit(question.max_results + 1)))
    token = ""
    if len(rows) > question.max_results:
        rows.pop()
        last = [rows[-1]._mapping[f"_sorted_{place}"] for place in range(len(query.terms))]
        token = base64.urlsafe_b64encode(msgspec.msgpack.encode(_Token(asked, last))).decode()
    return Found(rows, token)


def condition(transaction: Transaction, searchable: Searchable, comparison: Comparison) -> ColumnElement[bool]:
    """One comparison as SQL. What a thing does not have is not equal to anything, and not unequal either."""
    key = comparison.key
    match comparison.entity:
        case Entity.ATTRIBUTE:
            return _compare(transaction, searchable.attributes[key], comparison)
        case Entity.METRIC:
            table = searchable.metrics
            assert table is not None  # the vocabulary has metrics only where there is one
            fitting = _compare(transaction, table.c.value, comparison)
            return exists().where(
                table.c[searchable.measured] == searchable.owner, table.c.key == key, table.c.is_nan.is_(False), fitting
            )
        case Entity.PARAM:
            mine = and_(tracked_params.c.owner == searchable.owner, tracked_params.c.key == key)
            return _has(transaction, mine, tracked_params.c.value, comparison)
        case Entity.TAG:
            mine = and_(
                tracked_tags.c.kind == searchable.tag_kind,
                tracked_tags.c.owner == searchable.owner,
                tracked_tags.c.key == key,
            )
            fits = _has(transaction, mine, tracked_tags.c.value, comparison)
            if key in searchable.assumed and holds(comparison, searchable.assumed[key]):
                return or_(fits, ~exists().where(mine))
            return fits
        case Entity.DATASET:
            column = tracked_inputs.c.context if key == "context" else tracked_datasets.c[key]
            return exists().where(
                tracked_inputs.c.run_id == searchable.run,
                tracked_datasets.c.id == tracked_inputs.c.dataset_id,
                _compare(transaction, column, comparison),
            )


def _has(
    transaction: Transaction, mine: ColumnElement[bool], value: ColumnElement[object], comparison: Comparison
) -> ColumnElement[bool]:
    if comparison.operator is Operator.IS_NULL:
        return ~exists().where(mine)
    if comparison.operator is Operator.IS_NOT_NULL:
        return exists().where(mine)
    return exists().where(mine, _compare(transaction, value, comparison))


def _compare(transaction: Transaction, column: ColumnElement[object], comparison: Comparison) -> ColumnElement[bool]:
    value = comparison.value
    match comparison.operator:
        case Operator.EQUALS:
            return column == value
        case Operator.NOT_EQUALS:
            return column != value
        case Operator.LESS:
            return column < value
        case Operator.AT_MOST:
            return column <= value
        case Operator.GREATER:
            return column > value
        case Operator.AT_LEAST:
            return column >= value
        case Operator.LIKE:
            if transaction.dialect.name == "sqlite":  # whose LIKE takes capitals for small letters
                return column.op("GLOB", is_comparison=True)(_glob(str(value)))
            return column.like(str(value).replace("\\", "\\\\"))
        case Operator.ILIKE:
            is_sqlite = transaction.dialect.name == "sqlite"
            return column.ilike(str(value) if is_sqlite else str(value).replace("\\", "\\\\"))
        case Operator.IN | Operator.NOT_IN:
            assert isinstance(value, tuple)
            return column.in_(value) if comparison.operator is Operator.IN else column.not_in(value)
    raise InvalidSpecError(f"this cannot be compared with {comparison.operator}", where="filter")


def _glob(pattern: str) -> str:
    """A pattern of LIKE as one of GLOB, which tells capitals from small letters."""
    signs = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
    return "".join(signs.get(sign, sign) for sign in pattern)


def _sort(query: _Query, searchable: Searchable, ordering: Ordering) -> None:
    """Add what this order sorts by: first whether there is a value at all, for what has none comes last, then the value."""
    match ordering.entity:
        case Entity.ATTRIBUTE:
            column = searchable.attributes[ordering.key]
            if not getattr(column, "nullable", True):
                query.terms.append((column, ordering.descending))
                return
            rank = case((column.is_(None), 1), else_=0)
        case Entity.METRIC:
            assert searchable.metrics is not None
            table = searchable.metrics.alias()
            query.joins.append(
                (table, and_(table.c[searchable.measured] == searchable.owner, table.c.key == ordering.key))
            )
            column = table.c.value
            rank = case((column.is_(None), 2), (table.c.is_nan.is_(True), 1), else_=0)
        case _:
            values = tracked_params.alias() if ordering.entity is Entity.PARAM else tracked_tags.alias()
            mine = and_(values.c.owner == searchable.owner, values.c.key == ordering.key)
            if ordering.entity is Entity.TAG:
                mine = and_(mine, values.c.kind == searchable.tag_kind)
            query.joins.append((values, mine))
            column = values.c.value
            rank = case((column.is_(None), 1), else_=0)
    nothing: object = 0 if isinstance(column.type, _NUMBERS) else ""
    query.terms += [(rank, False), (func.coalesce(column, nothing), ordering.descending)]


def _after(terms: Sequence[tuple[ColumnElement[object], bool]], values: Sequence[object]) -> ColumnElement[bool]:
    """Holds for the rows that come after the one with these values."""
    if len(values) != len(terms):
        raise _bad_token()
    choices = []
    for place, ((term, downwards), value) in enumerate(zip(terms, values, strict=True)):
        same = [earlier == given for (earlier, _), given in zip(terms[:place], values[:place], strict=True)]
        choices.append(and_(*same, term < value if downwards else term > value))
    return or_(*choices)


def _values(token: str, asked: str) -> list[str | int | float]:
    try:
        read = msgspec.msgpack.decode(base64.urlsafe_b64decode(token.encode()), type=_Token)
    except (binascii.Error, msgspec.DecodeError, ValueError):
        raise _bad_token() from None
    if read.question != asked:
        raise _bad_token()
    return read.values


def _bad_token() -> InvalidSpecError:
    return InvalidSpecError(
        "this is not a page token of this search",
        where="page_token",
        mend="Give the one that came with the page before.",
    )
