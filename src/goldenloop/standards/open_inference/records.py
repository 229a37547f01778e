"""A question and its answer in the Open Inference Protocol, whichever way they travel (REST or gRPC), and what a model says of itself."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from goldenloop.core.served import TensorSpec
from goldenloop.standards.open_inference.tensors import Parameters, Tensor

_NONE: dict[str, object] = {}


@dataclass(frozen=True, slots=True)
class AskedOutput:
    """An output that the client asks for by name."""

    name: str
    parameters: Parameters = field(default_factory=dict)


class InferRequest:
    """One request. `version` is empty where the client leaves the choice to the server, `id` where it gives none."""

    __slots__ = ("id", "inputs", "model", "outputs", "parameters", "version")

    def __init__(
        self,
        *,
        model: str,
        version: str = "",
        id: str = "",  # the protocol's name
        parameters: Parameters | None = None,
        inputs: list[Tensor],
        outputs: list[AskedOutput] | None = None,
    ) -> None:
        self.model = model
        self.version = version
        self.id = id
        self.parameters: Parameters = _NONE if parameters is None else parameters
        self.inputs = inputs
        self.outputs = outputs


class InferResponse:
    """One answer; `prediction` is our own id of it, which `id` is too where the client gave none."""

    __slots__ = ("id", "model_name", "model_version", "outputs", "parameters", "prediction")

    def __init__(
        self,
        *,
        model_name: str,
        model_version: str,
        id: str,  # the protocol's name
        outputs: list[Tensor],
        parameters: Parameters | None = None,
        prediction: str = "",
    ) -> None:
        self.model_name = model_name
        self.model_version = model_version
        self.id = id
        self.parameters: Parameters = _NONE if parameters is None else parameters
        self.outputs = outputs
        self.prediction = prediction


class ModelMetadata(msgspec.Struct, frozen=True):
    """What `GET /v2/models/NAME` answers."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
