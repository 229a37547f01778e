"""How a service is served, apart from its models: hosts, replicas, limits, logs. A change of these makes no new revision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict, get_args

from goldenloop.core.clock import SECOND
from goldenloop.core.durations import parse_duration
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.core.routing import Batcher, Logger, PayloadMode
from goldenloop.standards.inference_service.records import (
    Container,
    InferenceServiceSpec,
    Predictor,
    annotations_of,
    labels_of,
)
from goldenloop.standards.quantities import parse_quantity

DOMAIN = "example.com"
CLUSTER_DOMAIN = "svc.cluster.local"
IDLE_SECONDS = 90.0
STOP = "serving.kserve.io/stop"
TAG_ROUTING = "serving.kserve.io/enable-tag-routing"
DEPLOYMENT_MODE = "serving.kserve.io/deploymentMode"
PAYLOAD_LOG = "goldenloop.dev/payload-log"
RETENTION = "autoscaling.knative.dev/scale-to-zero-pod-retention-period"
FEATURES = "goldenloop.dev/features"
VISIBILITY = "networking.kserve.io/visibility"
_MODES = {"RawDeployment": "Standard", "Serverless": "Knative"}  # the names of old → those of today


class ServiceSettings(TypedDict, total=False):
    """Fields of `goldenloop.core.routing.Service`."""

    hosts: tuple[str, ...]
    payload_mode: PayloadMode
    log_payloads: bool
    timeout_seconds: float | None
    batcher: Batcher | None
    logger: Logger | None
    min_replicas: int
    max_replicas: int
    idle_seconds: float
    concurrency: int | None
    memory_bytes: int | None
    cpu: float | None


@dataclass(frozen=True, slots=True)
class Names:
    """The names by which a service is asked for. The first host is the one that its status shows."""

    hosts: tuple[str, ...]

    @property
    def url(self) -> str:
        return f"http://{self.hosts[0]}"


def names_of(metadata: JsonObject) -> Names:
    """The hosts of a service or a graph, KServe's own: outside of a cluster, unless it is to be seen inside only, and in it."""
    name, namespace = metadata["name"], metadata["namespace"]
    inside = (f"{name}.{namespace}.{CLUSTER_DOMAIN}", f"{name}.{namespace}.svc", f"{name}.{namespace}")
    visibility = labels_of(metadata).get(VISIBILITY) or annotations_of(metadata).get(VISIBILITY)
    return Names(inside if visibility == "cluster-local" else (f"{name}.{namespace}.{DOMAIN}", *inside))


def settings_of(spec: InferenceServiceSpec, metadata: JsonObject) -> ServiceSettings:
    """What the spec and the annotations say, with KServe's defaults. Raises InvalidSpecError for a wrong annotation."""
    predictor = spec.predictor
    annotations = {**predictor.annotations, **annotations_of(metadata)}
    limits = _container(predictor).resources.limits
    kept = annotations.get(PAYLOAD_LOG, "interval")
    check_annotations(annotations)
    retention = annotations.get(RETENTION)
    settings = ServiceSettings(
        hosts=names_of(metadata).hosts,
        log_payloads=kept != "off",
        timeout_seconds=float(predictor.timeout) if predictor.timeout else None,
        min_replicas=predictor.min_replicas,
        max_replicas=predictor.max_replicas or max(1, predictor.min_replicas),
        idle_seconds=IDLE_SECONDS if retention is None else parse_duration(retention) / SECOND,
        concurrency=predictor.container_concurrency or None,
        memory_bytes=int(parse_quantity(limits["memory"])) if "memory" in limits else None,
        cpu=parse_quantity(limits["cpu"]) if "cpu" in limits else None,
    )
    for mode in get_args(PayloadMode):
        if kept == mode:
            settings["payload_mode"] = mode
    if predictor.batcher is not None:
        settings["batcher"] = Batcher(
            max_batch_size=predictor.batcher.max_batch_size, max_latency_ms=predictor.batcher.max_latency
        )
    if predictor.logger is not None and predictor.logger.url:
        logger = predictor.logger
        settings["logger"] = Logger(url=logger.url or "", mode=logger.mode, metadata_headers=logger.metadata_headers)
    return settings


def check_annotations(annotations: dict[str, str]) -> None:
    """Raise InvalidSpecError for an annotation that is acted on and cannot be."""
    kept = annotations.get(PAYLOAD_LOG, "interval")
    allowed = (*get_args(PayloadMode), "off")
    if kept not in allowed:
        raise InvalidSpecError(
            f"{kept!r} is not a way to log payloads",
            where=f"metadata.annotations[{PAYLOAD_LOG}]",
            mend=f"Say one of {', '.join(allowed)}.",
        )
    if RETENTION in annotations:
        parse_duration(annotations[RETENTION], where=f"metadata.annotations[{RETENTION}]")
    features = annotations.get(FEATURES)
    if features is not None:
        path, _, key = features.rpartition("#")
        if not key or not path.removeprefix("file://").startswith("/"):
            raise InvalidSpecError(
                f"{features!r} does not say where features lie, and by which column they are found",
                where=f"metadata.annotations[{FEATURES}]",
                mend="Write /PATH/TO/rows.parquet#COLUMN, or a folder of such files.",
            )


def features_of(metadata: JsonObject) -> str | None:
    """Where the features lie that the user's code looks up, and by which column: `/PATH#COLUMN`."""
    return annotations_of(metadata).get(FEATURES)


def deployment_mode(metadata: JsonObject) -> str:
    """KServe's name for how the service is deployed: what the annotation says, or `Standard`."""
    said = annotations_of(metadata).get(DEPLOYMENT_MODE, "Standard")
    return _MODES.get(said, said)


def is_stopped(metadata: JsonObject) -> bool:
    """Whether the service is to be stopped and kept."""
    return annotations_of(metadata).get(STOP, "").lower() == "true"


def _container(predictor: Predictor) -> Container:
    """The container of the model: its limits are those of the service."""
    for _, framework in predictor.implementations():
        return framework
    return predictor.containers[0]
