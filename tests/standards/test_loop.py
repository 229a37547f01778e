"""A Loop: everything but its data may be left out, and what is written is checked."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.standards.documents import convert, read_yaml
from goldenloop.standards.loop import LoopSpec, check_loop, json_schema
from goldenloop.standards.objectives import parse_target

COMPLETE = """
pipeline: {source: pipelines/loan.py:train}
data:
  source: data/loans/
  label: repaid
  timestamp: applied_at
  subject: customer_id
  protected: [sex, age_band]
  window: 8w
serving: {minReplicas: 1}
monitors: auto
task: auto
metric: auto
labels: {delay: 1d, feedback: false}
windows: {size: auto}
replay: false
retrain: {falseAlarmWindows: 1000, cooldown: 1h, maxRunsPerDay: 4, minNewLabels: 500}
rollout: {shadow: true, canary: [5, 25, 50, 100], alpha: 0.05, margin: 0.0, maxDuration: 7d}
objectives:
  - {indicator: accuracy, target: ">= 0.80", window: 28d}
  - {indicator: latency_p99_ms, target: "<= 50", window: 28d}
"""


def read(document: object) -> LoopSpec:
    spec = convert(document, LoopSpec, where="spec")
    check_loop(spec)
    return spec


def test_a_complete_loop_is_read() -> None:
    spec = read(read_yaml(COMPLETE)[0])
    assert spec.data.protected == ("sex", "age_band")
    assert spec.rollout.canary == (5.0, 25.0, 50.0, 100.0)
    assert [objective.indicator for objective in spec.objectives] == ["accuracy", "latency_p99_ms"]


def test_everything_but_data_may_be_left_out_and_the_defaults_are_the_promises() -> None:
    spec = read({"data": {}})
    assert spec.retrain.false_alarm_windows == 1000
    assert spec.rollout.alpha == 0.05
    assert spec.labels.missing == "auto"
    assert spec.pipeline == spec.monitors == spec.task == "auto"


def test_what_is_written_is_read_back() -> None:
    spec = read(read_yaml(COMPLETE)[0])
    assert read(msgspec.to_builtins(spec)) == spec


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ({"labels": {"delay": "soon"}}, "spec.labels.delay"),
        ({"retrain": {"cooldown": "1"}}, "spec.retrain.cooldown"),
        ({"retrain": {"falseAlarmWindows": 1}}, "spec.retrain.falseAlarmWindows"),
        ({"retrain": {"minNewLabels": -1}}, "spec.retrain.minNewLabels"),
        ({"rollout": {"maxDuration": "0s"}}, "spec.rollout.maxDuration"),
        ({"rollout": {"canary": [0, 100]}}, "spec.rollout.canary[0]"),
        ({"rollout": {"canary": [50, 50, 100]}}, "spec.rollout.canary"),
        ({"rollout": {"canary": [50]}}, "spec.rollout.canary"),
        ({"rollout": {"alpha": 0}}, "spec.rollout.alpha"),
        ({"rollout": {"alpha": float("nan")}}, "spec.rollout.alpha"),
        ({"rollout": {"margin": 1}}, "spec.rollout.margin"),
        ({"data": {"window": "everything"}}, "spec.data.window"),
        ({"data": {"window": "0d"}}, "spec.data.window"),
        ({"windows": {"size": 0}}, "spec.windows.size"),
        ({"windows": {"size": "0s"}}, "spec.windows.size"),
        ({"objectives": [{"indicator": "a", "target": "high"}]}, "spec.objectives[0].target"),
        ({"objectives": [{"indicator": "a", "target": ">= 1", "window": "0d"}]}, "spec.objectives[0].window"),
        ({"monitors": [{"type": "drift"}, {"type": "mood"}]}, "spec.monitors[1].type"),
        ({"serving": {"minReplicas": -1}}, "spec.serving.minReplicas"),
    ],
)
def test_what_is_wrong_is_refused_with_its_path(spec: JsonObject, place: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        read({"data": {}, **spec})
    assert caught.value.where == place


@given(some.sampled_from([">=", "<="]), some.floats(allow_nan=False, allow_infinity=False))
def test_a_target_is_read(operator: str, value: float) -> None:
    assert parse_target(f"{operator} {value}") == (operator, value)


@pytest.mark.parametrize("text", ["", "0.8", ">=0.8", "> 0.8", ">= much", ">= nan", "== 1", ">= "])
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpecError, match=r"Write '>= 0\.80' or '<= 50'"):
        parse_target(text)


def test_the_schema_is_the_record() -> None:
    schema = json_schema()
    definitions = schema["$defs"]
    assert isinstance(definitions, dict)
    loop = definitions["LoopSpec"]
    assert isinstance(loop, dict)
    properties = loop["properties"]
    assert isinstance(properties, dict)
    assert set(properties) == {field.encode_name for field in msgspec.structs.fields(LoopSpec)}
    assert loop["additionalProperties"] is False
