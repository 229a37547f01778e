"""MLflow's API as one application: which record and which handler a method and a path mean.

It answers under `/api/2.0` and `/ajax-api/2.0`. What is not here says so with MLflow's code NOT_IMPLEMENTED, so that clients do not
take it for a mistake of theirs and do not try again.
"""

from __future__ import annotations

import re

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from goldenloop.api.bodies import read_body
from goldenloop.api.mlflow.calls import BODY_LIMIT, Operation
from goldenloop.api.mlflow.errors import answer_error
from goldenloop.api.mlflow.experiments import ExperimentOperations
from goldenloop.api.mlflow.files import FileOperations
from goldenloop.api.mlflow.logged import LoggedModelOperations
from goldenloop.api.mlflow.models import ModelOperations
from goldenloop.api.mlflow.runs import RunOperations
from goldenloop.control.platform import Platform
from goldenloop.core.errors import GoldenloopError

API_VERSION = (
    "3.0.0"  # the version of MLflow whose tracking and registry API this is; clients ask before they use what is newer
)
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_HANDLERS = {GoldenloopError: answer_error, HTTPException: answer_error, Exception: answer_error}
_NOT_HERE = {
    "traces": "traces are not kept; predictions are: goldenloop trace ID",
    "gateway": "there is no gateway for language models",
    "webhooks": "there are no webhooks of the registry; notices go out as CloudEvents",
    "scorers": "there are no scorers; models are judged by the gate of their loop",
    "prompts": "there is no registry of prompts",
    "datasets": "there are no evaluation datasets; log what a run read with log_input",
    "assessments": "traces are not kept, and so are no assessments of them",
    "jobs": "there are no jobs of MLflow; a pipeline runs work",
    "mpu": "uploads in several parts are not taken; clients send a file in one piece, of any size",
    "presigned": "there are no presigned addresses; clients take files through us",
    "artifacts": "there are no presigned addresses; clients send and take files through us",
    "users": "there are no users and permissions",
    "workspaces": "there are no workspaces",
}


class Dispatcher:
    """Finds the operation of a request: by its whole path where that is fixed, else by its form."""

    def __init__(self, operations: list[Operation]) -> None:
        self._fixed = {(each.method, each.path): each for each in operations if "{" not in each.path}
        self._forms = [(each, _form(each.path)) for each in operations if "{" in each.path]

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        path = "/mlflow/" + request.path_params["rest"]
        operation, names = self._find(request.method, path)
        body = b"" if request.method == "GET" else await read_body(request, limit=BODY_LIMIT)
        answer = await run_in_threadpool(operation.answer, request, body, names)
        return Response(msgspec.json.encode(answer), media_type="application/json")

    def _find(self, method: str, path: str) -> tuple[Operation, dict[str, str]]:
        if (found := self._fixed.get((method, path))) is not None:
            return found, {}
        for operation, form in self._forms:
            if operation.method == method and (fits := form.fullmatch(path)) is not None:
                return operation, fits.groupdict()
        raise missing(path.removeprefix("/mlflow/"))


def mlflow_api(platform: Platform) -> list[BaseRoute]:
    """What to mount."""
    database, clock = platform.database, platform.world.clock
    files = FileOperations(database, platform.artifacts)
    groups = (
        ExperimentOperations(database, clock),
        RunOperations(database, clock),
        LoggedModelOperations(database, clock),
        ModelOperations(database, clock),
        files,
    )
    dispatcher = Dispatcher([operation for group in groups for operation in group.operations()])
    routes = [
        Route("/mlflow/{rest:path}", dispatcher.__call__, methods=_METHODS),
        *files.routes(),
        Route("/mlflow-artifacts/{rest:path}", _not_here, methods=_METHODS),
        Route("/{rest:path}", _not_here, methods=_METHODS),
    ]
    app = Starlette(routes=routes, exception_handlers=_HANDLERS)
    later = Starlette(
        routes=[
            Route("/mlflow/server-info", _server_info),
            Route("/{rest:path}", _not_here, methods=_METHODS),
        ],
        exception_handlers=_HANDLERS,
    )
    mounts: list[BaseRoute] = [Mount(f"/{api}/2.0", app=app) for api in ("api", "ajax-api")]
    mounts += [Mount(f"/{api}/{version}", app=later) for api in ("api", "ajax-api") for version in ("3.0", "4.0")]
    return [*mounts, Route("/health", _health)]


def is_mlflow(request: Request) -> bool:
    """Whether a request comes from MLflow's own client."""
    return request.headers.get("user-agent", "").startswith("mlflow")


def api_version() -> Response:
    """What MLflow's clients read at `/version`."""
    return PlainTextResponse(API_VERSION)


def missing(path: str) -> HTTPException:
    """What is said of a path that nothing answers: 501 where MLflow has it and we do not, 404 where nobody has it."""
    words = path.replace("-", "/").replace("_", "/").split("/")
    told = next((_NOT_HERE[word] for word in words if word in _NOT_HERE), None)
    if told is None:
        return HTTPException(
            404, f"MLflow's API has no {path[:200]!r} that is known here; it is that of MLflow {API_VERSION}"
        )
    return HTTPException(501, f"goldenloop does not do this for MLflow's clients: {told}")


async def _not_here(request: Request) -> Response:
    raise missing(request.url.path.strip("/"))


async def _server_info(_request: Request) -> Response:
    return JSONResponse(
        {
            "store_type": "SqlStore",
            "workspaces_enabled": False,
            "trace_archival_enabled": False,
            "multipart_uploads_enabled": False,
            "multipart_downloads_enabled": False,
        }
    )


async def _health(_request: Request) -> Response:
    return PlainTextResponse("OK")


def _form(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))
