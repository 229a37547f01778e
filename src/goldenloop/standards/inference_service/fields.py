"""Every field of KServe's resources by name, and which of them are acted on.

The names are those of the resource definitions of KServe 0.20 (groups of Kubernetes' pod and container fields included). A field that is
not acted on is kept and named in a condition; so is one that KServe does not know either, with the field that was probably meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.documents import near_miss
from goldenloop.standards.inference_service.records import FRAMEWORKS, TRANSFORMER_CONTAINER, InferenceServiceSpec


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of one place. `acted` maps each that is acted on to what is below it (None: all of it); `known` are the others.

    Where `is_open` holds, the names are the user's own, as those of resources are.
    """

    acted: Mapping[str, Fields | None]
    known: frozenset[str] = frozenset()
    is_open: bool = False


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_POD = _names(
    """activeDeadlineSeconds affinity automountServiceAccountToken dnsConfig dnsPolicy enableServiceLinks ephemeralContainers
    hostAliases hostIPC hostNetwork hostPID hostUsers hostname hostnameOverride imagePullSecrets initContainers nodeName nodeSelector
    os overhead preemptionPolicy priority priorityClassName readinessGates resourceClaims resources restartPolicy runtimeClassName
    schedulerName schedulingGates securityContext serviceAccount setHostnameAsFQDN shareProcessNamespace subdomain
    terminationGracePeriodSeconds tolerations topologySpreadConstraints volumes"""
)
_SCALING = _names("autoScaling deploymentStrategy labels scaleMetric scaleMetricType scaleTarget")
_CONTAINER = _names(
    """args command image imagePullPolicy lifecycle livenessProbe ports readinessProbe resizePolicy restartPolicy restartPolicyRules
    securityContext startupProbe stdin stdinOnce terminationMessagePath terminationMessagePolicy tty volumeDevices volumeMounts
    workingDir"""
)

_RESOURCES = Fields({"limits": Fields({"cpu": None, "memory": None}, is_open=True)}, _names("claims requests"))
_IN_CONTAINER: dict[str, Fields | None] = {"name": None, "env": None, "envFrom": None, "resources": _RESOURCES}
_STORAGE = Fields({"key": None, "path": None, "parameters": None}, _names("schemaPath"))
_IN_FRAMEWORK: dict[str, Fields | None] = {
    **_IN_CONTAINER,
    "storageUri": None,
    "storage": _STORAGE,
    "protocolVersion": None,
}
_FRAMEWORK_BESIDES = _CONTAINER | _names("confidential runtimeVersion")
_FRAMEWORK = Fields(_IN_FRAMEWORK, _FRAMEWORK_BESIDES)
_FORMAT = Fields({"name": None, "version": None})
_MODEL = Fields({**_IN_FRAMEWORK, "modelFormat": _FORMAT}, _FRAMEWORK_BESIDES | _names("runtime"))
_LOGGER = Fields(
    {"url": None, "mode": None, "metadataHeaders": None},
    _names("batchInterval batchSize marshallerUrl metadataAnnotations storage"),
)
_BATCHER = Fields({"maxBatchSize": None, "maxLatency": None}, _names("timeout"))
_IN_COMPONENT: dict[str, Fields | None] = {
    "annotations": None,
    "containers": Fields(_IN_CONTAINER, _CONTAINER),
    "serviceAccountName": None,
    "storageUris": None,
}
# One service has one time limit, one number of replicas, one log: those of its predictor.
_OF_THE_PREDICTOR = _names("batcher canaryTrafficPercent containerConcurrency logger maxReplicas minReplicas timeout")
_ONLY_PREDICTOR = _names("storageContainerName workerSpec")
_PREDICTOR = Fields(
    {
        **_IN_COMPONENT,
        **dict.fromkeys(_OF_THE_PREDICTOR),
        "logger": _LOGGER,
        "batcher": _BATCHER,
        "name": None,
        "model": _MODEL,
        **dict.fromkeys(FRAMEWORKS, _FRAMEWORK),
    },
    _POD | _SCALING | _ONLY_PREDICTOR,
)
_CANARY_PREDICTOR = Fields(
    {**_IN_COMPONENT, "name": None, "model": _MODEL, **dict.fromkeys(FRAMEWORKS, _FRAMEWORK)},
    _POD | _SCALING | _ONLY_PREDICTOR | _OF_THE_PREDICTOR,
)
_BESIDE = Fields(_IN_COMPONENT, _POD | _SCALING | _OF_THE_PREDICTOR)

