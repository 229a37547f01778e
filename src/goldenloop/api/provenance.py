"""Where versions come from: what was signed, and what becomes of it when it is made again."""

from __future__ import annotations

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from goldenloop.api.platform import PREFIX
from goldenloop.control import reproducing
from goldenloop.control.attesting import bundle_of
from goldenloop.control.platform import Platform
from goldenloop.core.errors import NotFoundError
from goldenloop.core.json import JsonObject
from goldenloop.registry import versions

_VERSION = PREFIX + "/namespaces/{namespace}/loops/{name}/versions/{number:int}"


class ProvenanceRoutes:
    """Routes under a version, and under the runs that make one again."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        """What to mount."""
        return [
            Route(f"{_VERSION}/reproduce", self._reproduce, methods=["POST"]),
            Route(f"{_VERSION}/bundle", self._bundle),
            Route(PREFIX + "/reproductions/{run}", self._reproduction),
        ]

    async def _reproduce(self, request: Request) -> Response:
        given = request.path_params
        world = self._platform.world
        asked = await run_in_threadpool(reproducing.ask, world, given["namespace"], given["name"], given["number"])
        self._platform.wake()
        return _json(asked)

    async def _bundle(self, request: Request) -> Response:
        """The signed statement of a version, for others to check with the public key of the home."""
        given = request.path_params

        def ask() -> JsonObject:
            with self._platform.database.read() as transaction:
                version = versions.get(transaction, given["namespace"], given["name"], given["number"])
                found = bundle_of(transaction, version)
            if not isinstance(found, dict):
                raise NotFoundError(
                    f"version {version.number} of {version.model!r} is not signed",
                    mend="What is registered by a run of this installation is signed from now on.",
                )
            return found

        return _json(await run_in_threadpool(ask))

    async def _reproduction(self, request: Request) -> Response:
        platform = self._platform
        found = await run_in_threadpool(reproducing.report, platform.world, platform.home, request.path_params["run"])
        return _json(found)


def _json(content: JsonObject) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")
