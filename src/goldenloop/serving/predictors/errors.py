"""What a worker is told when a predictor process gives no answer. One that cannot be started at all is an UnavailableError."""

from __future__ import annotations

from goldenloop.core.errors import GoldenloopError, UnavailableError


class PredictorFailedError(GoldenloopError):
    """The model raised, or its process ended under the call; this is the model's fault, not the caller's."""


class PredictorTimeoutError(UnavailableError):
    """The model did not answer in the time that the call had."""
