"""Reading the intermediate representation: what it means, and what is refused by name."""

from __future__ import annotations

import copy
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.pipeline_ir import (
    Constant,
    FromScope,
    FromTask,
    Importer,
    Loop,
    OneOf,
    ParameterSpec,
    ParameterType,
    ResourceSpec,
    RetryPolicy,
    as_kind,
    exact,
    fits,
    read_documents,
    read_pipeline,
)

TEXT = """
schemaVersion: 2.1.0
pipelineInfo: {name: two-steps}
components:
  comp-make:
    executorLabel: exec-make
    inputDefinitions:
      parameters:
        n: {parameterType: NUMBER_INTEGER}
        words: {parameterType: LIST, defaultValue: [1.0, 2.5], isOptional: true}
    outputDefinitions:
      parameters: {Output: {parameterType: NUMBER_INTEGER}}
      artifacts: {out: {artifactType: {schemaTitle: system.Dataset, schemaVersion: 0.0.1}}}
  comp-inner:
    dag:
      tasks:
        make:
          componentRef: {name: comp-make}
          inputs: {parameters: {n: {componentInputParameter: a}}}
      outputs:
        parameters:
          Output: {valueFromParameter: {outputParameterKey: Output, producerSubtask: make}}
    inputDefinitions: {parameters: {a: {parameterType: NUMBER_INTEGER}}}
    outputDefinitions: {parameters: {Output: {parameterType: NUMBER_INTEGER}}}
deploymentSpec:
  executors:
    exec-make:
      container: {image: python, command: [sh, -c, "true"], args: ["{{$}}"], env: [{name: A, value: B}]}
root:
  dag:
    tasks:
      first:
        componentRef: {name: comp-make}
        cachingOptions: {enableCache: true}
        inputs: {parameters: {n: {runtimeValue: {constant: 7.0}}}}
        retryPolicy: {maxRetryCount: 3, backoffDuration: 2s, backoffFactor: 3.0, backoffMaxDuration: 10s}
      second:
        componentRef: {name: comp-inner}
        dependentTasks: [first]
        inputs: {parameters: {a: {taskOutputParameter: {producerTask: first, outputParameterKey: Output}}}}
  inputDefinitions: {parameters: {n: {parameterType: NUMBER_INTEGER, defaultValue: 3.0}}}
"""
PLATFORM = "---\nplatforms: {kubernetes: {deploymentSpec: {executors: {}}}}\n"


TASK = "root.dag.tasks.second"
SELECTOR = {"producerSubtask": "make", "outputParameterKey": "Output"}


def specification() -> JsonObject:
    return read_documents(TEXT).pipeline


def place(document: JsonObject, path: str) -> JsonObject:
    for key in path.split("."):
        document = cast(JsonObject, document[key])
    return document


def test_a_pipeline_is_read_into_records() -> None:
    pipeline = read_pipeline(specification())
    make = pipeline.components["comp-make"]
    assert make.container is not None
    assert (make.container.environment, make.container.args) == ({"A": "B"}, ("{{$}}",))
    assert make.input_parameters["words"].default == [1, 2.5]
    assert make.output_artifacts["out"].type == "system.Dataset"
    first, second = pipeline.root_scope.tasks.values()
    assert first.parameters["n"] == Constant(7.0)
    assert first.caching
    assert first.retry == RetryPolicy(retries=3, first_us=2_000_000, factor=3.0, longest_us=10_000_000)
    assert [first.retry.pause_us(failures) for failures in (1, 2, 3)] == [2_000_000, 6_000_000, 10_000_000]
    assert second.parameters["a"] == FromTask("first", "Output")
    assert second.after == ("first",)
    inner = pipeline.components["comp-inner"].scope
    assert inner is not None
    assert inner.tasks["make"].parameters["n"] == FromScope("a")
    default = pipeline.root.input_parameters["n"].default
    assert (default, type(default)) == (3, int)


def test_control_flow_is_read() -> None:
    document = specification()
    place(document, TASK).update(
        {
            "triggerPolicy": {
                "condition": "inputs.parameter_values['a'] > 1",
                "strategy": "ALL_UPSTREAM_TASKS_COMPLETED",
            },
            "parameterIterator": {"itemInput": "a", "items": {"raw": "[1, 2.5]"}},
            "iteratorPolicy": {"parallelismLimit": 2.0},
            "cachingOptions": {"enableCache": True, "cacheKey": "mine"},
        }
    )
    place(document, f"{TASK}.inputs.parameters")["a"]["parameterExpressionSelector"] = "number_value"
    output = {"valueFromOneof": {"parameterSelectors": [SELECTOR, SELECTOR]}}
    place(document, "components.comp-inner.dag.outputs.parameters")["Output"] = output
    task = read_pipeline(document).root_scope.tasks["second"]
    assert task.loop == Loop(item="a", items=(1, 2.5), parallel=2)
    assert (task.whatever_happened, task.cache_key) == (True, "mine")
    assert task.selectors == {"a": "number_value"}
    inner = read_pipeline(document).components["comp-inner"].scope
    assert inner is not None
    assert inner.parameters["Output"] == OneOf((FromTask("make", "Output"),) * 2)


def test_an_importer_is_read() -> None:
    document = specification()
    executor = {"artifactUri": {"runtimeParameter": "uri"}, "metadata": {"a": 1}, "reimport": True}
    place(document, "deploymentSpec.executors")["exec-get"] = {"importer": executor}
    place(document, "components")["comp-get"] = {
        "executorLabel": "exec-get",
        "outputDefinitions": {"artifacts": {"artifact": {"artifactType": {"instanceSchema": "title: acme.Table"}}}},
    }
    component = read_pipeline(document).components["comp-get"]
    assert component.importer == Importer(uri_from="uri", metadata={"a": 1}, reimport=True)
    assert component.output_artifacts["artifact"].type == "acme.Table"


