"""The intermediate representation of Kubeflow Pipelines (`PipelineSpec`, schema 2.1.0), read into frozen records.

A pipeline is a tree of scopes: a `Scope` holds tasks, a task names a `Component`, and a component is either a container
to run or a scope of its own. A `Binding` says where the value of an input comes from, seen from the scope in which the
task stands.

What the engine cannot do yet is refused while reading, with the task and the feature by name, so that nothing starts
that could not end. Numbers: the format knows only doubles, so a whole double in an integer, a list or a struct is an
integer here, as it is for a step on a Kubeflow cluster.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

import msgspec
import yaml

from goldenloop.core.clock import HOUR, SECOND
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json, JsonObject

ParameterType = Literal["STRING", "NUMBER_INTEGER", "NUMBER_DOUBLE", "BOOLEAN", "LIST", "STRUCT"]
PARAMETER_TYPES: tuple[ParameterType, ...] = ("STRING", "NUMBER_INTEGER", "NUMBER_DOUBLE", "BOOLEAN", "LIST", "STRUCT")

_SCHEMA = re.compile(r"^2\.1\.\d+$")
_SECONDS = re.compile(r"^(\d+(?:\.\d+)?)s$")
_WRITE_PIPELINE = "Compile the pipeline with kfp (kfp.compiler) and give its YAML unchanged."
_LATER = "Leave it out of the pipeline: this version cannot run it."


class ParameterSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A parameter that a component takes or gives."""

    name: str
    type: ParameterType
    optional: bool = False
    has_default: bool = False
    default: Json = None


