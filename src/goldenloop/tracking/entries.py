"""What Kubeflow's Model Registry keeps beside models and versions: artifacts, serving environments, inference services, serves.

An entry is a document under a kind and a parent. Within both a name is there once; an external id is there once in its kind.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Literal

import msgspec
from sqlalchemy import Column, ColumnElement, Row, Select, insert, or_, select, update

from goldenloop.core.errors import ConflictError, InvalidSpecError, NotFoundError
from goldenloop.core.ids import uuid7
from goldenloop.core.json import JsonObject
from goldenloop.standards.mlflow.limits import check_length
from goldenloop.store.database import Transaction, record_of
from goldenloop.store.tracking_tables import registry_entries

ARTIFACT, ENVIRONMENT, SERVICE, SERVE = "artifact", "serving_environment", "inference_service", "serve_model"
LARGEST_PAGE = 1_000
_LARGEST_DOCUMENT = 1 << 20  # bytes
_table = registry_entries


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `registry_entries`."""

    id: int
    kind: str
    parent_id: int
    name: str
    external_id: str | None
    document: JsonObject
    created_ms: int
    updated_ms: int


class Paging(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a list is asked for."""

    page_size: int = 100
    order_by: Literal["ID", "CREATE_TIME", "LAST_UPDATE_TIME"] = "ID"
    descending: bool = False
    token: str = ""


class _Place(msgspec.Struct, frozen=True, array_like=True):
    order: str
    value: int
    identity: int


def read_page(
    transaction: Transaction,
    statement: Select[tuple[object, ...]],
    columns: tuple[Column[int], Column[int], Column[int]],
    paging: Paging,
) -> tuple[Sequence[Row[tuple[object, ...]]], str]:
    """A page of a list and the token of the next. `columns` are the id, when it was made and when it changed. Raises InvalidSpecError."""
    if not 1 <= paging.page_size <= LARGEST_PAGE:
        raise InvalidSpecError("no such size of a page", where="pageSize", mend=f"Ask for 1 to {LARGEST_PAGE}.")
    identity = columns[0]
    by = columns[("ID", "CREATE_TIME", "LAST_UPDATE_TIME").index(paging.order_by)]
    order = f"{paging.order_by} {paging.descending}"
    if paging.token:
        place = _read_place(paging.token, order)
        before: ColumnElement[bool] = by < place.value if paging.descending else by > place.value
        later = identity < place.identity if paging.descending else identity > place.identity
        statement = statement.where(or_(before, (by == place.value) & later))
    statement = statement.add_columns(by.label("_by"), identity.label("_id"))
    statement = statement.order_by(*(each.desc() if paging.descending else each.asc() for each in (by, identity)))
    rows = list(transaction.execute(statement.limit(paging.page_size + 1)))
    if len(rows) <= paging.page_size:
        return rows, ""
    rows.pop()
    last = rows[-1]._mapping
    place = _Place(order, last["_by"], last["_id"])
    return rows, base64.urlsafe_b64encode(msgspec.msgpack.encode(place)).decode()


def create_entry(
    transaction: Transaction, kind: str, parent_id: int, name: str, external_id: str | None, document: JsonObject, *, now_ms: int
) -> Entry:  # fmt: skip
    """Keep an entry; without a name it gets one. Raises InvalidSpecError, ConflictError."""
    name = name or uuid7()
    check_length(name, 256, where="name")
    _check(document)
    taken = select(_table.c.id).where(_table.c.kind == kind, _table.c.parent_id == parent_id, _table.c.name == name)
    if transaction.scalar(taken) is not None:
        raise ConflictError(f"there is a {kind} {name[:100]!r} already", where="name", mend="Change that one.")
    _check_external(transaction, kind, external_id)
    values = {
        "kind": kind, "parent_id": parent_id, "name": name, "external_id": external_id, "document": document,
        "created_ms": now_ms, "updated_ms": now_ms,
    }  # fmt: skip
    made = transaction.execute(insert(_table).values(**values)).inserted_primary_key
    assert made is not None
    return get_entry(transaction, kind, int(made[0]))


def get_entry(transaction: Transaction, kind: str, identity: int) -> Entry:
    """The entry with this id. Raises NotFoundError."""
    row = transaction.execute(select(_table).where(_table.c.kind == kind, _table.c.id == identity)).first()
    if row is None:
        raise NotFoundError(f"there is no {kind} {identity}", where="id", mend="List them for their ids.")
    return record_of(row, Entry)


def find_entry(transaction: Transaction, kind: str, *, name: str, parent_id: int | None, external_id: str) -> Entry:
    """The entry of this external id, or of this name and parent. Raises NotFoundError."""
    query = select(_table).where(_table.c.kind == kind)
    if external_id:
        query = query.where(_table.c.external_id == external_id)
    else:
        query = query.where(_table.c.name == name)
        if parent_id is not None:
            query = query.where(_table.c.parent_id == parent_id)
    row = transaction.execute(query.limit(1)).first()
    if row is None:
        raise NotFoundError(f"there is no {kind} {(external_id or name)[:100]!r}", mend="List them.")
    return record_of(row, Entry)


def list_entries(transaction: Transaction, kind: str, parent_id: int | None, paging: Paging) -> tuple[list[Entry], str]:
    """A page of the entries of a kind, and of a parent where one is named. Raises InvalidSpecError."""
    query = select(*_table.c).where(_table.c.kind == kind)
    if parent_id is not None:
        query = query.where(_table.c.parent_id == parent_id)
    rows, token = read_page(transaction, query, (_table.c.id, _table.c.created_ms, _table.c.updated_ms), paging)
    return [record_of(row, Entry) for row in rows], token


def change_entry(
    transaction: Transaction, kind: str, identity: int, external_id: str | None, document: JsonObject, *, now_ms: int
) -> Entry:
    """Change the fields that are given. Raises NotFoundError, InvalidSpecError, ConflictError."""
    current = get_entry(transaction, kind, identity)
    merged = {**current.document, **document}
    _check(merged)
    changes: dict[str, object] = {"document": merged, "updated_ms": now_ms}
    if external_id is not None and external_id != current.external_id:
        _check_external(transaction, kind, external_id)
        changes["external_id"] = external_id
    transaction.execute(update(_table).where(_table.c.id == identity).values(**changes))
    return get_entry(transaction, kind, identity)


def _check(document: JsonObject) -> None:
    if len(msgspec.json.encode(document)) > _LARGEST_DOCUMENT:
        raise InvalidSpecError("it is larger than 1 MiB", where="body", mend="Keep large things in files.")


def _check_external(transaction: Transaction, kind: str, external_id: str | None) -> None:
    query = select(_table.c.id).where(_table.c.kind == kind, _table.c.external_id == external_id)
    if external_id is not None and transaction.scalar(query) is not None:
        raise ConflictError(f"the external id {external_id[:100]!r} is taken", where="externalId", mend="Give another.")


def _read_place(token: str, order: str) -> _Place:
    try:
        place = msgspec.msgpack.decode(base64.urlsafe_b64decode(token.encode()), type=_Place)
    except (binascii.Error, msgspec.DecodeError, ValueError):
        place = None
    if place is None or place.order != order:
        raise InvalidSpecError(
            "this is not a page token of this list", where="nextPageToken", mend="Give the one of the page before."
        )
    return place
