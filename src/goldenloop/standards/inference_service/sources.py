"""Where a component's model comes from: what decides a revision, apart from how it is served."""

from __future__ import annotations

import msgspec

from goldenloop.core.ids import digest_bytes
from goldenloop.core.json import JsonObject
from goldenloop.standards.inference_service.records import (
    TRANSFORMER_CONTAINER,
    Component,
    Container,
    InferenceServiceSpec,
    Model,
    ModelFormat,
    Predictor,
    Storage,
    StorageUri,
    Variable,
)

STORAGE_URI = "STORAGE_URI"  # the variable by which a container of the user's own says where its files are
# Formats whose models come with the server's own arguments, not with a storageUri.
_FETCHED_BY_THE_SERVER = frozenset({"huggingface", "vllm"})


class ModelSource(msgspec.Struct, frozen=True, kw_only=True):
    """The files of a component's model, and what reaches and names them.

    `where` is the path of the implementation in the spec. Two components with equal sources (`fingerprint`) serve the same model.
    """

    where: str
    format: str | None
    format_version: str | None = None
    uris: tuple[StorageUri, ...] = ()
    storage: Storage | None = None
    env: tuple[Variable, ...] = ()
    env_from: tuple[JsonObject, ...] = ()
    service_account: str | None = None
    annotations: dict[str, str] = {}

    @property
    def has_files(self) -> bool:
        """Whether there is anything to fetch."""
        return bool(self.uris) or self.storage is not None

    @property
    def is_shell(self) -> bool:
        """Whether this is a predictor without a model of its own, into which TrainedModels are put."""
        return not self.has_files and self.format is not None and self.format not in _FETCHED_BY_THE_SERVER

    @property
    def fingerprint(self) -> str:
        """The identity of the source, whatever the order of its fields."""
        return digest_bytes(msgspec.json.encode(self, order="sorted"))


def source_of_predictor(predictor: Predictor, *, where: str = "predictor") -> ModelSource:
    """The source of a predictor that has been checked."""
    for field, framework in predictor.implementations():
        uri = framework.storage_uri
        said = framework.model_format if isinstance(framework, Model) else ModelFormat(name=field)
        return _source(
            predictor,
            framework,
            where=f"{where}.{field}",
            format=None if said is None else said.name,
            format_version=None if said is None else said.version,
            uris=predictor.storage_uris if uri is None else (StorageUri(uri=uri),),
            storage=framework.storage,
        )
    index, container = next(
        (index, each) for index, each in enumerate(predictor.containers) if each.name != TRANSFORMER_CONTAINER
    )
    return _source_of_container(predictor, container, f"{where}.containers[{index}]")


def source_of_transformer(spec: InferenceServiceSpec) -> ModelSource | None:
    """The source of what stands before the predictor: a transformer, or a container beside the predictor; None where nothing does."""
    if spec.transformer is not None:
        return _source_of_component(spec.transformer, "transformer")
    for index, container in enumerate(spec.predictor.containers):
        if container.name == TRANSFORMER_CONTAINER:
            return _source_of_container(Component(), container, f"predictor.containers[{index}]")
    return None


def source_of_explainer(spec: InferenceServiceSpec) -> ModelSource | None:
    """The source of an explainer, or None where there is none."""
    return None if spec.explainer is None else _source_of_component(spec.explainer, "explainer")


def _source_of_component(component: Component, where: str) -> ModelSource:
    if component.containers:
        return _source_of_container(component, component.containers[0], f"{where}.containers[0]")
    return _source(component, Container(), where=where, uris=component.storage_uris)


def _source_of_container(component: Component, container: Container, where: str) -> ModelSource:
    given = [StorageUri(uri=each.value) for each in container.env if each.name == STORAGE_URI and each.value]
    return _source(component, container, where=where, uris=(*given, *component.storage_uris))


def _source(
    component: Component,
    container: Container,
    *,
    where: str,
    format: str | None = None,
    format_version: str | None = None,
    uris: tuple[StorageUri, ...] = (),
    storage: Storage | None = None,
) -> ModelSource:
    return ModelSource(
        where=where,
        format=format,
        format_version=format_version,
        uris=uris,
        storage=storage if not uris else None,
        env=container.env,
        env_from=container.env_from,
        service_account=component.service_account_name,
        annotations=component.annotations,
    )
