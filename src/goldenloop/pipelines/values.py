"""Values in a run: what a task gets, what a scope and a loop give. Pure.

Every task that holds others (a nested pipeline, a branch, a loop) has inputs and outputs of its own, so a value comes
from next door: from the inputs of the scope or from another task in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json, JsonObject
from goldenloop.core.phases import RunState
from goldenloop.pipelines.placeholders import Surroundings, expand_deep
from goldenloop.standards.expressions import evaluate
from goldenloop.standards.pipeline_ir import (
    TASK_CONFIG,
    Component,
    Constant,
    FinalStatusOf,
    FromScope,
    FromTask,
    Loop,
    OneOf,
    Output,
    ParameterBinding,
    Scope,
    Task,
    as_kind,
    exact,
)

# How a task ended, in the words that a step on a Kubeflow cluster is told.
_FINAL_STATES = {
    RunState.SUCCEEDED: "COMPLETE",
    RunState.FAILED: "FAILED",
    RunState.SKIPPED: "CANCELED",
    RunState.CANCELED: "CANCELED",
}
_UNKNOWN_ERROR = 2  # the code of google.rpc.Status for an error that has no other


class Values(msgspec.Struct, frozen=True):
    """Values of parameters, and the ids of artifacts, by port. A port of one artifact is a list of one."""

    parameters: JsonObject = {}
    artifacts: dict[str, tuple[str, ...]] = {}

    def as_document(self) -> JsonObject:
        """As it is kept; `values_of` reads it."""
        return {"parameters": self.parameters, "artifacts": {port: list(ids) for port, ids in self.artifacts.items()}}


class Neighbour(Protocol):
    """A task of the same scope, as far as others need it."""

    @property
    def state(self) -> RunState: ...
    @property
    def outputs(self) -> Values: ...
    @property
    def error(self) -> str | None: ...


class Around(msgspec.Struct, frozen=True, kw_only=True):
    """What a task sees: the inputs of its scope, its neighbours by name, and named facts (`pipeline_job_name` …)."""

    inputs: Values
    neighbours: Mapping[str, Neighbour]
    facts: Mapping[str, str]


def values_of(document: Mapping[str, Json] | None) -> Values:
    """Read what is kept of values; earlier versions kept one id for a port."""
    if document is None:
        return Values()
    artifacts = document.get("artifacts") or {}
    parameters = document.get("parameters") or {}
    assert isinstance(artifacts, dict)
    assert isinstance(parameters, dict)
    return Values(
        parameters=parameters,
        artifacts={
            port: (ids,) if isinstance(ids, str) else tuple(map(str, ids if isinstance(ids, list) else ()))
            for port, ids in artifacts.items()
        },
    )


def bind(task: Task, component: Component, around: Around, *, where: str) -> Values:
    """What a task gets. An optional input that nobody gives is left out, or has its default.

    Raises InvalidSpecError that names the input that is missing or of the wrong kind.
    """
    values: JsonObject = {
        name: spec.default
        for name, spec in component.input_parameters.items()
        if spec.has_default and spec.type != TASK_CONFIG
    }
    for name, binding in task.parameters.items():
        value = parameter_value(binding, around)
        if value is not None and name in task.selectors:
            value = _selected(value, task.selectors[name], where=f"{where}, input {name!r}")
        if value is not None:
            spec = component.input_parameters.get(name)
            values[name] = exact(value, spec.type) if spec is not None and isinstance(binding, Constant) else value
    surroundings = Surroundings(executor_input={"inputs": {"parameterValues": dict(values)}}, facts=around.facts)
    for name, binding in task.parameters.items():
        if isinstance(binding, Constant) and name in values:
            values[name] = expand_deep(values[name], surroundings, where=f"{where}, input {name!r}")
    for name, spec in component.input_parameters.items():
        if name in values:
            values[name] = as_kind(values[name], spec, where=f"{where}, input {name!r}")
    artifacts: dict[str, tuple[str, ...]] = {}
    for name, source in task.artifacts.items():
        found = _artifacts_of(source, around)
        if found is not None:
            artifacts[name] = found
    _check_present(task, component, Values(values, artifacts), where=where)
    return Values(values, artifacts)


def holds(condition: str, inputs: Values, facts: Mapping[str, JsonObject], *, where: str) -> bool:
    """Whether a condition over inputs is true. `facts`: what is known of artifacts, by id. Raises InvalidSpecError."""
    listed: JsonObject = {
        port: {"artifacts": [facts.get(identity, {}) for identity in ids]} for port, ids in inputs.artifacts.items()
    }
    seen: JsonObject = {
        "parameter_values": inputs.parameters,
        "parameters": inputs.parameters,
        "artifacts": listed,
    }
    result = evaluate(condition, {"inputs": seen}, where=where)
    if not isinstance(result, bool):
        raise InvalidSpecError(f"the condition {condition!r} gives {result!r}", where=where, mend="Compare it.")
    return result


def loop_items(loop: Loop, component: Component, inputs: Values, *, where: str) -> list[Json]:
    """The items of a loop: values, or ids of artifacts. Raises InvalidSpecError for what is no list, and for an item of
    a wrong kind.
    """
    if loop.over == "artifacts":
        return list(inputs.artifacts.get(loop.items_from, ()))
    value: Json = list(loop.items) if loop.items is not None else inputs.parameters.get(loop.items_from)
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError:
            value = None
    if not isinstance(value, list):
        raise InvalidSpecError(
            f"the loop goes over {loop.items_from!r}, which is no list", where=where, mend="Give it a list."
        )
    spec = component.input_parameters[loop.item]
    return [
        None if item is None else as_kind(item, spec, where=f"{where}, item {number}")
        for number, item in enumerate(value)
    ]


def round_item(loop: Loop, item: Json) -> Values:
    """What a round gets of its own: its item."""
    return Values(artifacts={loop.item: (str(item),)}) if loop.over == "artifacts" else Values({loop.item: item})


def round_inputs(inputs: Values, own: Values) -> Values:
    """What a round gets: what the loop got, and what is its own."""
    return Values({**inputs.parameters, **own.parameters}, {**inputs.artifacts, **own.artifacts})


def scope_outputs(scope: Scope, neighbours: Mapping[str, Neighbour]) -> Values:
    """What a scope gives, as far as its tasks gave it."""
    parameters: JsonObject = {}
    for name, output in scope.parameters.items():
        for choice in _choices(output, neighbours):
            given = neighbours[choice.task].outputs.parameters
            if choice.name in given:
                parameters[name] = given[choice.name]
                break
    artifacts: dict[str, tuple[str, ...]] = {}
    for name, output in scope.artifacts.items():
        for choice in _choices(output, neighbours):
            ids = neighbours[choice.task].outputs.artifacts.get(choice.name)
            if ids is not None:
                artifacts[name] = ids
                break
    return Values(parameters, artifacts)


def loop_outputs(component: Component, rounds: Iterable[Values]) -> Values:
    """What a loop gives: of each parameter the list of the rounds' values, of artifacts one list of all.

    A round that gave nothing, because a branch in it was skipped, is left out.
    """
    parameters: dict[str, list[Json]] = {name: [] for name in component.output_parameters}
    artifacts: dict[str, list[str]] = {name: [] for name in component.output_artifacts}
    for one in rounds:
        for name, values in parameters.items():
            if name in one.parameters:
                values.append(one.parameters[name])
        for name, ids in artifacts.items():
            ids += one.artifacts.get(name, ())
    collected: JsonObject = {name: list(values) for name, values in parameters.items()}
    return Values(collected, {name: tuple(ids) for name, ids in artifacts.items()})


def final_status(name: str, ended: Neighbour, facts: Mapping[str, str]) -> JsonObject:
    """How a task ended, as KFP's PipelineTaskFinalStatus."""
    error: JsonObject = {"code": _UNKNOWN_ERROR, "message": ended.error} if ended.error else {}
    return {
        "state": _FINAL_STATES.get(ended.state, ended.state.value),
        "error": error,
        "pipelineJobResourceName": facts.get("pipeline_job_resource_name", ""),
        "pipelineTaskName": name,
    }


