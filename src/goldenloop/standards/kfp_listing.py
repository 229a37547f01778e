"""How a list is asked for in the KFP API (`v2beta1`): filters, orders and page tokens, as bytes and as records.

A filter is the JSON of KFP's `Filter` message. Its operations are written as names by people and as numbers by `kfp.Client`, its
fields in camel case or with underscores. A page token carries the whole question, so that a next page never answers another one.
"""

from __future__ import annotations

import base64
import binascii
from enum import StrEnum
from typing import TypeAlias

import msgspec

from goldenloop.core.clock import SECOND, from_text
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json

DEFAULT_PAGE = 20
LARGEST_PAGE = 1_000

Scalar: TypeAlias = str | int
_INTEGER_LIMIT = 2**63


class Operation(StrEnum):
    """What a predicate asks of a field."""

    EQUALS = "EQUALS"
    NOT_EQUALS = "NOT_EQUALS"
    GREATER_THAN = "GREATER_THAN"
    GREATER_THAN_EQUALS = "GREATER_THAN_EQUALS"
    LESS_THAN = "LESS_THAN"
    LESS_THAN_EQUALS = "LESS_THAN_EQUALS"
    IN = "IN"
    IS_SUBSTRING = "IS_SUBSTRING"


# The message's numbers; it has no 4.
_NUMBERS = {
    1: Operation.EQUALS,
    2: Operation.NOT_EQUALS,
    3: Operation.GREATER_THAN,
    5: Operation.GREATER_THAN_EQUALS,
    6: Operation.LESS_THAN,
    7: Operation.LESS_THAN_EQUALS,
    8: Operation.IN,
    9: Operation.IS_SUBSTRING,
}
_WHOLE_NUMBERS = ("intvalue", "longvalue")
_LISTS = ("intvalues", "longvalues", "stringvalues")
_VALUES = (*_WHOLE_NUMBERS, "stringvalue", "timestampvalue", *_LISTS)


class Moment(msgspec.Struct, frozen=True):
    """A moment in a predicate, in microseconds since the Unix epoch."""

    us: int


class Predicate(msgspec.Struct, frozen=True, kw_only=True):
    """One condition on one field; all of a filter's must hold. Only `IN` has several values."""

    key: str
    operation: Operation
    values: tuple[Scalar | Moment, ...]


class Order(msgspec.Struct, frozen=True):
    """By which field a list is sorted."""

    key: str = "created_at"
    descending: bool = False


class PageToken(msgspec.Struct, frozen=True, kw_only=True):
    """Where a list goes on: the question, and the last row that was given, by the field it is sorted by and its id."""

    order: Order
    filter: str
    value: Scalar
    identity: str


def read_filter(text: str) -> tuple[Predicate, ...]:
    """Return the predicates of a filter, none for an empty one. Raises InvalidSpecError."""
    if not text.strip():
        return ()
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _wrong(f"the filter is not JSON: {error}") from None
    predicates = document.get("predicates", []) if isinstance(document, dict) else None
    if not isinstance(predicates, list):
        raise _wrong("the filter is not a mapping with a list of predicates")
    return tuple(_predicate(each, f"filter.predicates[{index}]") for index, each in enumerate(predicates))


def read_order(text: str) -> Order:
    """Return the order that `FIELD`, `FIELD asc` or `FIELD desc` names; by the time of creation where it is empty.

    >>> read_order("display_name desc")
    Order(key='display_name', descending=True)
    """
    words = text.lower().split()
    if not words:
        return Order()
    if len(words) > 2 or (len(words) == 2 and words[1] not in ("asc", "desc")):
        raise InvalidSpecError(
            f"{text!r} is not an order", where="sort_by", mend="Write a field, and 'asc' or 'desc' after it."
        )
    return Order(words[0], words[1:] == ["desc"])


def write_token(token: PageToken) -> str:
    """The token as text that can stand in an address."""
    return base64.urlsafe_b64encode(msgspec.json.encode(token)).decode()


def read_token(text: str) -> PageToken:
    """Return the token. Raises InvalidSpecError for what `write_token` did not make."""
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text.encode()), type=PageToken)
    except (binascii.Error, msgspec.DecodeError, UnicodeError, ValueError):
        raise InvalidSpecError(
            "this is not a page token",
            where="page_token",
            mend="Give the next_page_token of the page before, unchanged.",
        ) from None


def _predicate(document: Json, where: str) -> Predicate:
    if not isinstance(document, dict):
        raise _wrong("a predicate is not a mapping", where)
    fields = {name.replace("_", "").lower(): value for name, value in document.items()}
    key, operation = fields.get("key"), _operation(fields.get("operation", fields.get("op")), where)
    if not isinstance(key, str) or not key:
        raise _wrong("a predicate names no field", f"{where}.key")
    given = [name for name in _VALUES if name in fields]
    if len(given) != 1:
        raise _wrong(f"a predicate has {len(given)} values", where)
    values = _values(given[0], fields[given[0]], where)
    if (given[0] in _LISTS) != (operation is Operation.IN):
        raise _wrong(f"{operation} does not go with {'a list' if given[0] in _LISTS else 'one value'}", where)
    if operation is Operation.IS_SUBSTRING and given[0] != "stringvalue":
        raise _wrong(f"{operation} is for texts", where)
    return Predicate(key=key, operation=operation, values=values)


def _operation(given: Json, where: str) -> Operation:
    if isinstance(given, int) and given in _NUMBERS:
        return _NUMBERS[given]
    if isinstance(given, str) and given.upper() in Operation.__members__:
        return Operation[given.upper()]
    raise _wrong(f"{given!r} is not an operation", f"{where}.operation")


def _values(kind: str, given: Json, where: str) -> tuple[Scalar | Moment, ...]:
    if kind in _LISTS:
        listed = given.get("values") if isinstance(given, dict) else given
        if not isinstance(listed, list):
            raise _wrong("the values are not a list", where)
        return tuple(_scalar(each, numbers=kind != "stringvalues", where=where) for each in listed)
    if kind == "timestampvalue":
        try:
            return (Moment(from_text(str(given))),)
        except ValueError:
            raise _wrong(f"{given!r} is not a time", where) from None
    return (_scalar(given, numbers=kind in _WHOLE_NUMBERS, where=where),)


def _scalar(given: Json, *, numbers: bool, where: str) -> Scalar:
    """A value; 64-bit numbers are texts in the JSON of protocol buffers."""
    if not numbers:
        if isinstance(given, str):
            return given
        raise _wrong(f"{given!r} is not a text", where)
    try:
        number = int(given) if isinstance(given, str | int) else None
    except ValueError:
        number = None
    if number is None or not -_INTEGER_LIMIT <= number < _INTEGER_LIMIT:
        raise _wrong(f"{given!r} is not a whole number", where)
    return number


def moment_of(value: Scalar | Moment, where: str) -> int:
    """A value as a moment, in microseconds: a whole number means seconds, as in KFP's tables. Raises InvalidSpecError."""
    if isinstance(value, Moment):
        return value.us
    if isinstance(value, int):
        return value * SECOND
    try:
        return from_text(value)
    except ValueError:
        raise _wrong(f"{value!r} is not a time", where) from None


def _wrong(what: str, where: str = "filter") -> InvalidSpecError:
    example = '{"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": "name"}]}'
    return InvalidSpecError(what, where=where, mend=f"Write it like {example}.")
