"""Errors in the form that KFP's clients read: `google.rpc.Status`, with the status codes of its gateway."""

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
from goldenloop.core.json import JsonObject

INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED = 3, 5, 6, 7
UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 12, 13, 14

# Error → (HTTP status, code of google.rpc). The first that fits counts.
STATUS: tuple[tuple[type[GoldenloopError], int, int], ...] = (
    (InvalidSpecError, 400, INVALID_ARGUMENT),
    (NotFoundError, 404, NOT_FOUND),
    (ConflictError, 409, ALREADY_EXISTS),
    (RefusedError, 403, PERMISSION_DENIED),
    (UnavailableError, 503, UNAVAILABLE),
    (GoldenloopError, 500, INTERNAL),
)
_HTTP_CODES = {404: NOT_FOUND, 405: UNIMPLEMENTED}

_log = logging.getLogger(__name__)


def rpc_status(code: int, message: str) -> JsonObject:
    """The body of an error. `error` repeats the message, as older clients read it there."""
    return {"error": message, "code": code, "message": message, "details": []}


async def answer_error(_request: Request, error: Exception) -> JSONResponse:
    """The answer to a request of KFP's API that failed."""
    if isinstance(error, GoldenloopError):
        status, code = next((status, code) for kind, status, code in STATUS if isinstance(error, kind))
        headers = {"Retry-After": "1"} if status == 503 else None
        return JSONResponse(rpc_status(code, str(error)), status_code=status, headers=headers)
    if isinstance(error, HTTPException):
        code = _HTTP_CODES.get(error.status_code, INVALID_ARGUMENT)
        return JSONResponse(rpc_status(code, str(error.detail)), status_code=error.status_code, headers=error.headers)
    _log.exception("a request of KFP's API failed", exc_info=error)
    return JSONResponse(rpc_status(INTERNAL, "an error of the platform; its log says more"), status_code=500)
