"""The route of business metrics: a team posts the values that it measures itself."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from goldenloop.api.platform import PREFIX
from goldenloop.api.resources import read_json
from goldenloop.control.business import PostedValue, keep_values
from goldenloop.control.platform import Platform
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject

_Values = Annotated[list[PostedValue], Meta(min_length=1, max_length=1_000)]


class BusinessRoutes:
    """`POST …/loops/NAME/metrics` with `[{"name", "value", "at"}]`. What is answered 202 is written down."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        """What to mount."""
        return [Route(PREFIX + "/namespaces/{namespace}/loops/{name}/metrics", self._post, methods=["POST"])]

    async def _post(self, request: Request) -> Response:
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        try:
            posted = msgspec.convert(await read_json(request), _Values)
        except msgspec.ValidationError as error:
            raise InvalidSpecError(
                str(error),
                where="body",
                mend='Post [{"name": "revenue", "value": 12.5, "at": "2026-01-31T09:30:00Z"}].',
            ) from None

        def keep() -> JsonObject:
            with self._platform.database.write() as transaction:
                now_us = self._platform.world.clock.now_us()
                return keep_values(transaction, namespace, name, posted, now_us=now_us)

        kept = await run_in_threadpool(keep)
        return Response(msgspec.json.encode(kept), status_code=202, media_type="application/json")
