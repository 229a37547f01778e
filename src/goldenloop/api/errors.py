"""From error to status code: the one table."""

from __future__ import annotations

import logging

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from goldenloop.core.errors import (
    ConflictError,
    GoldenloopError,
    InvalidSpecError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from goldenloop.standards.kubernetes import status_object

# Error → (HTTP status, Kubernetes reason). The first that fits counts.
STATUS: tuple[tuple[type[GoldenloopError], int, str], ...] = (
    (InvalidSpecError, 422, "Invalid"),
    (NotFoundError, 404, "NotFound"),
    (ConflictError, 409, "Conflict"),
    (RefusedError, 403, "Forbidden"),
    (UnavailableError, 503, "ServiceUnavailable"),
    (GoldenloopError, 500, "InternalError"),
)

# What Kubernetes calls the refusals that come before any code of ours.
_HTTP_REASONS = {404: "NotFound", 405: "MethodNotAllowed"}

_log = logging.getLogger(__name__)


def status_of(error: GoldenloopError) -> tuple[int, str]:
    """The HTTP status and the Kubernetes reason of an error."""
    return next((code, reason) for kind, code, reason in STATUS if isinstance(error, kind))


async def answer_error(_request: Request, error: Exception) -> JSONResponse:
    """The answer to a request that failed."""
    if isinstance(error, GoldenloopError):
        code, reason = status_of(error)
        headers = {"Retry-After": "1"} if code == 503 else None
        return JSONResponse(status_object(code, reason, str(error)), status_code=code, headers=headers)
    if isinstance(error, HTTPException):
        reason = _HTTP_REASONS.get(error.status_code, "BadRequest")
        body = status_object(error.status_code, reason, str(error.detail))
        return JSONResponse(body, status_code=error.status_code, headers=error.headers)
    _log.exception("a request failed", exc_info=error)
    body = status_object(500, "InternalError", "an error of the platform; its log says more")
    return JSONResponse(body, status_code=500)
