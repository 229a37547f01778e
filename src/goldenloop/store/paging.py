"""Lists in pages: filtered, sorted, and gone on with where the page before ended, whatever came in between.

A page begins after the last row of the one before (by the field that it is sorted by, then by id), never at a count of rows, so
every page costs the same and rows that come or go shift nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import BigInteger, ColumnElement, Row, func, select, tuple_

from goldenloop.core.errors import InvalidSpecError
from goldenloop.standards.documents import near_miss
from goldenloop.standards.kfp_listing import (
    DEFAULT_PAGE,
    LARGEST_PAGE,
    Moment,
    Operation,
    Order,
    PageToken,
    Predicate,
    moment_of,
    read_filter,
    read_order,
    read_token,
    write_token,
)
from goldenloop.store.database import Transaction

Fields = Mapping[str, ColumnElement[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A list that can be asked for: its columns by the names that callers use, and which of them are moments."""

    identity: ColumnElement[str]
    fields: Fields
    moments: frozenset[str] = frozenset()
    # Documents whose members can be asked for as `NAME.MEMBER`.
    documents: Fields = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a caller asks of a list, in KFP's words. A page size of 0 is the default."""

    page_size: int = 0
    page_token: str = ""
    sort_by: str = ""
    filter: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of a list, the size of the whole, and the token of the next page, empty where there is none."""

    rows: Sequence[Row[tuple[object, ...]]]
    total: int
    next_token: str


def read_page(
    transaction: Transaction,
    listing: Listing,
    columns: Sequence[ColumnElement[object]],
    asked: Asked,
    *,
    where: Sequence[ColumnElement[bool]] = (),
) -> Page:
    """Return one page of the rows for which `where` and the filter hold. Raises InvalidSpecError for what cannot be asked."""
    if asked.page_size < 0:
        raise InvalidSpecError(
            f"{asked.page_size} is not the size of a page", where="page_size", mend="Give 1 or more."
        )
    size = min(asked.page_size or DEFAULT_PAGE, LARGEST_PAGE)
    token = read_token(asked.page_token) if asked.page_token else None
    order, text = (token.order, token.filter) if token is not None else (read_order(asked.sort_by), asked.filter)
    if token is not None and (asked.filter not in ("", text) or (asked.sort_by and read_order(asked.sort_by) != order)):
        raise InvalidSpecError(
            "the page token belongs to another filter or order", where="page_token", mend="Ask as for the first page."
        )
    holds = [*where, *(_condition(listing, predicate) for predicate in read_filter(text))]
    sorted_by = _sort_column(listing, order)
    query = select(*columns, sorted_by.label("_sorted_by"), listing.identity.label("_identity")).where(*holds)
    if token is not None:
        place, last = tuple_(sorted_by, listing.identity), tuple_(token.value, token.identity)
        query = query.where(place < last if order.descending else place > last)
    for column in (sorted_by, listing.identity):
        query = query.order_by(column.desc() if order.descending else column.asc())
    found: list[Row[tuple[object, ...]]] = list(transaction.execute(query.limit(size + 1)))
    rows = found[:size]
    total = transaction.scalar(select(func.count()).select_from(select(listing.identity).where(*holds).subquery()))
    following = ""
    if len(found) > size:
        last_row = rows[-1]._mapping
        following = write_token(
            PageToken(order=order, filter=text, value=last_row["_sorted_by"], identity=last_row["_identity"])
        )
    return Page(rows=rows, total=total or 0, next_token=following)


def _sort_column(listing: Listing, order: Order) -> ColumnElement[object]:
    column = listing.fields.get(order.key)
    if column is None:
        raise _unknown(order.key, listing, "sort_by")
    if getattr(column, "nullable", False):
        # What has no value yet comes first, and can be gone on from.
        return func.coalesce(column, 0 if isinstance(column.type, BigInteger) else "")
    return column


def _condition(listing: Listing, predicate: Predicate) -> ColumnElement[bool]:
    column = listing.fields.get(predicate.key)
    if column is None:
        document, _, member = predicate.key.partition(".")
        if document not in listing.documents or not member:
            raise _unknown(predicate.key, listing, "filter")
        column = listing.documents[document][member].as_string()
    if predicate.key in listing.moments:
        values: list[str | int] = [moment_of(value, f"filter: {predicate.key}") for value in predicate.values]
    elif any(isinstance(value, Moment) for value in predicate.values):
        raise InvalidSpecError("it is not a time", where=f"filter: {predicate.key}", mend="Compare it with a text.")
    else:
        values = [str(value) for value in predicate.values]
    value = values[0] if values else ""
    match predicate.operation:
        case Operation.EQUALS:
            return column == value
        case Operation.NOT_EQUALS:
            return column.is_distinct_from(value)
        case Operation.GREATER_THAN:
            return column > value
        case Operation.GREATER_THAN_EQUALS:
            return column >= value
        case Operation.LESS_THAN:
            return column < value
        case Operation.LESS_THAN_EQUALS:
            return column <= value
        case Operation.IN:
            return column.in_(values)
        case Operation.IS_SUBSTRING:
            return column.icontains(str(value), autoescape=True)


def _unknown(key: str, listing: Listing, where: str) -> InvalidSpecError:
    hint = near_miss(key, list(listing.fields)) or f"Known: {', '.join(sorted(listing.fields))}."
    return InvalidSpecError(f"there is no field {key!r}", where=where, mend=hint)
