"""From documents to records: files, pipelines and components."""

from __future__ import annotations

import re
from typing import get_args

import msgspec
import yaml

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.pipeline_ir.checking import check_pipeline
from goldenloop.standards.pipeline_ir.fields import (
    WRITE_PIPELINE,
    list_at,
    list_of_objects_at,
    object_at,
    objects_at,
    text_at,
    texts_at,
)
from goldenloop.standards.pipeline_ir.records import (
    ArtifactSpec,
    Component,
    Container,
    Importer,
    ParameterSpec,
    ParameterType,
    Pipeline,
    ResourceSpec,
    Scope,
)
from goldenloop.standards.pipeline_ir.tasks import read_scope
from goldenloop.standards.pipeline_ir.values import exact

_SCHEMA = re.compile(r"^2\.1\.\d+$")
_PARAMETER_TYPES: tuple[ParameterType, ...] = get_args(ParameterType)
_RESOURCES = {  # the field of today, and the deprecated one, a number, with its unit
    "processor_limit": ("resourceCpuLimit", "cpuLimit", ""),
    "processor_request": ("resourceCpuRequest", "cpuRequest", ""),
    "memory_limit": ("resourceMemoryLimit", "memoryLimit", "G"),
    "memory_request": ("resourceMemoryRequest", "memoryRequest", "G"),
}
_ELSEWHERE = "Leave it out of the pipeline: it runs only where its service is."


