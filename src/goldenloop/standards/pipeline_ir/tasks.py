"""From documents to records: scopes, their tasks, and where values come from."""

from __future__ import annotations

import msgspec

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.expressions import check_expression
from goldenloop.standards.pipeline_ir.fields import (
    WRITE_PIPELINE,
    count_at,
    duration_us_at,
    list_of_objects_at,
    object_at,
    objects_at,
    text_at,
    texts_at,
)
from goldenloop.standards.pipeline_ir.records import (
    ArtifactBinding,
    Constant,
    FinalStatusOf,
    FromScope,
    FromTask,
    Loop,
    OneOf,
    Output,
    ParameterBinding,
    RetryPolicy,
    Scope,
    Task,
)

_COMPLETED = "ALL_UPSTREAM_TASKS_COMPLETED"


def read_scope(content: JsonObject, at: str) -> Scope:
    """Read a `dag`."""
    outputs = object_at(content.get("outputs"), f"{at}.outputs")
    parameters = objects_at(outputs.get("parameters"), f"{at}.outputs.parameters")
    artifacts = objects_at(outputs.get("artifacts"), f"{at}.outputs.artifacts")
    tasks = objects_at(content.get("tasks"), f"{at}.tasks")
    return Scope(
        tasks={name: _task(name, task, f"{at}.tasks.{name}") for name, task in tasks.items()},
        parameters={
            name: _output_parameter(output, f"{at}.outputs.parameters.{name}") for name, output in parameters.items()
        },
        artifacts={
            name: _chosen(output.get("artifactSelectors"), "outputArtifactKey", f"{at}.outputs.artifacts.{name}")
            for name, output in artifacts.items()
        },
    )


def _output_parameter(content: JsonObject, at: str) -> Output:
    if "valueFromOneof" in content:
        choices = object_at(content["valueFromOneof"], at).get("parameterSelectors")
        return _chosen(choices, "outputParameterKey", at)
    return _chosen([content.get("valueFromParameter")], "outputParameterKey", at)


def _chosen(selectors: Json, key: str, at: str) -> Output:
    found = tuple(
        FromTask(text_at(selector.get("producerSubtask"), at), text_at(selector.get(key), at))
        for selector in list_of_objects_at(selectors, at)
    )
    if not found:
        raise InvalidSpecError("an output names no task", where=at, mend=WRITE_PIPELINE)
    return found[0] if len(found) == 1 else OneOf(found)


def _task(name: str, content: JsonObject, at: str) -> Task:
    inputs = object_at(content.get("inputs"), f"{at}.inputs")
    sources = objects_at(inputs.get("parameters"), f"{at}.inputs.parameters")
    trigger = object_at(content.get("triggerPolicy"), f"{at}.triggerPolicy")
    caching = object_at(content.get("cachingOptions"), f"{at}.cachingOptions")
    condition = text_at(trigger.get("condition", ""), f"{at}.triggerPolicy.condition")
    if condition:
        check_expression(condition, where=f"{at}.triggerPolicy.condition")
    return Task(
        name=name,
        component=text_at(
            object_at(content.get("componentRef"), f"{at}.componentRef").get("name"), f"{at}.componentRef.name"
        ),
        parameters={
            port: read_parameter_binding(name, source, f"{at}.inputs.parameters.{port}")
            for port, source in sources.items()
        },
        artifacts={
            port: _artifact_binding(name, source, f"{at}.inputs.artifacts.{port}")
            for port, source in objects_at(inputs.get("artifacts"), f"{at}.inputs.artifacts").items()
        },
        selectors=_selectors(sources, f"{at}.inputs.parameters"),
        after=texts_at(content.get("dependentTasks"), f"{at}.dependentTasks"),
        condition=condition,
        whatever_happened=trigger.get("strategy") == _COMPLETED,
        loop=_loop(content, at),
        caching=bool(caching.get("enableCache")),
        cache_key=text_at(caching.get("cacheKey", ""), f"{at}.cachingOptions.cacheKey"),
        retry=_retry(object_at(content.get("retryPolicy"), f"{at}.retryPolicy"), f"{at}.retryPolicy"),
    )


