"""A request of MLflow's API, read into a record, and its answer.

Messages are the JSON of protocol buffers: 64-bit numbers may be texts, a field that is null is not there, and unknown fields are passed
over. A GET carries its message in the query. Names in a path count as fields of the message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar, get_origin

import msgspec
from starlette.requests import Request

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.tracking.values import Pairs

BODY_LIMIT = 64 << 20  # bytes; a dataset's profile may have 16 MiB

Message = TypeVar("Message", bound=msgspec.Struct)
Answer = dict[str, object]

_NUL_IN_JSON = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class KeyValue(msgspec.Struct, frozen=True, kw_only=True):
    """A tag or a param."""

    key: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """What answers a method and a path: `/mlflow/logged-models/{model_id}` names a part that is a field of the message.

    `answer` is given the request, its body, and the named parts of its path.
    """

    method: str
    path: str
    answer: Callable[[Request, bytes, dict[str, str]], Answer]


def operation(method: str, path: str, kind: type[Message], handler: Callable[[Message], Answer]) -> Operation:
    """The operation that reads a message of this kind and gives it to the handler."""

    def answer(request: Request, body: bytes, names: dict[str, str]) -> Answer:
        return handler(read_message(kind, request, body, names))

    return Operation(method, path, answer)


def pairs_of(entries: Sequence[KeyValue]) -> Pairs:
    """Tags or params as a mapping; of a key that is there twice the last value counts."""
    return {entry.key: entry.value for entry in entries}


def key_values(pairs: Pairs) -> list[Answer]:
    """Tags or params as messages have them."""
    return [{"key": key, "value": value} for key, value in pairs.items()]


def read_message(kind: type[Message], request: Request, body: bytes, names: dict[str, str]) -> Message:
    """The message of a request. Raises InvalidSpecError with the field that is wrong."""
    if request.method == "GET":
        return _convert(kind, {**_from_query(kind, request), **names})
    if _NUL_IN_JSON.search(body):
        raise InvalidSpecError("there is a character U+0000, which no database keeps", where="body", mend="Remove it.")
    if not names and body:
        try:
            return msgspec.json.decode(body, type=kind, strict=False)
        except msgspec.ValidationError:
            pass  # perhaps of a null, which is as good as nothing
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidSpecError(f"not JSON: {error}", where="body", mend="Send JSON.") from None
    try:
        document = msgspec.json.decode(body) if body else {}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidSpecError(f"not JSON: {error}", where="body", mend="Send JSON.") from None
    if not isinstance(document, dict):
        raise InvalidSpecError("the message is not a mapping", where="body", mend="Send a JSON object.")
    return _convert(kind, {**_without_nulls(document), **names})


def _convert(kind: type[Message], document: object) -> Message:
    try:
        return msgspec.convert(document, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidSpecError(str(error), where="message") from None


def _without_nulls(document: JsonObject) -> JsonObject:
    return {
        name: [_without_nulls(each) if isinstance(each, dict) else each for each in value]
        if isinstance(value, list)
        else _without_nulls(value)
        if isinstance(value, dict)
        else value
        for name, value in document.items()
        if value is not None
    }


def _from_query(kind: type[Message], request: Request) -> dict[str, object]:
    query = request.query_params
    lists = _lists(kind)
    for name in query:
        if "\0" in query[name]:
            raise InvalidSpecError(
                "there is a character U+0000, which no database keeps", where=name, mend="Remove it."
            )
    return {name: query.getlist(name) if name in lists else query[name] for name in query}


@cache
def _lists(kind: type[msgspec.Struct]) -> frozenset[str]:
    """The fields of a message that are lists."""
    return frozenset(each.name for each in msgspec.structs.fields(kind) if get_origin(each.type) in (tuple, list))
