"""TrainedModel, `serving.kserve.io/v1alpha1`: one more model in an InferenceService that has none of its own."""

from __future__ import annotations

import msgspec

from goldenloop.standards.documents import convert
from goldenloop.standards.inference_service.fields import Fields
from goldenloop.standards.inference_service.records import StorageUri, without_nulls
from goldenloop.standards.inference_service.sources import ModelSource
from goldenloop.standards.quantities import parse_quantity

VERSION = "v1alpha1"


class TrainedModelFiles(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where the model is, what made it, and how much memory it may take, as a quantity."""

    storage_uri: str
    framework: str
    memory: str | int | float


class TrainedModelSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    inference_service: str
    model: TrainedModelFiles

    @property
    def memory_bytes(self) -> int:
        return int(parse_quantity(self.model.memory))

    @property
    def source(self) -> ModelSource:
        uris = (StorageUri(uri=self.model.storage_uri),)
        return ModelSource(where="model", format=self.model.framework, uris=uris)


TRAINED_MODEL = Fields(
    {"inferenceService": None, "model": Fields({"storageUri": None, "framework": None, "memory": None})}
)


def read_trained_model(document: object, *, where: str = "spec") -> TrainedModelSpec:
    """Read a spec. Raises InvalidSpecError."""
    spec = convert(without_nulls(document), TrainedModelSpec, where=where)
    parse_quantity(spec.model.memory, where=f"{where}.model.memory")
    return spec