def read_parameter_binding(task: str, source: JsonObject, at: str) -> ParameterBinding:
    """Read where the value of a parameter comes from."""
    if "runtimeValue" in source:
        value = object_at(source["runtimeValue"], at)
        if "runtimeParameter" in value:
            return FromScope(text_at(value["runtimeParameter"], at))
        old = object_at(value.get("constantValue"), at)
        return Constant(value["constant"] if "constant" in value else next(iter(old.values()), None))
    if "componentInputParameter" in source:
        return FromScope(text_at(source["componentInputParameter"], at))
    if "taskOutputParameter" in source:
        output = object_at(source["taskOutputParameter"], at)
        return FromTask(text_at(output.get("producerTask"), at), text_at(output.get("outputParameterKey"), at))
    if "taskFinalStatus" in source:
        return FinalStatusOf(text_at(object_at(source["taskFinalStatus"], at).get("producerTask"), at))
    raise InvalidSpecError(f"task {task!r} does not say where it gets this from", where=at, mend=WRITE_PIPELINE)


def _artifact_binding(task: str, source: JsonObject, at: str) -> ArtifactBinding:
    if "componentInputArtifact" in source:
        return FromScope(text_at(source["componentInputArtifact"], at))
    if "taskOutputArtifact" in source:
        output = object_at(source["taskOutputArtifact"], at)
        return FromTask(text_at(output.get("producerTask"), at), text_at(output.get("outputArtifactKey"), at))
    raise InvalidSpecError(f"task {task!r} does not say where it gets this from", where=at, mend=WRITE_PIPELINE)


def _selectors(sources: dict[str, JsonObject], at: str) -> dict[str, str]:
    found = {
        port: text_at(source["parameterExpressionSelector"], f"{at}.{port}")
        for port, source in sources.items()
        if source.get("parameterExpressionSelector")
    }
    for port, selector in found.items():
        check_expression(selector, where=f"{at}.{port}.parameterExpressionSelector")
    return found


def _loop(content: JsonObject, at: str) -> Loop | None:
    policy = object_at(content.get("iteratorPolicy"), f"{at}.iteratorPolicy")
    parallel = count_at(policy.get("parallelismLimit"), f"{at}.iteratorPolicy.parallelismLimit")
    if "parameterIterator" in content:
        place = f"{at}.parameterIterator"
        iterator = object_at(content["parameterIterator"], place)
        source = object_at(iterator.get("items"), f"{place}.items")
        return Loop(
            item=text_at(iterator.get("itemInput"), f"{place}.itemInput"),
            items=_written_items(source["raw"], f"{place}.items.raw") if "raw" in source else None,
            items_from="" if "raw" in source else text_at(source.get("inputParameter"), f"{place}.items"),
            parallel=parallel,
        )
    if "artifactIterator" in content:
        place = f"{at}.artifactIterator"
        iterator = object_at(content["artifactIterator"], place)
        source = object_at(iterator.get("items"), f"{place}.items")
        return Loop(
            item=text_at(iterator.get("itemInput"), f"{place}.itemInput"),
            over="artifacts",
            items_from=text_at(source.get("inputArtifact"), f"{place}.items"),
            parallel=parallel,
        )
    return None


def _written_items(raw: Json, at: str) -> tuple[Json, ...]:
    try:
        items = msgspec.json.decode(text_at(raw, at))
    except msgspec.DecodeError as error:
        raise InvalidSpecError(f"the items of a loop are not JSON: {error}", where=at, mend=WRITE_PIPELINE) from error
    if not isinstance(items, list):
        raise InvalidSpecError("the items of a loop are a list", where=at, mend=WRITE_PIPELINE)
    return tuple(items)


def _retry(content: JsonObject, at: str) -> RetryPolicy:
    factor = content.get("backoffFactor", 2.0)
    if isinstance(factor, bool) or not isinstance(factor, int | float) or factor < 0:
        raise InvalidSpecError("backoffFactor is a number of 0 or more", where=at, mend=WRITE_PIPELINE)
    return RetryPolicy(
        retries=count_at(content.get("maxRetryCount"), f"{at}.maxRetryCount"),
        first_us=duration_us_at(content.get("backoffDuration", "0s"), at),
        factor=float(factor) or 2.0,
        longest_us=duration_us_at(content.get("backoffMaxDuration", "3600s"), at),
    )
