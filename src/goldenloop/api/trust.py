"""Which model files the operator accepts although they run code when they are loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from goldenloop.api.platform import PREFIX
from goldenloop.api.resources import read_json
from goldenloop.control import trusting
from goldenloop.control.platform import Platform
from goldenloop.core.clock import to_text
from goldenloop.core.json import JsonObject
from goldenloop.standards.documents import convert
from goldenloop.store.database import Transaction

Result = TypeVar("Result")


class Acceptance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked for: a digest to accept, and why."""

    digest: str
    reason: str = ""


class TrustRoutes:
    """Routes of trusted model files."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        """What to mount."""
        return [
            Route(PREFIX + "/trusted", self._list),
            Route(PREFIX + "/trusted", self._trust, methods=["POST"]),
            Route(PREFIX + "/trusted/{digest}", self._distrust, methods=["DELETE"]),
        ]

    async def _list(self, _request: Request) -> Response:
        def read() -> JsonObject:
            with self._platform.database.read() as transaction:
                return {"items": [_shown(each) for each in trusting.trusted_models(transaction)]}

        return _json(await run_in_threadpool(read))

    async def _trust(self, request: Request) -> Response:
        asked = convert(await read_json(request), Acceptance)
        now_us = self._platform.world.clock.now_us()
        trusted = await self._write(
            lambda transaction: trusting.trust(transaction, asked.digest, reason=asked.reason, now_us=now_us)
        )
        return _json(_shown(trusted))

    async def _distrust(self, request: Request) -> Response:
        digest = request.path_params["digest"]
        now_us = self._platform.world.clock.now_us()
        await self._write(lambda transaction: trusting.distrust(transaction, digest, now_us=now_us))
        return _json({"distrusted": digest})

    async def _write(self, act: Callable[[Transaction], Result]) -> Result:
        def write() -> Result:
            with self._platform.world.lock, self._platform.database.write() as transaction:
                return act(transaction)

        result = await run_in_threadpool(write)
        self._platform.wake()
        return result


def _shown(trusted: trusting.Trusted) -> JsonObject:
    return {"digest": trusted.digest, "reason": trusted.reason, "since": to_text(trusted.since_us)}


def _json(content: JsonObject) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")