def test_resources_are_read_in_both_forms() -> None:
    document = specification()
    container = place(document, "deploymentSpec.executors.exec-make.container")
    container["resources"] = {
        "cpuLimit": 0.5,
        "resourceMemoryLimit": "2Gi",
        "accelerator": {"type": "gpu", "count": "1"},
    }
    read = read_pipeline(document).components["comp-make"].container
    assert read is not None
    assert read.resources == ResourceSpec(
        processor_limit="0.5", memory_limit="2Gi", accelerator_type="gpu", accelerator_count="1"
    )


def test_values_come_in_the_kind_that_is_declared() -> None:
    def given(value: Json, kind: ParameterType, *literals: Json) -> Json:
        return as_kind(value, ParameterSpec(name="p", type=kind, literals=literals), where="task")

    assert given({"a": [1, 2.0]}, "STRING") == '{"a":[1,2.0]}'
    assert (given(3.0, "NUMBER_INTEGER"), given(3, "NUMBER_DOUBLE")) == (3, 3.0)
    assert given([1, 2.0], "LIST") == [1, 2.0], "what a step gave is exact"
    with pytest.raises(InvalidSpecError, match="'x' is not of type NUMBER_INTEGER"):
        given("x", "NUMBER_INTEGER")
    with pytest.raises(InvalidSpecError, match="'c' is not one of 'a', 'b'"):
        given("c", "STRING", "a", "b")


def test_a_platform_document_is_kept_apart() -> None:
    documents = read_documents(TEXT + PLATFORM)
    assert documents.platform is not None
    assert "root" in documents.pipeline


@pytest.mark.parametrize("text", ["", "a: [", "- 1", PLATFORM, TEXT + "---\n" + TEXT])
def test_what_is_no_pipeline_file_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        read_documents(text, where="loan.yaml")
    assert caught.value.where == "loan.yaml"


BROKEN = [
    (TASK, {"triggerPolicy": {"condition": "inputs.a =="}}, "'inputs.a ==' is no expression: it ends too early"),
    (TASK, {"parameterIterator": {"items": {"raw": "[1"}, "itemInput": "a"}}, "items of a loop are not JSON"),
    (TASK, {"parameterIterator": {"items": {"raw": "{}"}, "itemInput": "a"}}, "items of a loop are a list"),
    (TASK, {"parameterIterator": {"items": {"raw": "[]"}, "itemInput": "b"}}, "uses 'b', which 'comp-inner' does not"),
    (f"{TASK}.inputs.parameters", {"a": {"taskFinalStatus": {"producerTask": "x"}}}, "no task 'x'"),
    (f"{TASK}.inputs.parameters", {"a": {}}, "does not say where"),
    ("components.comp-make.inputDefinitions.parameters.n", {"parameterType": "NUMBER"}, "unknown type 'NUMBER'"),
    ("deploymentSpec.executors", {"exec-make": {"resolver": {}}}, "comp-make.*of kind resolver"),
    ("deploymentSpec.executors", {"exec-make": {"importer": {}}}, "importer needs artifactUri"),
    ("components.comp-inner.dag.outputs.parameters", {"Output": {"valueFromOneof": {}}}, "names no task"),
    ("root.dag.tasks.first", {"parameterIterator": {"items": {"raw": "[]"}, "itemInput": "n"}}, "holds no tasks"),
    (TASK, {"componentRef": {"name": "nobody"}}, "no component 'nobody'"),
    (TASK, {"dependentTasks": ["nobody"]}, "waits for 'nobody'"),
    (TASK, {"inputs": {}}, "gets nothing for a"),
    (f"{TASK}.inputs.parameters", {"a": {"componentInputParameter": "b"}}, "no input 'b'"),
    ("root.dag.tasks.first", {"dependentTasks": ["second"]}, "wait for each other"),
    ("components.comp-inner.dag.tasks.make.componentRef", {"name": "comp-inner"}, "gets nothing|contains itself"),
    ("components.comp-make", {"executorLabel": "nobody"}, "no executor 'nobody'"),
    (".", {"schemaVersion": "1.0"}, "schemaVersion"),
    (".", {"root": {"executorLabel": "exec-make"}}, "the root has no tasks"),
    ("root.dag.tasks.first.retryPolicy", {"backoffDuration": "soon"}, "not a duration"),
]


@pytest.mark.parametrize(("path", "change", "message"), BROKEN)
def test_what_cannot_run_is_refused_with_its_place(path: str, change: JsonObject, message: str) -> None:
    document = copy.deepcopy(specification())
    (document if path == "." else place(document, path)).update(change)
    with pytest.raises(InvalidSpecError, match=message) as caught:
        read_pipeline(document)
    assert caught.value.where.startswith("pipeline")
    assert caught.value.mend


@given(st.integers(-(2**53), 2**53))
def test_whole_numbers_stay_whole(number: int) -> None:
    for given_value in (number, float(number)):
        value = exact(given_value, "NUMBER_INTEGER")
        assert (value, type(value)) == (number, int)
        assert fits(given_value, "NUMBER_INTEGER")
        assert type(exact(given_value, "NUMBER_DOUBLE")) is float
    assert exact({"a": [float(number)]}, "STRUCT") == {"a": [number]}


def test_kinds_are_told_apart() -> None:
    assert fits(True, "BOOLEAN")
    assert not fits(True, "NUMBER_INTEGER")
    assert not fits(1.5, "NUMBER_INTEGER")
    assert not fits("1", "NUMBER_DOUBLE")
    assert not fits({}, "LIST")
