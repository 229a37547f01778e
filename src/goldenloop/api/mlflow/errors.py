"""Errors in the form that MLflow's clients read, with the statuses of its server.

Clients try 500, 503 and 429 again for minutes, so nothing that is the caller's mistake is answered with one of them.
"""

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

# Error → (HTTP status, MLflow's error code). The first that fits counts.
STATUS: tuple[tuple[type[GoldenloopError], int, str], ...] = (
    (InvalidSpecError, 400, "INVALID_PARAMETER_VALUE"),
    (NotFoundError, 404, "RESOURCE_DOES_NOT_EXIST"),
    (ConflictError, 400, "RESOURCE_ALREADY_EXISTS"),
    (RefusedError, 403, "PERMISSION_DENIED"),
    (UnavailableError, 503, "TEMPORARILY_UNAVAILABLE"),
    (GoldenloopError, 500, "INTERNAL_ERROR"),
)
_HTTP_CODES = {404: "ENDPOINT_NOT_FOUND", 405: "ENDPOINT_NOT_FOUND", 501: "NOT_IMPLEMENTED"}

_log = logging.getLogger(__name__)


async def answer_error(_request: Request, error: Exception) -> JSONResponse:
    """The answer to a request of MLflow's API that failed."""
    if isinstance(error, GoldenloopError):
        status, code = next((status, code) for kind, status, code in STATUS if isinstance(error, kind))
        headers = {"Retry-After": "1"} if status == 503 else None
        return JSONResponse({"error_code": code, "message": str(error)}, status_code=status, headers=headers)
    if isinstance(error, HTTPException):
        code = _HTTP_CODES.get(error.status_code, "BAD_REQUEST")
        return JSONResponse({"error_code": code, "message": str(error.detail)}, status_code=error.status_code)
    _log.exception("a request of MLflow's API failed", exc_info=error)
    return JSONResponse(
        {"error_code": "INTERNAL_ERROR", "message": "an error of the platform; its log says more"}, status_code=500
    )