def _choices(output: Output, neighbours: Mapping[str, Neighbour]) -> tuple[FromTask, ...]:
    if isinstance(output, OneOf):
        return tuple(one for one in output.choices if neighbours[one.task].state is RunState.SUCCEEDED)
    return (output,)


def parameter_value(binding: ParameterBinding, around: Around) -> Json:
    """The value of a parameter as a task sees it, or None where nothing gave one."""
    match binding:
        case Constant(value):
            return value
        case FromScope(name):
            return around.inputs.parameters.get(name)
        case FromTask(task, name):
            return around.neighbours[task].outputs.parameters.get(name)
        case FinalStatusOf(task):
            return final_status(task, around.neighbours[task], around.facts)


def _artifacts_of(binding: FromScope | FromTask, around: Around) -> tuple[str, ...] | None:
    if isinstance(binding, FromScope):
        return around.inputs.artifacts.get(binding.name)
    return around.neighbours[binding.task].outputs.artifacts.get(binding.name)


def _selected(value: Json, selector: str, *, where: str) -> Json:
    """The part of a value that a selector takes. It sees the value in its kind, and always as JSON text."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    seen: dict[str, Json] = {"string_value": text}
    if isinstance(value, bool):
        seen["bool_value"] = value
    elif isinstance(value, int | float):
        seen["number_value"] = value
    elif isinstance(value, list):
        seen["list_value"] = value
    elif isinstance(value, dict):
        seen["struct_value"] = value
    return evaluate(selector, seen, where=where)


def _check_present(task: Task, component: Component, values: Values, *, where: str) -> None:
    loop = task.loop
    given = {*values.parameters, *values.artifacts, *((loop.item,) if loop is not None else ())}
    missing = [name for name, wanted in component.input_artifacts.items() if not wanted.optional and name not in given]
    missing += [
        name
        for name, spec in component.input_parameters.items()
        if not spec.optional and spec.type != TASK_CONFIG and name not in given
    ]
    if missing:
        raise InvalidSpecError(
            f"task {task.name!r} got nothing for {', '.join(missing)}",
            where=where,
            mend="Give the run this input, or make the component's input optional.",
        )
