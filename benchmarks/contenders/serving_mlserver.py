"""MLServer, in an environment of its own, with what makes it fastest here: models in the server's process, no metrics, no log of requests.

python benchmarks/contenders/serving_mlserver.py REST_PORT GRPC_PORT IRIS.joblib LIGHTGBM.joblib
"""

from __future__ import annotations

import asyncio
import logging
import sys

import joblib
import numpy as np
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse


class Estimator(MLModel):  # type: ignore[misc]  # the library is not typed
    """An estimator as a person saves it."""

    async def load(self) -> bool:
        """Read the file."""
        self._estimator = joblib.load(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer the rows of one tensor."""
        found = self._estimator.predict(NumpyCodec.decode_input(payload.inputs[0]))
        output = NumpyCodec.encode_output("predict", np.asarray(found))
        return InferenceResponse(model_name=self.name, outputs=[output])


async def main(rest: int, grpc: int, files: dict[str, str]) -> None:
    """Serve until the process is ended."""
    settings = Settings(
        http_port=rest, grpc_port=grpc, host="127.0.0.1", parallel_workers=0, metrics_endpoint=None, debug=False
    )
    server = MLServer(settings)
    models = [
        ModelSettings(name=name, implementation=Estimator, parameters=ModelParameters(uri=uri))
        for name, uri in files.items()
    ]
    await server.start(models)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    _, first, second, iris, trees = sys.argv
    asyncio.run(main(int(first), int(second), {"iris": iris, "lightgbm": trees}))
