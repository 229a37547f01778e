"""Where versions come from: made again and compared."""

from __future__ import annotations

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from goldenloop.api.platform import PREFIX
from goldenloop.control import reproducing
from goldenloop.control.platform import Platform
from goldenloop.core.json import JsonObject

_VERSION = PREFIX + "/namespaces/{namespace}/loops/{name}/versions/{number:int}"


class ProvenanceRoutes:
    """Routes under a version, and under the runs that make one again."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        """What to mount."""
        return [
            Route(f"{_VERSION}/reproduce", self._reproduce, methods=["POST"]),
            Route(PREFIX + "/reproductions/{run}", self._reproduction),
        ]

    async def _reproduce(self, request: Request) -> Response:
        given = request.path_params
        world = self._platform.world
        asked = await run_in_threadpool(reproducing.ask, world, given["namespace"], given["name"], given["number"])
        self._platform.wake()
        return _json(asked)

    async def _reproduction(self, request: Request) -> Response:
        platform = self._platform
        found = await run_in_threadpool(
            reproducing.report, platform.world, platform.home, request.path_params["run"]
        )
        return _json(found)


def _json(content: JsonObject) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")
