"""The one table from an error to an HTTP status, for everything inference workers answer."""

from __future__ import annotations

from goldenloop.core.errors import GoldenloopError, InvalidSpecError, NotFoundError, UnavailableError
from goldenloop.serving.dataplane import ScoringFailedError
from goldenloop.serving.predictors import PredictorTimeoutError
from goldenloop.serving.queues import TimedOutError, TooManyError


class TooLargeError(GoldenloopError):
    """The body is larger than any may be."""


class UnsupportedError(GoldenloopError):
    """A content encoding, a method or a part of the protocol that is not served; it carries its status."""

    def __init__(self, what: str, *, status: int, mend: str = "") -> None:
        super().__init__(what, mend=mend)
        self.status = status


_STATUSES: tuple[tuple[type[GoldenloopError], int], ...] = (
    (InvalidSpecError, 400),
    (NotFoundError, 404),
    (TooLargeError, 413),
    (TooManyError, 429),
    (TimedOutError, 504),
    (PredictorTimeoutError, 504),
    (UnavailableError, 503),
    (ScoringFailedError, 500),
)


def status_of(error: GoldenloopError) -> int:
    """The status that an error is answered with."""
    if isinstance(error, UnsupportedError):
        return error.status
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
