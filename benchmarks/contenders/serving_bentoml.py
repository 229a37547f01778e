"""BentoML, in an environment of its own: one worker, batching on, no access log, no metrics, no traces.

python benchmarks/contenders/serving_bentoml.py PORT IRIS.joblib LIGHTGBM.joblib

It answers `POST /iris` and `POST /lightgbm` with `{"rows": [[…], …]}`.
"""

from __future__ import annotations

import os
import sys

import bentoml
import joblib
import numpy as np

QUIET = {"access": {"enabled": False}}


@bentoml.service(workers=1, metrics={"enabled": False}, logging=QUIET, traffic={"timeout": 60})
class Estimators:
    """Both estimators as a person saves them."""

    def __init__(self) -> None:
        self._iris = joblib.load(os.environ["IRIS"])
        self._trees = joblib.load(os.environ["LIGHTGBM"])

    @bentoml.api(batchable=True)
    def iris(self, rows: np.ndarray) -> np.ndarray:
        """Answer rows of flowers."""
        return np.asarray(self._iris.predict(rows))

    @bentoml.api(batchable=True)
    def lightgbm(self, rows: np.ndarray) -> np.ndarray:
        """Answer rows of 30 numbers."""
        return np.asarray(self._trees.predict(rows))


if __name__ == "__main__":
    _, port, iris, trees = sys.argv
    here = os.path.dirname(os.path.abspath(__file__))
    words = [
        "bentoml",
        "serve",
        "serving_bentoml:Estimators",
        "--host",
        "127.0.0.1",
        "--port",
        port,
        "--working-dir",
        here,
    ]
    os.execve(sys.executable, [sys.executable, "-m", *words], {**os.environ, "IRIS": iris, "LIGHTGBM": trees})
