"""KServe's InferenceService, `serving.kserve.io/v1beta1`: the part of it that is acted on today.

Fields outside this part are kept and named in a condition, so that a cluster's file is accepted as it is.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.standards.documents import convert

GROUP = "serving.kserve.io"
VERSION = "v1beta1"


class ModelFormat(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    version: str | None = None


class Model(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    model_format: ModelFormat
    storage_uri: str | None = msgspec.field(default=None, name="storageUri")


class Predictor(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    model: Model | None = None
    min_replicas: int = 1
    canary_traffic_percent: int | None = None


class InferenceServiceSpec(msgspec.Struct, frozen=True, kw_only=True):
    predictor: Predictor


ACTED_ON = {
    "": {"predictor"},
    "predictor": {"model", "minReplicas"},
    "predictor.model": {"modelFormat", "storageUri"},
}
Format = Literal["onnx"]


def read(document: object, *, where: str = "spec") -> InferenceServiceSpec:
    """Read a spec. Raises InvalidSpecError where what is acted on is wrong."""
    spec = convert(document, InferenceServiceSpec, where=where)
    if spec.predictor.model is None:
        raise InvalidSpecError(
            "the predictor has no model", where=f"{where}.predictor.model", mend="Give modelFormat and storageUri."
        )
    return spec


def not_acted_on(document: JsonObject) -> list[str]:
    """The paths of the fields that are kept but change nothing."""
    found: list[str] = []

    def walk(value: JsonObject, path: str) -> None:
        known = ACTED_ON.get(path)
        if known is None:
            return
        for name, inner in value.items():
            here = f"{path}.{name}" if path else name
            if name not in known:
                found.append(here)
            elif isinstance(inner, dict):
                walk(inner, here)

    walk(document, "")
    return sorted(found)
