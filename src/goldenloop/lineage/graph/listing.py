"""Pages of nodes: in an order, after a place, under a condition.

A page's token says where the next one begins: the order, and the last node's place in it. What is added while somebody leafs through
appears where the order puts it; nothing is shown twice for that.
"""

from __future__ import annotations

import base64
import binascii
from enum import IntEnum
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, select, tuple_

from goldenloop.core.errors import InvalidSpecError
from goldenloop.lineage.graph.filters import filter_condition
from goldenloop.lineage.graph.nodes import nodes_by_id
from goldenloop.lineage.graph.records import Kind, Node
from goldenloop.standards.mlmd.filter_query import parse_filter
from goldenloop.store.database import Transaction
from goldenloop.store.tables import graph_nodes

LARGEST_PAGE: Final = 100
MOST_UNPAGED: Final = 100_000  # nodes that are answered to who asks for all of them at once


class Order(IntEnum):
    """By what nodes are ordered; equal ones by id."""

    CREATED = 1
    UPDATED = 2
    ID = 3


_COLUMNS: Final = {
    Order.CREATED: graph_nodes.c.created_us,
    Order.UPDATED: graph_nodes.c.updated_us,
    Order.ID: graph_nodes.c.id,
}


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for. A size above `LARGEST_PAGE` is that."""

    size: int = LARGEST_PAGE
    order: Order = Order.ID
    ascending: bool = True
    token: str = ""
    filter_query: str = ""


class _Place(msgspec.Struct, frozen=True, array_like=True):
    order: Order
    ascending: bool
    value: int
    id: int


def list_nodes(
    transaction: Transaction, kind: Kind, page: Page | None, *where: ColumnElement[bool]
) -> tuple[list[Node], str]:
    """A page of the nodes for which all this holds, and the token of the next one, empty for the last. No page means all of them.

    Raises InvalidSpecError, also where there are more than `MOST_UNPAGED` and no page is given.
    """
    conditions = [_of_kind(kind, filtered=page is not None and bool(page.filter_query)), *where]
    if page is None:
        ids = list(transaction.scalars(select(graph_nodes.c.id).where(*conditions).limit(MOST_UNPAGED + 1)))
        if len(ids) > MOST_UNPAGED:
            raise InvalidSpecError(
                f"there are more than {MOST_UNPAGED}", where="options", mend="Ask for pages of them."
            )
        return nodes_by_id(transaction, kind, ids), ""
    if page.size <= 0:
        raise InvalidSpecError(
            f"max_result_size is {page.size}", where="options", mend=f"Give a number from 1 to {LARGEST_PAGE}."
        )
    if page.filter_query:
        conditions.append(filter_condition(kind, parse_filter(page.filter_query), dialect=transaction.dialect.name))
    size = min(page.size, LARGEST_PAGE)
    column = _COLUMNS[page.order]
    by = [graph_nodes.c.id] if page.order is Order.ID else [column, graph_nodes.c.id]
    if page.token:
        place = _place(page)
        last = [place.id] if page.order is Order.ID else [place.value, place.id]
        left, right = tuple_(*by), tuple_(*last)
        conditions.append(left > right if page.ascending else left < right)
    query = select(graph_nodes.c.id, column.label("value")).where(*conditions)
    rows = transaction.execute(
        query.order_by(*(each.asc() if page.ascending else each.desc() for each in by)).limit(size + 1)
    ).all()
    found = {node.id: node for node in nodes_by_id(transaction, kind, [row.id for row in rows[:size]])}
    nodes = [found[row.id] for row in rows[:size]]
    if len(rows) <= size:
        return nodes, ""
    after = _Place(page.order, page.ascending, rows[size - 1].value, rows[size - 1].id)
    return nodes, base64.urlsafe_b64encode(msgspec.json.encode(after)).decode()


def node_ids(
    transaction: Transaction, kind: Kind, filter_query: str, *, most: int, among: list[int] | None = None
) -> list[int]:
    """The ids of at most so many nodes that pass a filter, by id; `among` says which may. Raises InvalidSpecError."""
    condition = filter_condition(kind, parse_filter(filter_query), dialect=transaction.dialect.name)
    query = select(graph_nodes.c.id).where(_of_kind(kind, filtered=True), condition)
    if among is not None:
        query = query.where(graph_nodes.c.id.in_(among))
    return list(transaction.scalars(query.order_by(graph_nodes.c.id).limit(most)))


def _of_kind(kind: Kind, *, filtered: bool) -> ColumnElement[bool]:
    """The kind, said so that a filter's own index is taken where it has one.

    SQLite knows nothing of how many rows an index leaves, and would go through all artifacts in their order. Contexts are few.
    """
    column = graph_nodes.c.kind + 0 if filtered and kind is not Kind.CONTEXT else graph_nodes.c.kind
    return column == kind.value


def _place(page: Page) -> _Place:
    """Where a token says that a page begins. Raises InvalidSpecError where it is none, or of another order."""
    try:
        place = msgspec.json.decode(base64.urlsafe_b64decode(page.token.encode()), type=_Place)
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise InvalidSpecError(
            "it is no token of a page", where="next_page_token", mend="Send it as it came, or leave it out."
        ) from error
    if (place.order, place.ascending) != (page.order, page.ascending):
        raise InvalidSpecError(
            "it belongs to another order", where="next_page_token", mend="Ask for every page in the same order."
        )
    return place
