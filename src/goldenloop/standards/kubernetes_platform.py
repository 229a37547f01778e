"""What a pipeline's platform specification asks of Kubernetes for its executors, read into frozen records.

Variables and volumes are what has a counterpart on one machine; of everything else the names are kept, so that it can
be said that nothing came of them. A name may be a value of the pipeline, seen from the scope in which the task stands.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from goldenloop.core.json import JsonObject
from goldenloop.standards.pipeline_ir.fields import count_at, list_of_objects_at, object_at, objects_at, text_at
from goldenloop.standards.pipeline_ir.records import FromScope, FromTask, ParameterBinding
from goldenloop.standards.pipeline_ir.tasks import read_parameter_binding

NameSource: TypeAlias = str | ParameterBinding
VolumeKind = Literal["secrets", "configmaps", "volumes"]
_SECRET: VolumeKind = "secrets"
_CONFIG_MAP: VolumeKind = "configmaps"
_VOLUME: VolumeKind = "volumes"
# Fields that ask nothing of a single machine: where a pod goes, how its image is fetched, how it is labelled.
_CLUSTER_ONLY = {
    "nodeSelector": "node selectors",
    "tolerations": "tolerations",
    "nodeAffinity": "node affinity",
    "podAffinity": "pod affinity",
    "podMetadata": "pod labels and annotations",
    "imagePullSecret": "image pull secrets",
    "imagePullPolicy": "the image pull policy",
    "securityContext": "the security context",
    "enabledSharedMemory": "shared memory volumes",
    "genericEphemeralVolume": "ephemeral volumes",
    "emptyDirMounts": "empty folders",
    "initContainers": "init containers",
}


class Variables(msgspec.Struct, frozen=True, kw_only=True):
    """Environment variables from a secret or a config map: which key becomes which variable."""

    name: NameSource
    keys: dict[str, str]
    secret: bool
    optional: bool = False


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """A folder that a step expects at a path: the keys of a secret or a config map as files, or (a `part` of) a volume."""

    kind: VolumeKind
    name: NameSource
    path: str
    part: str = ""
    optional: bool = False


class ExecutorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for one executor. `fields`: variables that hold a fact about the pod, by the fact's path; `facts`:
    the labels and annotations that are asked for, by theirs.
    """

    variables: tuple[Variables, ...] = ()
    volumes: tuple[Volume, ...] = ()
    fields: dict[str, str] = {}
    facts: dict[str, str] = {}
    seconds: int = 0  # the longest time that it may take; 0: not said
    not_honoured: tuple[str, ...] = ()


class KubernetesPlatform(msgspec.Struct, frozen=True, kw_only=True):
    """The Kubernetes part of a platform specification: settings by executor label, and other platforms' names."""

    executors: dict[str, ExecutorSettings] = {}
    others: tuple[str, ...] = ()


def read_platform(document: JsonObject | None, *, where: str = "platform") -> KubernetesPlatform:
    """Read a platform specification. Raises InvalidSpecError with the place of what is wrong."""
    platforms = objects_at((document or {}).get("platforms"), f"{where}.platforms")
    at = f"{where}.platforms.kubernetes.deploymentSpec"
    deployment = object_at(platforms.get("kubernetes", {}).get("deploymentSpec"), at)
    executors = objects_at(deployment.get("executors"), f"{at}.executors")
    return KubernetesPlatform(
        executors={label: _settings(content, f"{at}.executors.{label}") for label, content in executors.items()},
        others=tuple(sorted(platforms.keys() - {"kubernetes"})),
    )


def _settings(content: JsonObject, at: str) -> ExecutorSettings:
    variables = [
        Variables(
            name=_name(entry, "secretName", at), keys=_keys(entry, "secretKey", at), secret=True, optional=_may(entry)
        )
        for entry in list_of_objects_at(content.get("secretAsEnv"), f"{at}.secretAsEnv")
    ]
    variables += [
        Variables(
            name=_name(entry, "configMapName", at),
            keys=_keys(entry, "configMapKey", at),
            secret=False,
            optional=_may(entry),
        )
        for entry in list_of_objects_at(content.get("configMapAsEnv"), f"{at}.configMapAsEnv")
    ]
    volumes = [
        Volume(kind=_SECRET, name=_name(entry, "secretName", at), path=_path(entry, at), optional=_may(entry))
        for entry in list_of_objects_at(content.get("secretAsVolume"), f"{at}.secretAsVolume")
    ]
    volumes += [
        Volume(kind=_CONFIG_MAP, name=_name(entry, "configMapName", at), path=_path(entry, at), optional=_may(entry))
        for entry in list_of_objects_at(content.get("configMapAsVolume"), f"{at}.configMapAsVolume")
    ]
    volumes += [
        Volume(kind=_VOLUME, name=_claim(entry, at), path=_path(entry, at), part=text_at(entry.get("subPath", ""), at))
        for entry in list_of_objects_at(content.get("pvcMount"), f"{at}.pvcMount")
    ]
    fields = list_of_objects_at(content.get("fieldPathAsEnv"), f"{at}.fieldPathAsEnv")
    return ExecutorSettings(
        variables=tuple(variables),
        volumes=tuple(volumes),
        fields={text_at(entry.get("name"), at): text_at(entry.get("fieldPath"), at) for entry in fields},
        facts=_pod_facts(object_at(content.get("podMetadata"), f"{at}.podMetadata"), f"{at}.podMetadata"),
        seconds=count_at(content.get("activeDeadlineSeconds"), at),
        not_honoured=tuple(said for field, said in _CLUSTER_ONLY.items() if content.get(field)),
    )


def _pod_facts(content: JsonObject, at: str) -> dict[str, str]:
    return {
        f"metadata.{kind}['{name}']": text_at(value, f"{at}.{kind}")
        for kind in ("labels", "annotations")
        for name, value in object_at(content.get(kind), f"{at}.{kind}").items()
    }


def _name(entry: JsonObject, field: str, at: str) -> NameSource:
    """A name: written, or a value of the pipeline in the field of today; a config map's has two spellings."""
    for said in (f"{field}Parameter", "configNameParameter"):
        if said in entry:
            return read_parameter_binding(field, object_at(entry[said], f"{at}.{said}"), f"{at}.{said}")
    return text_at(entry.get(field, ""), f"{at}.{field}")


def _claim(entry: JsonObject, at: str) -> NameSource:
    if "pvcNameParameter" in entry:
        return read_parameter_binding("pvcName", object_at(entry["pvcNameParameter"], at), f"{at}.pvcNameParameter")
    if "componentInputParameter" in entry:
        return FromScope(text_at(entry["componentInputParameter"], at))
    if "taskOutputParameter" in entry:
        output = object_at(entry["taskOutputParameter"], at)
        return FromTask(text_at(output.get("producerTask"), at), text_at(output.get("outputParameterKey"), at))
    return text_at(entry.get("constant", ""), at)


def _keys(entry: JsonObject, field: str, at: str) -> dict[str, str]:
    listed = list_of_objects_at(entry.get("keyToEnv"), f"{at}.keyToEnv")
    return {text_at(pair.get(field), at): text_at(pair.get("envVar"), at) for pair in listed}


def _path(entry: JsonObject, at: str) -> str:
    return text_at(entry.get("mountPath"), f"{at}.mountPath")


def _may(entry: JsonObject) -> bool:
    return bool(entry.get("optional"))
