"""The status of a call, and the one table from an error to it."""

from __future__ import annotations

from enum import IntEnum

from goldenloop.core.errors import (
    ConflictError,
    GoldenloopError,
    InvalidSpecError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from goldenloop.serving.predictors import PredictorTimeoutError
from goldenloop.serving.queues import TimedOutError, TooManyError

_LONGEST_TEXT = 2048  # bytes of a status' text; clients bound what they take as trailers
_UNRESERVED = frozenset(range(0x20, 0x7F)) - {0x25}


class Status(IntEnum):
    """The statuses of gRPC that are answered here."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class CallError(GoldenloopError):
    """What is wrong with a call itself, and not with what it asks for; it carries its status."""

    def __init__(self, status: Status, what: str, *, where: str = "", mend: str = "") -> None:
        super().__init__(what, where=where, mend=mend)
        self.status = status


_STATUSES: tuple[tuple[type[GoldenloopError], Status], ...] = (
    (InvalidSpecError, Status.INVALID_ARGUMENT),
    (NotFoundError, Status.NOT_FOUND),
    (TooManyError, Status.RESOURCE_EXHAUSTED),
    (TimedOutError, Status.DEADLINE_EXCEEDED),
    (PredictorTimeoutError, Status.DEADLINE_EXCEEDED),
    (UnavailableError, Status.UNAVAILABLE),
    (ConflictError, Status.ABORTED),
    (RefusedError, Status.PERMISSION_DENIED),
)


def status_of(error: GoldenloopError) -> Status:
    """The status that an error is answered with."""
    if isinstance(error, CallError):
        return error.status
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), Status.INTERNAL)


def quoted(text: str) -> bytes:
    """Return a status' text as a header says it: UTF-8, with percent signs before all that is not plain.

    >>> quoted("50% of ü")
    b'50%25 of %C3%BC'
    """
    parts = [
        chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in text.encode(errors="replace")[:_LONGEST_TEXT]
    ]
    return "".join(parts).encode()
