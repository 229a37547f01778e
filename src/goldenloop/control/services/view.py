"""Resources of the serving kinds as the reconciler sees them: read once, with what it looks up again and again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from goldenloop.control.services.records import EXPLAINER, PREDICTOR, TRANSFORMER, canary_track
from goldenloop.control.services.settings import ServiceSettings, is_stopped, settings_of
from goldenloop.core.json import JsonObject
from goldenloop.standards import kubernetes
from goldenloop.standards.inference_service.graph import InferenceGraphSpec, read_graph
from goldenloop.standards.inference_service.records import (
    InferenceServiceSpec,
    annotations_of,
    labels_of,
    read_inference_service,
)
from goldenloop.standards.inference_service.sources import (
    ModelSource,
    source_of_explainer,
    source_of_predictor,
    source_of_transformer,
)
from goldenloop.standards.inference_service.trained_model import TrainedModelSpec, read_trained_model
from goldenloop.standards.kubernetes import Kind
from goldenloop.store.resources import metadata_of

INFERENCE_SERVICE = kubernetes.kind_named("InferenceService")
INFERENCE_GRAPH = kubernetes.kind_named("InferenceGraph")
TRAINED_MODEL = kubernetes.kind_named("TrainedModel")


@dataclass(frozen=True)
class Resource:
    """A resource and its identity."""

    document: JsonObject

    @cached_property
    def metadata(self) -> JsonObject:
        return metadata_of(self.document)

    @property
    def namespace(self) -> str:
        return str(self.metadata["namespace"])

    @property
    def name(self) -> str:
        return str(self.metadata["name"])

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.name

    @property
    def uid(self) -> str:
        return str(self.metadata["uid"])

    @property
    def generation(self) -> int:
        return int(str(self.metadata["generation"]))

    @property
    def mark(self) -> object:
        """What changes when a person changes something; not when a status is written."""
        return self.uid, self.generation, annotations_of(self.metadata), labels_of(self.metadata)

    @property
    def is_owned(self) -> bool:
        """Whether another resource wrote this one."""
        return bool(self.metadata.get("ownerReferences"))


class ServedResource(Resource):
    """A resource that is one service of the routing table. Reading it raises InvalidSpecError."""

    kind: ClassVar[Kind]

    @property
    def sources(self) -> Mapping[str, ModelSource]:
        """The source of each component, by its track; none for a service without a model of its own."""
        raise NotImplementedError

    @property
    def settings(self) -> ServiceSettings:
        """How it is served."""
        raise NotImplementedError

    @property
    def canary_percent(self) -> int | None:
        """The part of the newest predictor; None is everything."""
        return None

    @property
    def canaries(self) -> Mapping[str, int]:
        """The part of each canary, by its track."""
        return {}

    @property
    def is_stopped(self) -> bool:
        return False


class ServiceView(ServedResource):
    """An InferenceService."""

    kind = INFERENCE_SERVICE

    @cached_property
    def spec(self) -> InferenceServiceSpec:
        return read_inference_service(self.document["spec"])

    @cached_property
    def sources(self) -> Mapping[str, ModelSource]:
        predictor = source_of_predictor(self.spec.predictor)
        if predictor.is_shell:
            return {}
        found = {
            PREDICTOR: predictor,
            TRANSFORMER: source_of_transformer(self.spec),
            EXPLAINER: source_of_explainer(self.spec),
        }
        for index, canary in enumerate(self.spec.canary):
            path = f"canary[{index}].predictor"
            found[canary_track(str(canary.predictor.name))] = source_of_predictor(canary.predictor, where=path)
        return {track: source for track, source in found.items() if source is not None}

    @property
    def settings(self) -> ServiceSettings:
        return settings_of(self.spec, self.metadata)

    @property
    def canary_percent(self) -> int | None:
        percent = None if self.spec.canary else self.spec.predictor.canary_traffic_percent
        return None if percent == 100 else percent

    @property
    def canaries(self) -> Mapping[str, int]:
        return {canary_track(str(each.predictor.name)): each.traffic_percent for each in self.spec.canary}

    @property
    def is_stopped(self) -> bool:
        return is_stopped(self.metadata)


class TrainedModelView(ServedResource):
    """A TrainedModel. It is asked for by its name alone: its parent has the host."""

    kind = TRAINED_MODEL

    @cached_property
    def spec(self) -> TrainedModelSpec:
        return read_trained_model(self.document["spec"])

    @property
    def sources(self) -> Mapping[str, ModelSource]:
        return {PREDICTOR: self.spec.source}

    @property
    def settings(self) -> ServiceSettings:
        return ServiceSettings(memory_bytes=self.spec.memory_bytes)


class GraphView(Resource):
    """An InferenceGraph."""

    @cached_property
    def spec(self) -> InferenceGraphSpec:
        return read_graph(self.document["spec"])


def fingerprints(sources: Mapping[str, ModelSource]) -> dict[str, str]:
    """The identity of each source."""
    return {track: source.fingerprint for track, source in sources.items()}
