"""A request of KFP's API, read: its parts by name, its message as a record, and what it asks of a list.

Names in messages may be written with underscores or in camel case, and 64-bit numbers as texts, as the JSON of protocol buffers
allows. An unknown field is passed over, as KFP's gateway does.

Namespaces: a call that names none means `default`, and so does one that names `kubeflow`: that is where KFP itself is installed on
a cluster, and what its clients name when nobody told them another one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import unquote

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from goldenloop.api.bodies import read_body
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.kfp_packages import LARGEST_PACKAGE
from goldenloop.standards.kubernetes import check_name
from goldenloop.store.paging import Asked

DEFAULT_NAMESPACE = "default"
BODY_LIMIT = LARGEST_PACKAGE + (1 << 20)  # a package, and what is said about it

Message = TypeVar("Message", bound=msgspec.Struct)
Answer = dict[str, object]

_NUL_IN_JSON = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # and not the letters of it, in somebody's code
_INNER_CAPITAL = re.compile(r"(?<=[a-z0-9])([A-Z])")
# Fields whose members are the user's and not the message's.
_OPAQUE = frozenset({"pipeline_spec", "platform_spec", "parameters", "tags", "plugins_input"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request: its path and query by name, its headers and its body."""

    path: dict[str, str]
    query: QueryParams
    headers: Headers
    body: bytes

    def text(self, *names: str) -> str:
        """The first of these parameters of the query that is there, else an empty text."""
        return next((self.query[name] for name in names if name in self.query), "")

    def flag(self, name: str) -> bool:
        """Whether a parameter of the query says true."""
        return self.text(name).lower() in ("true", "1")

    def namespace(self) -> str:
        """The namespace that the query names. Raises InvalidSpecError for what cannot be one."""
        return namespace_of(self.text("namespace"))

    def asked(self) -> Asked:
        """What the query asks of a list. Raises InvalidSpecError."""
        size = self.text("page_size", "pageSize")
        written = self.text("filter")  # KFP's documentation says that it is encoded, so some do it twice
        try:
            page_size = int(size) if size else 0
        except ValueError:
            raise InvalidSpecError(f"{size!r} is not a number", where="page_size", mend="Give 1 or more.") from None
        return Asked(
            page_size=page_size,
            page_token=self.text("page_token", "pageToken"),
            sort_by=self.text("sort_by", "sortBy"),
            filter=unquote(written) if written.startswith("%") else written,
        )

    def message(self, kind: type[Message], *, where: str) -> Message:
        """The body as a record. Raises InvalidSpecError with the path of what is wrong."""
        if _NUL_IN_JSON.search(self.body):
            raise _has_nul("body")
        try:
            document = msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidSpecError(f"not JSON: {error}", where="body", mend="Send JSON.") from None
        try:
            return msgspec.convert(_with_underscores(document), kind, strict=False)
        except msgspec.ValidationError as error:
            raise InvalidSpecError(str(error), where=where) from None


Handler = Callable[[Call], Answer]


def route(path: str, handler: Handler, *, method: str = "GET") -> Route:
    """A route to a handler, which works in a thread of its own and answers with JSON."""

    async def answer(request: Request) -> Response:
        if any("\0" in str(value) for value in (*request.path_params.values(), *request.query_params.values())):
            raise _has_nul("path")
        call = Call(
            path={name: str(value) for name, value in request.path_params.items()},
            query=request.query_params,
            headers=request.headers,
            body=await read_body(request, limit=BODY_LIMIT),
        )
        result = await run_in_threadpool(handler, call)
        return Response(msgspec.json.encode(result), media_type="application/json")

    return Route(path, answer, methods=[method])


def namespace_of(given: str) -> str:
    """The namespace that a caller means. Raises InvalidSpecError for what cannot be one."""
    if given in ("", "kubeflow"):
        return DEFAULT_NAMESPACE
    return check_name(given, where="namespace")


def filled(answer: Answer) -> Answer:
    """The answer without what is empty: in the JSON of protocol buffers a field with no value is left out."""
    return {name: value for name, value in answer.items() if value not in (None, "", [], {})}


def _with_underscores(document: Json) -> Json:
    if isinstance(document, list):
        return [_with_underscores(each) for each in document]
    if not isinstance(document, dict):
        return document
    renamed: JsonObject = {}
    for name, value in document.items():
        if value is None:
            continue
        plain = _INNER_CAPITAL.sub(r"_\1", name).lower()
        renamed[plain] = value if plain in _OPAQUE else _with_underscores(value)
    return renamed


def _has_nul(where: str) -> InvalidSpecError:
    return InvalidSpecError("there is a character U+0000, which no database keeps", where=where, mend="Remove it.")
