"""KServe's Python server, in an environment of its own, with what makes it fastest: one worker, no access log, no reading into pandas.

python benchmarks/contenders/serving_kserve.py REST_PORT GRPC_PORT IRIS.joblib LIGHTGBM.joblib

`lightgbm` is the classifier as a person saves it; `booster` its trees called directly, without the wrapper.
"""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class Estimator(Model):  # type: ignore[misc]  # the library is not typed
    """A function from rows to answers."""

    def __init__(self, name: str, score: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__(name)
        self._score = score
        self.ready = True

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:  # noqa: ARG002  # as it is called
        """Both protocols."""
        if not isinstance(payload, InferRequest):
            return {"predictions": self._score(np.asarray(payload["instances"])).tolist()}
        found = self._score(payload.inputs[0].as_numpy())
        output = InferOutput("predict", list(found.shape), "INT64" if found.dtype.kind == "i" else "FP64")
        output.set_data_from_numpy(found, binary_data=True)
        return InferResponse(payload.id or str(uuid.uuid4()), self.name, [output])


if __name__ == "__main__":
    rest, grpc, iris, trees = sys.argv[1:]
    linear, classifier = joblib.load(iris), joblib.load(trees)
    logging.disable(logging.INFO)
    models = [
        Estimator("iris", linear.predict),
        Estimator("lightgbm", classifier.predict),
        Estimator("booster", lambda rows: classifier.booster_.predict(rows, num_threads=1)),
    ]
    server = ModelServer(http_port=int(rest), grpc_port=int(grpc), workers=1, enable_latency_logging=False)
    server.start(models)
