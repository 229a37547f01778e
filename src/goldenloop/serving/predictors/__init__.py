"""Predictor processes: models that are foreign code, each in a process of its own that may fail without taking anything with it.

    inference worker ── link ══ Unix socket ══ process ── loaders, code      answers calls; one thread
                                   │              │
                                 host ────────────┘                          owns the socket, starts, watches and ends the process

`host` runs beside the workers and starts processes by the routing table; `process` is such a process; `link` is the worker's end of it.
What the three say to each other is in `wire` (messages), `page` (a few numbers that all of them see) and `places` (files and sockets).
"""

from goldenloop.serving.predictors.errors import PredictorFailedError, PredictorTimeoutError

__all__ = ["PredictorFailedError", "PredictorTimeoutError"]
