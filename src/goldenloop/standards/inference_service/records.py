"""The part of an InferenceService that is acted on, and its rules.

Fields outside this part are kept, and named in a condition (`fields`). What is acted on is checked: types, bounds, and exactly one
implementation in each component.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.documents import convert
from goldenloop.standards.quantities import parse_quantity

GROUP = "serving.kserve.io"
VERSION = "v1beta1"
MODEL_FOLDER = "/mnt/models"  # where KServe mounts a model, and what mount paths are relative to
FRAMEWORKS = (
    "sklearn",
    "xgboost",
    "lightgbm",
    "onnx",
    "pytorch",
    "tensorflow",
    "triton",
    "huggingface",
    "pmml",
    "paddle",
)
TRANSFORMER_CONTAINER = "transformer-container"  # of a transformer that runs beside the predictor

Count: TypeAlias = Annotated[int, Meta(ge=0)]
Positive: TypeAlias = Annotated[int, Meta(gt=0)]
Percent: TypeAlias = Annotated[int, Meta(ge=0, le=100)]


class ModelFormat(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    version: str | None = None


class Variable(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A variable of the environment: its value, or where it comes from."""

    name: str
    value: str | None = None
    value_from: JsonObject | None = None


class Storage(msgspec.Struct, frozen=True, kw_only=True):
    """A place that credentials know: `key` names them, `path` is relative to the bucket in them or in `parameters`."""

    path: str = ""
    key: str | None = None
    parameters: dict[str, str] = {}


