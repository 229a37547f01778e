"""What people do with one version: read its card, approve it, refuse it."""

from __future__ import annotations

from functools import partial
from typing import Literal, Protocol

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from goldenloop.api.cards.markdown import write_markdown
from goldenloop.api.cards.page import SECURITY, write_page
from goldenloop.api.cards.record import Card, card_of
from goldenloop.api.platform import PREFIX
from goldenloop.api.resources import read_json
from goldenloop.control import byhand
from goldenloop.control.platform import Platform
from goldenloop.control.world import World
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.registry import versions
from goldenloop.standards.documents import convert

_LOOP = PREFIX + "/namespaces/{namespace}/loops/{name}"
_FORMS = ("html", "markdown", "json")


class _Ask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person's decision on the version that waits, or on a named one."""

    by: str
    reason: str
    version: int | None = None


class _Act(Protocol):
    def __call__(
        self, world: World, namespace: str, name: str, *, version: int | None, reason: str, person: str
    ) -> JsonObject: ...


class VersionRoutes:
    """Routes under a loop's versions, and a person's decisions on them."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        """What to mount."""
        return [
            Route(f"{_LOOP}/versions/{{number:int}}/card", self._card),
            Route(f"{_LOOP}/approve", partial(self._decide, byhand.approve), methods=["POST"]),
            Route(f"{_LOOP}/refuse", partial(self._decide, byhand.refuse), methods=["POST"]),
        ]

    async def _card(self, request: Request) -> Response:
        """The card, as `?format=` says, else as the caller accepts: a browser gets the page."""
        form = _form(request)
        parameters = request.path_params

        def gather() -> Card:
            with self._platform.database.read() as transaction:
                where = (parameters["namespace"], parameters["name"], parameters["number"])
                card = card_of(transaction, *where)
                attestor = self._platform.world.attestor
                if attestor is None:
                    return card
                checked = attestor.check(transaction, versions.get(transaction, *where))
                lineage: JsonObject = {**card.lineage, "signature": msgspec.to_builtins(checked)}
                return msgspec.structs.replace(card, lineage=lineage)

        card = await run_in_threadpool(gather)
        if form == "json":
            return Response(msgspec.json.encode(card), media_type="application/json")
        if form == "markdown":
            return Response(write_markdown(card), media_type="text/markdown; charset=utf-8")
        headers = {"Content-Security-Policy": SECURITY, "X-Content-Type-Options": "nosniff"}
        return Response(write_page(card), media_type="text/html; charset=utf-8", headers=headers)

    async def _decide(self, act: _Act, request: Request) -> Response:
        asked = convert(await read_json(request), _Ask)
        namespace, name = request.path_params["namespace"], request.path_params["name"]

        def do() -> JsonObject:
            return act(
                self._platform.world, namespace, name, version=asked.version, reason=asked.reason, person=asked.by
            )

        decided = await run_in_threadpool(do)
        self._platform.wake()
        return Response(msgspec.json.encode(decided), media_type="application/json")


def _form(request: Request) -> Literal["html", "markdown", "json"]:
    asked = request.query_params.get("format")
    if asked is None:
        return "html" if "text/html" in request.headers.get("accept", "") else "json"
    if asked not in _FORMS:
        raise InvalidSpecError(f"{asked!r} is no form of a card", where="format", mend=f"Known: {', '.join(_FORMS)}.")
    return asked  # type: ignore[return-value]  # it is one of them