class Documents(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline file as it is: the specification, and the platform specification if there is one."""

    pipeline: JsonObject
    platform: JsonObject | None = None


def read_documents(text: str, *, where: str = "pipeline") -> Documents:
    """Split a pipeline's YAML (or JSON) into specification and platform specification. Raises InvalidSpecError."""
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise InvalidSpecError(f"this is not YAML: {problem}", where=where, mend=WRITE_PIPELINE) from error
    if not documents or not all(isinstance(document, dict) for document in documents) or len(documents) > 2:
        raise InvalidSpecError(
            "a pipeline is one YAML document, or two with a platform", where=where, mend=WRITE_PIPELINE
        )
    platforms = [document for document in documents if "platforms" in document]
    pipelines = [document for document in documents if "platforms" not in document]
    if len(pipelines) != 1:
        raise InvalidSpecError("there is no pipeline specification in it", where=where, mend=WRITE_PIPELINE)
    return Documents(pipeline=pipelines[0], platform=platforms[0] if platforms else None)


def read_pipeline(specification: JsonObject, *, where: str = "pipeline") -> Pipeline:
    """Read a specification. Raises InvalidSpecError with the place of what is wrong or not supported."""
    version = specification.get("schemaVersion")
    if not isinstance(version, str) or not _SCHEMA.match(version):
        raise InvalidSpecError(f"schemaVersion is {version!r}, not 2.1.x", where=where, mend="Compile it with kfp 2.")
    deployment = object_at(specification.get("deploymentSpec"), f"{where}.deploymentSpec")
    executors = {
        label: _executor(content, f"{where}.deploymentSpec.executors.{label}")
        for label, content in objects_at(deployment.get("executors"), f"{where}.deploymentSpec.executors").items()
    }
    components = {
        name: _component(name, content, executors, f"{where}.components.{name}")
        for name, content in objects_at(specification.get("components"), f"{where}.components").items()
    }
    root = _component("root", object_at(specification.get("root"), f"{where}.root"), executors, f"{where}.root")
    if root.scope is None:
        raise InvalidSpecError("the root has no tasks", where=f"{where}.root", mend=WRITE_PIPELINE)
    info = object_at(specification.get("pipelineInfo"), f"{where}.pipelineInfo")
    pipeline = Pipeline(name=text_at(info.get("name"), f"{where}.pipelineInfo.name"), root=root, components=components)
    check_pipeline(pipeline, where=where)
    return pipeline


def _component(name: str, content: JsonObject, executors: dict[str, Container | Importer | str], at: str) -> Component:
    inputs = object_at(content.get("inputDefinitions"), f"{at}.inputDefinitions")
    outputs = object_at(content.get("outputDefinitions"), f"{at}.outputDefinitions")
    label = ""
    scope: Scope | None = None
    found: Container | Importer | str | None = None
    if "dag" in content:
        scope = read_scope(object_at(content["dag"], f"{at}.dag"), f"{at}.dag")
    elif "executorLabel" in content:
        label = text_at(content["executorLabel"], f"{at}.executorLabel")
        found = executors.get(label)
        if found is None:
            raise InvalidSpecError(f"there is no executor {label!r}", where=at, mend=WRITE_PIPELINE)
        if isinstance(found, str):
            raise InvalidSpecError(f"component {name!r} is of kind {found}, not supported", where=at, mend=_ELSEWHERE)
    else:
        raise InvalidSpecError("a component needs executorLabel or dag", where=at, mend=WRITE_PIPELINE)
    return Component(
        name=name,
        input_parameters=_parameters(inputs, f"{at}.inputDefinitions"),
        input_artifacts=_artifacts(inputs, f"{at}.inputDefinitions"),
        output_parameters=_parameters(outputs, f"{at}.outputDefinitions"),
        output_artifacts=_artifacts(outputs, f"{at}.outputDefinitions"),
        executor=label,
        container=found if isinstance(found, Container) else None,
        importer=found if isinstance(found, Importer) else None,
        scope=scope,
    )


def _executor(content: JsonObject, at: str) -> Container | Importer | str:
    """A text is the kind of an executor that runs only elsewhere."""
    if "container" in content:
        return _container(object_at(content["container"], f"{at}.container"), f"{at}.container")
    if "importer" in content:
        return _importer(object_at(content["importer"], f"{at}.importer"), f"{at}.importer")
    return next(iter(content), "unknown")


def _container(content: JsonObject, at: str) -> Container:
    environment = {
        text_at(entry.get("name"), f"{at}.env"): text_at(entry.get("value", ""), f"{at}.env")
        for entry in list_of_objects_at(content.get("env"), f"{at}.env")
    }
    return Container(
        image=text_at(content.get("image", ""), f"{at}.image"),
        command=texts_at(content.get("command"), f"{at}.command"),
        args=texts_at(content.get("args"), f"{at}.args"),
        environment=environment,
        resources=_resources(object_at(content.get("resources"), f"{at}.resources"), f"{at}.resources"),
    )


def _resources(content: JsonObject, at: str) -> ResourceSpec:
    found: dict[str, str] = {}
    for field, (name, old_name, unit) in _RESOURCES.items():
        if name in content:
            found[field] = text_at(content[name], f"{at}.{name}")
        elif content.get(old_name):
            found[field] = f"{content[old_name]}{unit}"
    accelerator = object_at(content.get("accelerator"), f"{at}.accelerator")
    return ResourceSpec(
        **found,
        accelerator_type=str(accelerator.get("resourceType") or accelerator.get("type") or ""),
        accelerator_count=str(accelerator.get("resourceCount") or accelerator.get("count") or ""),
    )


def _importer(content: JsonObject, at: str) -> Importer:
    address = object_at(content.get("artifactUri"), f"{at}.artifactUri")
    old = object_at(address.get("constantValue"), f"{at}.artifactUri.constantValue")
    constant = address.get("constant", old.get("stringValue", ""))
    importer = Importer(
        uri=text_at(constant, f"{at}.artifactUri.constant"),
        uri_from=text_at(address.get("runtimeParameter", ""), f"{at}.artifactUri.runtimeParameter"),
        metadata=object_at(content.get("metadata"), f"{at}.metadata"),
        reimport=bool(content.get("reimport")),
        to_workspace=bool(content.get("downloadToWorkspace")),
    )
    if not importer.uri and not importer.uri_from:
        raise InvalidSpecError("an importer needs artifactUri", where=at, mend=WRITE_PIPELINE)
    return importer


def _parameters(definitions: JsonObject, at: str) -> dict[str, ParameterSpec]:
    found: dict[str, ParameterSpec] = {}
    for name, content in objects_at(definitions.get("parameters"), f"{at}.parameters").items():
        place = f"{at}.parameters.{name}"
        kind = content.get("parameterType")
        if kind not in _PARAMETER_TYPES:
            raise InvalidSpecError(
                f"parameter {name!r} is of the unknown type {kind!r}", where=place, mend=WRITE_PIPELINE
            )
        has_default = content.get("defaultValue") is not None
        found[name] = ParameterSpec(
            name=name,
            type=kind,
            optional=bool(content.get("isOptional")) or has_default,
            has_default=has_default,
            default=exact(content.get("defaultValue"), kind),
            literals=tuple(exact(literal, kind) for literal in list_at(content.get("literals"), place)),
        )
    return found


def _artifacts(definitions: JsonObject, at: str) -> dict[str, ArtifactSpec]:
    found: dict[str, ArtifactSpec] = {}
    for name, content in objects_at(definitions.get("artifacts"), f"{at}.artifacts").items():
        place = f"{at}.artifacts.{name}"
        kind = object_at(content.get("artifactType"), f"{place}.artifactType")
        found[name] = ArtifactSpec(
            name=name,
            type=_schema_title(kind, place),
            version=text_at(kind.get("schemaVersion", "0.0.1"), place),
            optional=bool(content.get("isOptional")),
            is_list=bool(content.get("isArtifactList")),
            metadata=object_at(content.get("metadata"), f"{place}.metadata"),
        )
    return found


def _schema_title(kind: JsonObject, at: str) -> str:
    """An artifact's type; an `instanceSchema`, which is YAML, has it as its title."""
    if "instanceSchema" not in kind:
        return text_at(kind.get("schemaTitle", "system.Artifact"), at)
    try:
        schema: Json = yaml.safe_load(text_at(kind["instanceSchema"], at))
    except yaml.YAMLError as error:
        raise InvalidSpecError("instanceSchema is not YAML", where=at, mend=WRITE_PIPELINE) from error
    title = schema.get("title") if isinstance(schema, dict) else None
    return title if isinstance(title, str) else "system.Artifact"