class StorageUri(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    uri: str
    mount_path: str = MODEL_FOLDER


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    limits: dict[str, str | int | float] = {}


class Container(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    name: str = ""
    env: tuple[Variable, ...] = ()
    env_from: tuple[JsonObject, ...] = ()
    resources: Resources = Resources()


class Framework(Container, frozen=True, kw_only=True, rename="camel"):
    """A model under the name of its framework, as in `sklearn: {storageUri: …}`."""

    storage_uri: str | None = None
    storage: Storage | None = None
    protocol_version: str | None = None


class Model(Framework, frozen=True, kw_only=True, rename="camel"):
    """A model and its format. KServe demands the format; here it is found from the files where it is not said."""

    model_format: ModelFormat | None = None


class Logger(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    url: str | None = None
    mode: Literal["all", "request", "response"] = "all"
    metadata_headers: tuple[str, ...] = ()


class Batcher(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How many rows are scored at once, and how many milliseconds the first of them waits for the others."""

    max_batch_size: Positive = 32
    max_latency: Positive = 5_000


class Component(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a predictor, a transformer and an explainer have in common. `timeout` is in seconds; 0 replicas at most are any number."""

    containers: tuple[Container, ...] = ()
    storage_uris: tuple[StorageUri, ...] = ()
    service_account_name: str | None = None
    annotations: dict[str, str] = {}
    min_replicas: Count = 1
    max_replicas: Count = 0
    container_concurrency: Count = 0
    timeout: Count | None = None
    canary_traffic_percent: Percent | None = None
    logger: Logger | None = None
    batcher: Batcher | None = None


class Predictor(Component, frozen=True, kw_only=True, rename="camel"):
    name: str | None = None
    model: Model | None = None
    sklearn: Framework | None = None
    xgboost: Framework | None = None
    lightgbm: Framework | None = None
    onnx: Framework | None = None
    pytorch: Framework | None = None
    tensorflow: Framework | None = None
    triton: Framework | None = None
    huggingface: Framework | None = None
    pmml: Framework | None = None
    paddle: Framework | None = None

    def implementations(self) -> list[tuple[str, Framework]]:
        """The models in it by the names of their fields; more than one is an error."""
        named = ((field, getattr(self, field)) for field in ("model", *FRAMEWORKS))
        return [(field, found) for field, found in named if found is not None]


class Canary(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A predictor beside the stable one, with a part of the requests, 0..100."""

    predictor: Predictor
    traffic_percent: Percent


class InferenceServiceSpec(msgspec.Struct, frozen=True, kw_only=True):
    predictor: Predictor
    transformer: Component | None = None
    explainer: Component | None = None
    canary: tuple[Canary, ...] = ()

    def components(self) -> Iterator[tuple[str, Component]]:
        """The components by their paths, canaries included."""
        yield "predictor", self.predictor
        for index, canary in enumerate(self.canary):
            yield f"canary[{index}].predictor", canary.predictor
        if self.transformer is not None:
            yield "transformer", self.transformer
        if self.explainer is not None:
            yield "explainer", self.explainer


def read_inference_service(document: object, *, where: str = "spec") -> InferenceServiceSpec:
    """Read a spec. Raises InvalidSpecError where what is acted on is wrong."""
    spec = convert(without_nulls(document), InferenceServiceSpec, where=where)
    for path, component in spec.components():
        _check_component(component, f"{where}.{path}")
    _check_canaries(spec, f"{where}.canary")
    return spec


def without_nulls(value: object) -> object:
    """The document without the fields that are null: to Kubernetes a null field is one that is not there."""
    if isinstance(value, dict):
        return {name: without_nulls(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_nulls(inner) for inner in value]
    return value


def _check_component(component: Component, where: str) -> None:
    if component.max_replicas and component.min_replicas > component.max_replicas:
        raise InvalidSpecError(
            f"minReplicas is {component.min_replicas} and maxReplicas {component.max_replicas}",
            where=f"{where}.minReplicas",
            mend="Make minReplicas at most maxReplicas, or leave maxReplicas out.",
        )
    if isinstance(component, Predictor):
        _check_implementation(component, where)
    for index, mounted in enumerate(component.storage_uris):
        folder_of(mounted.mount_path, where=f"{where}.storageUris[{index}].mountPath")
    for index, container in enumerate(component.containers):
        _check_container(container, f"{where}.containers[{index}]")


def _check_implementation(predictor: Predictor, where: str) -> None:
    found = predictor.implementations()
    has_code = any(container.name != TRANSFORMER_CONTAINER for container in predictor.containers)
    if not found and not has_code:
        raise InvalidSpecError(
            "the predictor has no model", where=f"{where}.model", mend="Give storageUri and modelFormat."
        )
    if len(found) > 1:
        raise InvalidSpecError(
            f"the predictor has several models: {', '.join(field for field, _ in found)}",
            where=where,
            mend="Keep one of them.",
        )
    if predictor.model is not None and not _says_anything(predictor):
        raise InvalidSpecError(
            "neither the format nor the place of the model is said",
            where=f"{where}.model",
            mend="Give storageUri, and modelFormat where the files do not show it.",
        )
    for field, framework in found:
        _check_container(framework, f"{where}.{field}")
        if framework.storage_uri is not None and predictor.storage_uris:
            raise InvalidSpecError(
                "there are both storageUri and storageUris",
                where=f"{where}.{field}.storageUri",
                mend="Keep one of them.",
            )


def _says_anything(predictor: Predictor) -> bool:
    model = predictor.model
    return model is not None and bool(
        model.model_format or model.storage_uri or model.storage or predictor.storage_uris
    )


def _check_container(container: Container, where: str) -> None:
    for name in ("cpu", "memory"):
        if name in container.resources.limits:
            parse_quantity(container.resources.limits[name], where=f"{where}.resources.limits.{name}")


def _check_canaries(spec: InferenceServiceSpec, where: str) -> None:
    seen = {spec.predictor.name}
    for index, canary in enumerate(spec.canary):
        name = canary.predictor.name
        here = f"{where}[{index}].predictor.name"
        if not name:
            raise InvalidSpecError("a canary has no name", where=here, mend="Name it, so that it can be told apart.")
        if name in seen:
            raise InvalidSpecError(f"the name {name!r} stands twice", where=here, mend="Give each predictor its own.")
        seen.add(name)
    total = sum(canary.traffic_percent for canary in spec.canary)
    if total > 100:
        raise InvalidSpecError(
            f"the canaries' parts add up to {total}", where=where, mend="Give them 100 together at most."
        )


def folder_of(mount_path: str, *, where: str = "mountPath") -> str:
    """The folder of the model that a mount path means, relative, empty for the model's own. Raises InvalidSpecError.

    >>> folder_of("/mnt/models"), folder_of("/mnt/models/tokenizer/")
    ('', 'tokenizer')
    """
    parts = [part for part in mount_path.split("/") if part]
    if not mount_path.startswith("/") or ".." in parts:
        raise InvalidSpecError(
            f"{mount_path!r} is not an absolute path", where=where, mend=f"Give a folder in {MODEL_FOLDER}."
        )
    own = [part for part in MODEL_FOLDER.split("/") if part]
    return "/".join(parts[len(own) :] if parts[: len(own)] == own else parts)


def annotations_of(metadata: JsonObject) -> dict[str, str]:
    """The annotations of a resource, as texts."""
    found: Json = metadata.get("annotations")
    return {name: str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def labels_of(metadata: JsonObject) -> dict[str, str]:
    """The labels of a resource, as texts."""
    found: Json = metadata.get("labels")
    return {name: str(value) for name, value in found.items()} if isinstance(found, dict) else {}