class ArtifactSpec(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact that a component takes or gives; `type` is a schema title such as `system.Model`."""

    name: str
    type: str
    version: str = "0.0.1"
    optional: bool = False


class Constant(msgspec.Struct, frozen=True):
    """A value written in the pipeline. A text may hold placeholders of the task's own inputs."""

    value: Json


class FromScope(msgspec.Struct, frozen=True):
    """The input of this name of the scope in which the task stands."""

    name: str


class FromTask(msgspec.Struct, frozen=True):
    """The output of this name of a task in the same scope."""

    task: str
    name: str


ParameterBinding: TypeAlias = Constant | FromScope | FromTask
ArtifactBinding: TypeAlias = FromScope | FromTask


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often a failed step is tried again, and the pause before it: first * factor ** (failures - 1), at most
    `longest_us`.
    """

    retries: int = 0
    first_us: int = 0
    factor: float = 2.0
    longest_us: int = HOUR

    def pause_us(self, failures: int) -> int:
        """The pause after so many failures, 1 or more.

        >>> RetryPolicy(retries=3, first_us=10, factor=2.0, longest_us=30).pause_us(3)
        30
        """
        return int(min(self.first_us * self.factor ** (failures - 1), self.longest_us))


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """What a leaf component runs: a command line with placeholders. The image is kept, and not honoured by local
    execution.
    """

    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    environment: dict[str, str] = {}


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One use of a component in a scope."""

    name: str
    component: str
    parameters: dict[str, ParameterBinding] = {}
    artifacts: dict[str, ArtifactBinding] = {}
    after: tuple[str, ...] = ()
    caching: bool = False
    retry: RetryPolicy = RetryPolicy()


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks that see each other, and which of their outputs are those of the whole."""

    tasks: dict[str, Task]
    parameters: dict[str, ParameterBinding] = {}
    artifacts: dict[str, ArtifactBinding] = {}


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """What takes inputs and gives outputs: a container or a scope, exactly one of the two."""

    name: str
    input_parameters: dict[str, ParameterSpec] = {}
    input_artifacts: dict[str, ArtifactSpec] = {}
    output_parameters: dict[str, ParameterSpec] = {}
    output_artifacts: dict[str, ArtifactSpec] = {}
    container: Container | None = None
    scope: Scope | None = None


class Pipeline(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline: its root component, whose scope holds the tasks, and all components by name."""

    name: str
    root: Component
    components: dict[str, Component]

    @property
    def root_scope(self) -> Scope:
        """The outermost tasks."""
        assert self.root.scope is not None
        return self.root.scope


class Documents(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline file as it is: the specification, and the platform specification if there is one."""

    pipeline: JsonObject
    platform: JsonObject | None = None


def read_documents(text: str, *, where: str = "pipeline") -> Documents:
    """Split a pipeline's YAML (or JSON) into specification and platform specification. Raises InvalidSpecError."""
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise InvalidSpecError(
            f"this is not YAML: {_one_line(str(error))}", where=where, mend=_WRITE_PIPELINE
        ) from error
    if not documents or not all(isinstance(document, dict) for document in documents) or len(documents) > 2:
        raise InvalidSpecError(
            "a pipeline is one YAML document, or two with a platform", where=where, mend=_WRITE_PIPELINE
        )
    platforms = [document for document in documents if "platforms" in document]
    pipelines = [document for document in documents if "platforms" not in document]
    if len(pipelines) != 1:
        raise InvalidSpecError("there is no pipeline specification in it", where=where, mend=_WRITE_PIPELINE)
    return Documents(pipeline=pipelines[0], platform=platforms[0] if platforms else None)


def read_pipeline(specification: JsonObject, *, where: str = "pipeline") -> Pipeline:
    """Read a specification. Raises InvalidSpecError with the place of what is wrong or not supported."""
    version = specification.get("schemaVersion")
    if not isinstance(version, str) or not _SCHEMA.match(version):
        raise InvalidSpecError(f"schemaVersion is {version!r}, not 2.1.x", where=where, mend="Compile it with kfp 2.")
    executors = _executors(specification, where)
    listed = _objects(specification.get("components"), f"{where}.components")
    components = {
        name: _component(name, content, executors, f"{where}.components.{name}") for name, content in listed.items()
    }
    root = _component("root", _object(specification.get("root"), f"{where}.root"), executors, f"{where}.root")
    if root.scope is None:
        raise InvalidSpecError("the root has no tasks", where=f"{where}.root", mend=_WRITE_PIPELINE)
    info = _object(specification.get("pipelineInfo"), f"{where}.pipelineInfo")
    pipeline = Pipeline(name=_text(info.get("name"), f"{where}.pipelineInfo.name"), root=root, components=components)
    _check(pipeline, root, f"{where}.root", ())
    return pipeline


def _component(name: str, content: JsonObject, executors: dict[str, Container | str], at: str) -> Component:
    inputs = _object(content.get("inputDefinitions"), f"{at}.inputDefinitions")
    outputs = _object(content.get("outputDefinitions"), f"{at}.outputDefinitions")
    container: Container | None = None
    scope: Scope | None = None
    if "dag" in content:
        scope = _scope(_object(content["dag"], f"{at}.dag"), f"{at}.dag")
    elif "executorLabel" in content:
        found = executors.get(_text(content["executorLabel"], f"{at}.executorLabel"))
        if found is None:
            raise InvalidSpecError(f"there is no executor {content['executorLabel']!r}", where=at, mend=_WRITE_PIPELINE)
        if isinstance(found, str):
            raise InvalidSpecError(f"component {name!r} is of kind {found}, not supported yet", where=at, mend=_LATER)
        container = found
    else:
        raise InvalidSpecError("a component needs executorLabel or dag", where=at, mend=_WRITE_PIPELINE)
    return Component(
        name=name,
        input_parameters=_parameters(inputs, f"{at}.inputDefinitions"),
        input_artifacts=_artifacts(inputs, f"{at}.inputDefinitions"),
        output_parameters=_parameters(outputs, f"{at}.outputDefinitions"),
        output_artifacts=_artifacts(outputs, f"{at}.outputDefinitions"),
        container=container,
        scope=scope,
    )


def _executors(specification: JsonObject, where: str) -> dict[str, Container | str]:
    """Containers by label; a text is the kind of an executor that cannot run here."""
    deployment = _object(specification.get("deploymentSpec"), f"{where}.deploymentSpec")
    found: dict[str, Container | str] = {}
    for label, content in _objects(deployment.get("executors"), f"{where}.deploymentSpec.executors").items():
        at = f"{where}.deploymentSpec.executors.{label}"
        if "container" not in content:
            found[label] = next(iter(content), "unknown")
            continue
        container = _object(content["container"], f"{at}.container")
        environment = {
            _text(entry.get("name"), f"{at}.env"): _text(entry.get("value", ""), f"{at}.env")
            for entry in _list_of_objects(container.get("env"), f"{at}.container.env")
        }
        found[label] = Container(
            image=_text(container.get("image", ""), f"{at}.container.image"),
            command=_texts(container.get("command"), f"{at}.container.command"),
            args=_texts(container.get("args"), f"{at}.container.args"),
            environment=environment,
        )
    return found


def _parameters(definitions: JsonObject, at: str) -> dict[str, ParameterSpec]:
    found: dict[str, ParameterSpec] = {}
    for name, content in _objects(definitions.get("parameters"), f"{at}.parameters").items():
        kind = content.get("parameterType")
        if kind not in PARAMETER_TYPES:
            raise InvalidSpecError(
                f"parameter {name!r} is of type {kind!r}, not supported yet",
                where=f"{at}.parameters.{name}",
                mend=_LATER,
            )
        has_default = "defaultValue" in content
        found[name] = ParameterSpec(
            name=name,
            type=kind,
            optional=bool(content.get("isOptional")) or has_default,
            has_default=has_default,
            default=exact(content.get("defaultValue"), kind),
        )
    return found


def _artifacts(definitions: JsonObject, at: str) -> dict[str, ArtifactSpec]:
    found: dict[str, ArtifactSpec] = {}
    for name, content in _objects(definitions.get("artifacts"), f"{at}.artifacts").items():
        place = f"{at}.artifacts.{name}"
        if content.get("isArtifactList"):
            raise InvalidSpecError(f"{name!r} is a list of artifacts, not supported yet", where=place, mend=_LATER)
        kind = _object(content.get("artifactType"), f"{place}.artifactType")
        found[name] = ArtifactSpec(
            name=name,
            type=_text(kind.get("schemaTitle", "system.Artifact"), place),
            version=_text(kind.get("schemaVersion", "0.0.1"), place),
            optional=bool(content.get("isOptional")),
        )
    return found


def _scope(content: JsonObject, at: str) -> Scope:
    listed = _objects(content.get("tasks"), f"{at}.tasks")
    outputs = _object(content.get("outputs"), f"{at}.outputs")
    parameters: dict[str, ParameterBinding] = {}
    for name, output in _objects(outputs.get("parameters"), f"{at}.outputs.parameters").items():
        if "valueFromParameter" not in output:
            raise InvalidSpecError(f"output {name!r} takes one of several tasks", where=f"{at}.outputs", mend=_LATER)
        parameters[name] = _from_subtask(
            output["valueFromParameter"], "outputParameterKey", f"{at}.outputs.parameters.{name}"
        )
    artifacts: dict[str, ArtifactBinding] = {}
    for name, output in _objects(outputs.get("artifacts"), f"{at}.outputs.artifacts").items():
        place = f"{at}.outputs.artifacts.{name}"
        selectors = _list_of_objects(output.get("artifactSelectors"), place)
        if len(selectors) != 1:
            raise InvalidSpecError(f"output {name!r} takes one of several tasks", where=place, mend=_LATER)
        artifacts[name] = _from_subtask(selectors[0], "outputArtifactKey", place)
    tasks = {name: _task(name, task, f"{at}.tasks.{name}") for name, task in listed.items()}
    return Scope(tasks=tasks, parameters=parameters, artifacts=artifacts)


def _from_subtask(content: Json, key: str, at: str) -> FromTask:
    source = _object(content, at)
    return FromTask(_text(source.get("producerSubtask"), at), _text(source.get(key), at))


def _task(name: str, content: JsonObject, at: str) -> Task:
    for field, feature in _UNSUPPORTED_TASK_FIELDS.items():
        if content.get(field):
            raise InvalidSpecError(
                f"task {name!r} uses {feature}, not supported yet", where=f"{at}.{field}", mend=_LATER
            )
    inputs = _object(content.get("inputs"), f"{at}.inputs")
    parameters = {
        port: _parameter_binding(name, source, f"{at}.inputs.parameters.{port}")
        for port, source in _objects(inputs.get("parameters"), f"{at}.inputs.parameters").items()
    }
    artifacts = {
        port: _artifact_binding(name, source, f"{at}.inputs.artifacts.{port}")
        for port, source in _objects(inputs.get("artifacts"), f"{at}.inputs.artifacts").items()
    }
    reference = _object(content.get("componentRef"), f"{at}.componentRef")
    caching = _object(content.get("cachingOptions"), f"{at}.cachingOptions")
    return Task(
        name=name,
        component=_text(reference.get("name"), f"{at}.componentRef.name"),
        parameters=parameters,
        artifacts=artifacts,
        after=_texts(content.get("dependentTasks"), f"{at}.dependentTasks"),
        caching=bool(caching.get("enableCache")),
        retry=_retry(_object(content.get("retryPolicy"), f"{at}.retryPolicy"), f"{at}.retryPolicy"),
    )


_UNSUPPORTED_TASK_FIELDS = {
    "triggerPolicy": "a condition or an exit handler",
    "parameterIterator": "a loop over parameters",
    "artifactIterator": "a loop over artifacts",
    "iteratorPolicy": "a loop",
}


def _parameter_binding(task: str, source: JsonObject, at: str) -> ParameterBinding:
    if source.get("parameterExpressionSelector"):
        raise InvalidSpecError(f"task {task!r} takes a part of a value, not supported yet", where=at, mend=_LATER)
    if "runtimeValue" in source:
        return Constant(_object(source["runtimeValue"], at).get("constant"))
    if "componentInputParameter" in source:
        return FromScope(_text(source["componentInputParameter"], at))
    if "taskOutputParameter" in source:
        output = _object(source["taskOutputParameter"], at)
        return FromTask(_text(output.get("producerTask"), at), _text(output.get("outputParameterKey"), at))
    raise InvalidSpecError(
        f"task {task!r} takes a {next(iter(source), 'nothing')}, not supported yet", where=at, mend=_LATER
    )


def _artifact_binding(task: str, source: JsonObject, at: str) -> ArtifactBinding:
    if "componentInputArtifact" in source:
        return FromScope(_text(source["componentInputArtifact"], at))
    if "taskOutputArtifact" in source:
        output = _object(source["taskOutputArtifact"], at)
        return FromTask(_text(output.get("producerTask"), at), _text(output.get("outputArtifactKey"), at))
    raise InvalidSpecError(
        f"task {task!r} takes a {next(iter(source), 'nothing')}, not supported yet", where=at, mend=_LATER
    )


def _retry(content: JsonObject, at: str) -> RetryPolicy:
    retries, factor = content.get("maxRetryCount", 0), content.get("backoffFactor", 2.0)
    if not isinstance(retries, int | float) or not isinstance(factor, int | float) or retries < 0 or factor < 0:
        raise InvalidSpecError(
            "maxRetryCount and backoffFactor are numbers of 0 or more", where=at, mend=_WRITE_PIPELINE
        )
    return RetryPolicy(
        retries=int(retries),
        first_us=_seconds(content.get("backoffDuration", "0s"), at),
        factor=float(factor) or 2.0,
        longest_us=_seconds(content.get("backoffMaxDuration", "3600s"), at),
    )


def _seconds(value: Json, at: str) -> int:
    matched = _SECONDS.match(value) if isinstance(value, str) else None
    if matched is None:
        raise InvalidSpecError(f"{value!r} is not a duration in seconds such as 30s", where=at, mend=_WRITE_PIPELINE)
    return round(float(matched[1]) * SECOND)


def _check(pipeline: Pipeline, component: Component, at: str, above: tuple[str, ...]) -> None:
    """Every name that a scope uses must be there, inputs that must be bound are, and no task waits for itself."""
    scope = component.scope
    if scope is None:
        return
    if component.name in above:
        raise InvalidSpecError(f"component {component.name!r} contains itself", where=at, mend=_WRITE_PIPELINE)
    for name, task in scope.tasks.items():
        place = f"{at}.dag.tasks.{name}"
        used = pipeline.components.get(task.component)
        if used is None:
            raise InvalidSpecError(f"there is no component {task.component!r}", where=place, mend=_WRITE_PIPELINE)
        for port, parameter in task.parameters.items():
            _check_binding(pipeline, component, parameter, "parameters", f"{place}.inputs.parameters.{port}")
        for port, artifact in task.artifacts.items():
            _check_binding(pipeline, component, artifact, "artifacts", f"{place}.inputs.artifacts.{port}")
        unbound = [
            port for port, spec in used.input_parameters.items() if not spec.optional and port not in task.parameters
        ]
        unbound += [
            port for port, spec in used.input_artifacts.items() if not spec.optional and port not in task.artifacts
        ]
        if unbound:
            raise InvalidSpecError(
                f"task {name!r} gets nothing for {', '.join(unbound)}", where=place, mend=_WRITE_PIPELINE
            )
        for other in task.after:
            if other not in scope.tasks:
                raise InvalidSpecError(f"task {name!r} waits for {other!r}, unknown", where=place, mend=_WRITE_PIPELINE)
        _check(pipeline, used, f"pipeline.components.{used.name}", (*above, component.name))
    for port, binding in (*scope.parameters.items(), *scope.artifacts.items()):
        kind: Literal["parameters", "artifacts"] = "parameters" if port in scope.parameters else "artifacts"
        _check_binding(pipeline, component, binding, kind, f"{at}.dag.outputs.{port}")
    _check_order(scope, at)


def _check_binding(
    pipeline: Pipeline,
    component: Component,
    binding: ParameterBinding,
    kind: Literal["parameters", "artifacts"],
    at: str,
) -> None:
    if isinstance(binding, FromScope):
        known = component.input_parameters if kind == "parameters" else component.input_artifacts
        if binding.name not in known:
            raise InvalidSpecError(f"{component.name!r} has no input {binding.name!r}", where=at, mend=_WRITE_PIPELINE)
    elif isinstance(binding, FromTask):
        assert component.scope is not None
        task = component.scope.tasks.get(binding.task)
        producer = pipeline.components.get(task.component) if task else None
        if producer is None:
            raise InvalidSpecError(f"there is no task {binding.task!r}", where=at, mend=_WRITE_PIPELINE)
        if binding.name not in (producer.output_parameters if kind == "parameters" else producer.output_artifacts):
            raise InvalidSpecError(
                f"task {binding.task!r} has no output {binding.name!r}", where=at, mend=_WRITE_PIPELINE
            )


def _check_order(scope: Scope, at: str) -> None:
    waiting = {name: waits_for(task) for name, task in scope.tasks.items()}
    while waiting:
        free = [name for name, others in waiting.items() if not others & waiting.keys()]
        if not free:
            raise InvalidSpecError(f"tasks wait for each other: {', '.join(waiting)}", where=at, mend=_WRITE_PIPELINE)
        for name in free:
            del waiting[name]


def waits_for(task: Task) -> set[str]:
    """The tasks of its scope that must have succeeded before a task can start."""
    bindings = (*task.parameters.values(), *task.artifacts.values())
    return {*task.after, *(binding.task for binding in bindings if isinstance(binding, FromTask))}


def exact(value: Json, kind: ParameterType) -> Json:
    """Return a value that was written as doubles in the kind it was meant: whole numbers are integers except where a
    double is asked.

    >>> exact(3.0, "NUMBER_INTEGER"), exact([1.0, 2.5], "LIST"), exact(3, "NUMBER_DOUBLE")
    (3, [1, 2.5], 3.0)
    """
    if kind == "NUMBER_DOUBLE" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind in ("NUMBER_INTEGER", "LIST", "STRUCT"):
        return _whole(value)
    return value


def _whole(value: Json) -> Json:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(member) for member in value]
    if isinstance(value, dict):
        return {key: _whole(member) for key, member in value.items()}
    return value


def fits(value: Json, kind: ParameterType) -> bool:
    """Whether a value may stand for a parameter of this kind; an integer may stand for a double."""
    if isinstance(value, bool):
        return kind == "BOOLEAN"
    allowed: dict[ParameterType, tuple[type, ...]] = {
        "STRING": (str,),
        "NUMBER_INTEGER": (int,),
        "NUMBER_DOUBLE": (int, float),
        "BOOLEAN": (bool,),
        "LIST": (list,),
        "STRUCT": (dict,),
    }
    return isinstance(value, allowed[kind]) or (
        kind == "NUMBER_INTEGER" and isinstance(value, float) and value.is_integer()
    )


def _object(value: Json, at: str) -> JsonObject:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidSpecError(f"an object is expected, not {value!r}", where=at, mend=_WRITE_PIPELINE)
    return value


def _objects(value: Json, at: str) -> dict[str, JsonObject]:
    return {name: _object(member, f"{at}.{name}") for name, member in _object(value, at).items()}


def _list_of_objects(value: Json, at: str) -> list[JsonObject]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidSpecError(f"a list is expected, not {value!r}", where=at, mend=_WRITE_PIPELINE)
    return [_object(member, at) for member in value]


def _texts(value: Json, at: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidSpecError(f"a list is expected, not {value!r}", where=at, mend=_WRITE_PIPELINE)
    return tuple(_text(member, at) for member in value)


def _text(value: Json, at: str) -> str:
    if not isinstance(value, str):
        raise InvalidSpecError(f"a text is expected, not {value!r}", where=at, mend=_WRITE_PIPELINE)
    return value


def _one_line(text: str) -> str:
    return " ".join(text.split())
