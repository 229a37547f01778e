"""Placeholders: what each becomes, and that a value is never expanded again."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.pipelines.placeholders import Surroundings, expand, expand_deep, expand_words

INPUT: JsonObject = {
    "inputs": {
        "parameterValues": {
            "n": 3,
            "x": 0.5,
            "text": "hi",
            "list": [1, 2.5],
            "yes": True,
            "trap": "{{$.inputs.parameters['n']}}",
        },
        "artifacts": {"data": {"artifacts": [{"uri": "/tmp/data", "metadata": {"rows": 5}}]}},
    },
    "outputs": {
        "parameters": {"count": {"outputFile": "/tmp/count"}},
        "artifacts": {"model": {"artifacts": [{"uri": "/tmp/model"}]}},
        "outputFile": "/tmp/out.json",
    },
}
AROUND = Surroundings(executor_input=INPUT, facts={"pipeline_job_name": "loan-7", "pipeline_task_uuid": "u"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{$.inputs.parameters['n']}}", "3"),
        ("{{$.inputs.parameters['x']}}", "0.5"),
        ('a{{$.inputs.parameters["text"]}}b', "ahib"),
        ("{{$.inputs.parameters['list']}}", "[1,2.5]"),
        ("{{$.inputs.parameters['yes']}}", "true"),
        ("{{$.inputs.parameters['trap']}}", "{{$.inputs.parameters['n']}}"),
        ("{{$.inputs.artifacts['data'].uri}}", "/tmp/data"),
        ("{{$.inputs.artifacts['data'].path}}", "/tmp/data"),
        ("{{$.inputs.artifacts['data'].metadata['rows']}}", "5"),
        ("{{$.outputs.artifacts['model'].path}}", "/tmp/model"),
        ("{{$.outputs.parameters['count'].output_file}}", "/tmp/count"),
        ("{{$.outputs.output_file}}", "/tmp/out.json"),
        ("{{$.pipeline_job_name}}-{{$.pipeline_task_uuid}}", "loan-7-u"),
        ("{{$.inputs.parameters['nobody']}}", ""),
        ("no {braces} of ours {{ x }}", "no {braces} of ours {{ x }}"),
    ],
)
def test_what_each_becomes(text: str, expected: str) -> None:
    assert expand(text, AROUND, where="step") == expected


def test_the_whole_input_is_json() -> None:
    assert json.loads(expand("{{$}}", AROUND, where="step")) == INPUT


def test_an_unknown_placeholder_is_refused() -> None:
    with pytest.raises(InvalidSpecError, match="workspace_path"):
        expand("{{$.workspace_path}}", AROUND, where="step")


def test_structures() -> None:
    words = (
        '{"Concat": ["--n=", "{{$.inputs.parameters[\'n\']}}"]}',
        '{"IfPresent": {"InputName": "data", "Then": ["--data", "{{$.inputs.artifacts[\'data\'].path}}"]}}',
        '{"IfPresent": {"InputName": "nobody", "Then": "--never"}}',
        '{"IfPresent": {"InputName": "nobody", "Then": "--never", "Else": "--else"}}',
    )
    assert expand_words(words, AROUND, where="step") == ("--n=3", "--data", "/tmp/data", "--else")


def test_a_text_that_is_one_placeholder_becomes_the_value_itself() -> None:
    value = {"n": "{{$.inputs.parameters['n']}}", "{{$.inputs.parameters['text']}}": ["n={{$.inputs.parameters['n']}}"]}
    assert expand_deep(value, AROUND, where="step") == {"n": 3, "hi": ["n=3"]}


@given(st.text())
def test_a_value_is_taken_as_it_is(value: str) -> None:
    around = Surroundings(executor_input={"inputs": {"parameterValues": {"v": value}}}, facts={})
    assert expand("<{{$.inputs.parameters['v']}}>", around, where="step") == f"<{value}>"
