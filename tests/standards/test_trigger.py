"""Triggers as people write them."""

from __future__ import annotations

import pytest

from goldenloop.core.clock import HOUR
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.standards.loop import TriggerSpec
from goldenloop.standards.schedules import Schedule
from goldenloop.standards.trigger import PipelineTriggerSpec, read_trigger

EVERY_HOUR: JsonObject = {"schedule": {"every": "1h"}}


def test_a_trigger_of_a_loop_is_another_one() -> None:
    assert isinstance(read_trigger({"loop": "loan"}), TriggerSpec)


def test_everything_but_the_pipeline_and_the_source_has_a_default() -> None:
    spec = read_trigger({"pipeline": "train", "on": [EVERY_HOUR]})
    assert isinstance(spec, PipelineTriggerSpec)
    assert (spec.concurrency, spec.cooldown, spec.max_runs_per_day, spec.dry_run) == ("skip", "0s", 100, False)


def test_a_schedule_of_five_fields_is_crontabs() -> None:
    spec = read_trigger({"pipeline": "train", "on": [{"schedule": {"cron": "30 9 * * 1-5"}}, EVERY_HOUR]})
    assert isinstance(spec, PipelineTriggerSpec)
    assert [on.schedule.schedule for on in spec.on if on.schedule] == [
        Schedule(cron="0 30 9 * * 1-5"),
        Schedule(interval_us=HOUR),
    ]


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ({}, "spec"),
        ({"on": [EVERY_HOUR]}, "spec.pipeline"),
        ({"pipeline": "p", "pipelineVersion": "p/v", "on": [EVERY_HOUR]}, "spec.pipeline"),
        ({"pipeline": "p", "on": []}, "spec.on"),
        ({"pipeline": "p", "on": [{}]}, r"spec.on\[0\]"),
        ({"pipeline": "p", "on": [{**EVERY_HOUR, "file": {"path": "/x"}}]}, r"spec.on\[0\]"),
        ({"pipeline": "p", "on": [{"schedule": {}}]}, r"spec.on\[0\].schedule"),
        ({"pipeline": "p", "on": [{"schedule": {"cron": "nonsense"}}]}, r"spec.on\[0\].schedule"),
        ({"pipeline": "p", "on": [{"schedule": {"every": "soon"}}]}, r"spec.on\[0\].schedule"),
        ({"pipeline": "p", "on": [{"schedule": {"every": "1h", "start": "soon"}}]}, r"spec.on\[0\].schedule"),
        ({"pipeline": "p", "on": [{"file": {"path": "data/*.csv"}}]}, r"spec.on\[0\].file.path"),
        ({"pipeline": "p", "on": [{"file": {"path": "/x", "settle": "soon"}}]}, r"spec.on\[0\].file.settle"),
        ({"pipeline": "p", "on": [{"run": {"pipeline": "a", "loop": "b"}}]}, r"spec.on\[0\].run"),
        ({"pipeline": "p", "on": [{"run": {"states": ["DONE"]}}]}, r"spec.on\[0\].run.states\[0\]"),
        ({"pipeline": "p", "on": [EVERY_HOUR], "cooldown": "soon"}, "spec.cooldown"),
        ({"pipeline": "p", "on": [EVERY_HOUR], "concurrency": "stack"}, "spec.concurrency"),
        ({"pipeline": "p", "on": [EVERY_HOUR], "maxRunsPerDay": 0}, "spec.maxRunsPerDay"),
        ({"pipeline": "p", "on": [EVERY_HOUR], "cooldwn": "1h"}, "spec.cooldwn.*Did you mean 'cooldown'"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(spec: JsonObject, where: str) -> None:
    with pytest.raises(InvalidSpecError, match=rf"^{where}"):
        read_trigger(spec)