INFERENCE_SERVICE = Fields(
    {
        "predictor": _PREDICTOR,
        "transformer": _BESIDE,
        "explainer": Fields(_BESIDE.acted, _BESIDE.known | _names("art")),
        "canary": Fields({"predictor": _CANARY_PREDICTOR, "trafficPercent": None}),
    }
)
# Annotations that are acted on, and the beginnings of those that a reader of the file would expect to be.
ANNOTATIONS = _names(
    """autoscaling.knative.dev/scale-to-zero-pod-retention-period goldenloop.dev/features goldenloop.dev/payload-log
    serving.kserve.io/deploymentMode serving.kserve.io/enable-tag-routing serving.kserve.io/stop"""
)
_EXPECTED_ANNOTATIONS = ("serving.kserve.io/", "autoscaling.knative.dev/", "serving.knative.dev/", "goldenloop.dev/")
_PROTOCOLS = ("v1", "v2", "grpc-v2")  # all of them are served, whichever is asked for


def not_acted_on(spec: JsonObject, fields: Fields = INFERENCE_SERVICE) -> list[str]:
    """The paths of the fields that are kept but change nothing; of one that nobody knows also what was probably meant."""
    return sorted(_walk(spec, fields, ""))


def service_fields_not_acted_on(document: JsonObject, spec: InferenceServiceSpec) -> list[str]:
    """The same for an InferenceService, with what is acted on elsewhere but not beside what else the spec has."""
    found = not_acted_on(document)
    predictor = spec.predictor
    if predictor.implementations():
        # The model is served; a container of the user's own beside it is not run.
        own = [index for index, each in enumerate(predictor.containers) if each.name != TRANSFORMER_CONTAINER]
        prefixes = tuple(f"predictor.containers[{index}]" for index in own)
        found = [*prefixes, *(path for path in found if not path.startswith(prefixes))]
    if spec.canary and predictor.canary_traffic_percent is not None:
        found.append("predictor.canaryTrafficPercent (there are canaries)")
    if predictor.logger is not None and not predictor.logger.url:
        found.append("predictor.logger (it has no url)")
    for field, framework in predictor.implementations():
        if framework.protocol_version not in (None, *_PROTOCOLS):
            found.append(f"predictor.{field}.protocolVersion")
    return sorted(found)


def annotations_not_acted_on(annotations: Mapping[str, str]) -> list[str]:
    """The annotations for a model server that change nothing; those for other programs are none of our business."""
    return sorted(
        f"metadata.annotations[{name}]"
        for name in annotations
        if name.startswith(_EXPECTED_ANNOTATIONS) and name not in ANNOTATIONS
    )


def _walk(value: Json, fields: Fields, path: str) -> Iterator[str]:
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _walk(inner, fields, f"{path}[{index}]")
        return
    if not isinstance(value, dict):
        return
    for name, inner in value.items():
        here = f"{path}.{name}" if path else name
        if inner is None:
            continue
        if name not in fields.acted:
            is_strange = not fields.is_open and name not in fields.known
            yield f"{here} (unknown{_meant(name, [*fields.acted, *fields.known])})" if is_strange else here
        elif (below := fields.acted[name]) is not None:
            yield from _walk(inner, below, here)


def _meant(name: str, everything: list[str]) -> str:
    hint = near_miss(name, everything)
    return f": {hint[0].lower()}{hint[1:]}" if hint else ""
