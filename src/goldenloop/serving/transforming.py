"""A service's transformer: a user's class before and after the predictor, in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from goldenloop.core.errors import UnavailableError
from goldenloop.serving.dataplane import DataPlane, Deployed
from goldenloop.serving.questions import Headers
from goldenloop.serving.replies import Predicted, listed, tensors_of
from goldenloop.serving.scorers import RemoteScorer
from goldenloop.standards.open_inference.records import InferRequest
from goldenloop.standards.open_inference.rest import V1Request, read_v1
from goldenloop.standards.open_inference.tensors import Tensor, untyped


class Transformer:
    """The transformer of one service, for one request. Every method raises UnavailableError where its process gives no answer."""

    def __init__(self, deployed: Deployed, scorer: RemoteScorer, headers: Headers) -> None:
        self._deployed = deployed
        self._scorer = scorer
        self._headers = dict(headers)

    @staticmethod
    async def of(plane: DataPlane, deployed: Deployed, headers: Headers) -> Transformer:
        """Raises UnavailableError where it is not there."""
        deployed = await plane.resident(deployed)
        if not isinstance(deployed.transformer, RemoteScorer):
            raise UnavailableError(f"the transformer of {deployed.name!r} is not there", where=deployed.name)
        return Transformer(deployed, deployed.transformer, headers)

    async def before_v2(self, request: InferRequest) -> InferRequest:
        """The request that the predictor is given."""
        given = {"id": request.id, "parameters": dict(request.parameters), "inputs": _described(request.inputs)}
        return InferRequest(
            model=request.model,
            version=request.version,
            id=request.id,
            parameters=request.parameters,
            inputs=tensors_of(await self._call("preprocess", given), "inputs"),
            outputs=request.outputs,
        )

    async def after_v2(self, request: InferRequest, outputs: Sequence[Tensor]) -> list[Tensor]:
        """The outputs that go out."""
        given = {"model_name": self._deployed.name, "id": request.id, "outputs": _described(outputs)}
        return tensors_of(await self._call("postprocess", given), "outputs")

    async def before_v1(self, request: V1Request) -> V1Request:
        """The request that the predictor is given."""
        given: dict[str, object] = {request.where: untyped(request.content, request.where)}
        if request.parameters:
            given["parameters"] = request.parameters
        made = await self._call("preprocess", given)
        document = made if isinstance(made, dict) else {"instances": made}
        return read_v1(
            msgspec.json.encode({**document, "id": request.id, "parameters": request.parameters}, enc_hook=listed)
        )

    async def after_v1(self, predicted: Predicted) -> Predicted:
        """The answer that goes out."""
        made = await self._call("postprocess", {"predictions": predicted.predictions})
        document = made if isinstance(made, dict) and "predictions" in made else {"predictions": made}
        return Predicted(document["predictions"], predicted.answered, document)

    async def _call(self, method: Literal["preprocess", "postprocess"], given: Mapping[str, object]) -> object:
        seconds = self._deployed.service.timeout_seconds
        return await self._scorer.link.call(method, dict(given), self._headers, timeout_seconds=seconds)


def _described(tensors: Sequence[Tensor]) -> list[dict[str, object]]:
    return [
        {"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype, "data": tensor.array()}
        for tensor in tensors
    ]
