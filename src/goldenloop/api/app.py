"""The control plane as one ASGI application: who may call, which route, and the pages."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from goldenloop.api.business import BusinessRoutes
from goldenloop.api.errors import answer_error
from goldenloop.api.kfp.routes import kfp_api
from goldenloop.api.metrics import exposition
from goldenloop.api.mlflow.routes import mlflow_api
from goldenloop.api.model_registry.routes import model_registry_api
from goldenloop.api.platform import PlatformRoutes
from goldenloop.api.provenance import ProvenanceRoutes
from goldenloop.api.recording import RecordRoutes
from goldenloop.api.reporting import ReportRoutes
from goldenloop.api.resources import ResourceRoutes
from goldenloop.api.triggers import TriggerRoutes
from goldenloop.api.trust import TrustRoutes
from goldenloop.api.versions import VersionRoutes
from goldenloop.control.platform import Platform
from goldenloop.core.errors import GoldenloopError
from goldenloop.lineage.audit import ACTOR
from goldenloop.standards.kubernetes import status_object

_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def application(platform: Platform, pages: Path | None) -> ASGIApp:
    """The application. `pages` is the folder of the built pages."""

    async def metrics(_request: Request) -> Response:
        return Response(exposition(platform), media_type="text/plain; version=0.0.4; charset=utf-8")

    routes: list[BaseRoute] = [
        *PlatformRoutes(platform).routes(),
        *VersionRoutes(platform).routes(),
        *ReportRoutes(platform).routes(),
        *ProvenanceRoutes(platform).routes(),
        *TriggerRoutes(platform).routes(),
        *BusinessRoutes(platform).routes(),
        *TrustRoutes(platform).routes(),
        *RecordRoutes(platform).routes(),
        kfp_api(platform),
        *mlflow_api(platform),
        *model_registry_api(platform),
        *ResourceRoutes(platform).routes(),
        Route("/metrics", metrics),
    ]
    if pages is not None:
        index = pages / "index.html"

        async def page(_request: Request) -> Response:
            return FileResponse(index, headers={**_PAGE_HEADERS, "Cache-Control": "no-cache"})

        routes += [Route("/", page), Mount("/", StaticFiles(directory=pages))]
    app = Starlette(
        routes=routes,
        exception_handlers={GoldenloopError: answer_error, HTTPException: answer_error, Exception: answer_error},
    )
    return LocalOnly(app)


class LocalOnly:
    """Holds browsers off that were sent here by another site: the Host must be this machine, and so must the Origin, where there is one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            refused = _refusal(scope)
            if refused:
                await JSONResponse(status_object(403, "Forbidden", refused), status_code=403)(scope, receive, send)
                return
            ACTOR.set(_caller(scope))
        await self._app(scope, receive, send)


def _caller(scope: Scope) -> str:
    """Who calls, as they say it: for the record, not for permission."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    return headers.get("x-actor") or headers.get("user-agent") or "unknown"


def _refusal(scope: Scope) -> str:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    given, origin = headers.get("host", "localhost"), headers.get("origin")
    host = _part(f"//{given}", "hostname")
    if host not in _LOCAL_HOSTS:
        return f"the host {given!r} is not this machine; call 127.0.0.1"
    if origin is not None and _part(origin, "netloc") != given:
        return f"requests from {origin} are not taken"
    return ""


def _part(address: str, name: Literal["hostname", "netloc"]) -> str | None:
    """A part of an address, None where it is not one."""
    try:
        parts = urlsplit(address)
        return parts.hostname if name == "hostname" else parts.netloc
    except ValueError:
        return None
