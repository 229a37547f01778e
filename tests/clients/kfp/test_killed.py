"""`kill -9` of control while a schedule and a trigger start runs: every slot and every event has one run in the end."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest
from tests.support.platform import running, wait_for

from goldenloop.core.clock import SECOND

_STEP = {"container": {"image": "python:3.11", "command": ["true"], "args": []}}
PIPELINE = {
    "schemaVersion": "2.1.0",
    "pipelineInfo": {"name": "nothing"},
    "root": {"dag": {"tasks": {"one": {"taskInfo": {"name": "one"}, "componentRef": {"name": "comp-one"}}}}},
    "components": {"comp-one": {"executorLabel": "exec-one"}},
    "deploymentSpec": {"executors": {"exec-one": _STEP}},
}
KILLS = 4
EVENTS = 12


@pytest.mark.process
def test_a_cause_has_one_run_whatever_is_killed(tmp_path: Path) -> None:
    with running(tmp_path / "home", workers=1) as platform:
        assert platform.addresses is not None
        http = httpx.Client(base_url=platform.addresses.http, timeout=20)
        made = http.post(
            "/apis/v2beta1/pipelines/create",
            json={"pipeline": {"name": "nothing"}, "pipeline_version": {"pipeline_spec": PIPELINE}},
        ).json()
        spec = {"pipeline": "nothing", "on": [{"event": {"type": "x"}}], "concurrency": "queue", "maxRunsPerDay": 1000}
        trigger = {"metadata": {"name": "on-x"}, "spec": spec}
        path = "/apis/goldenloop.dev/v1alpha1/namespaces/default/triggers"
        assert http.post(path, json=trigger).status_code == 201
        recurring = http.post(
            "/apis/v2beta1/recurringruns",
            json={
                "display_name": "each-second",
                "pipeline_version_reference": {"pipeline_id": made["pipeline_id"]},
                "trigger": {"cron_schedule": {"cron": "* * * * * *"}},
                "max_concurrency": 10,
            },
        ).json()["recurring_run_id"]

        def send(number: int) -> bool:
            event = {"specversion": "1.0", "id": str(number), "source": "test", "type": "x"}
            headers = {"content-type": "application/cloudevents+json"}
            try:
                return http.post("/events", json=event, headers=headers).status_code == 202
            except httpx.HTTPError:
                return False

        for number in range(EVENTS):
            # Sent until it is acknowledged, and then once more, as who delivers at least once does.
            wait_for(lambda number=number: send(number), f"event {number}")
            if number % (EVENTS // KILLS) == 1:
                assert platform.kill("control")
            wait_for(lambda number=number: send(number), f"event {number}")
            time.sleep(0.3)

        def noted() -> list[dict[str, object]] | None:
            answer = http.get("/goldenloop/v1alpha1/namespaces/default/triggers/on-x/decisions").json()["items"]
            return answer if all(item["decided"] for item in answer) else None

        decisions = wait_for(noted, "the decision on every event")
        assert [item["fired"] for item in decisions] == [True] * EVENTS
        assert len({item["run"] for item in decisions}) == EVENTS
        http.post(f"/apis/v2beta1/recurringruns/{recurring}:disable")
        rows = platform.rows(f"select scheduled_us from runs where started_by = '{recurring}' order by 1")
        slots = [row["scheduled_us"] // SECOND for row in rows]
        assert slots == list(range(slots[0], slots[0] + len(slots)))
        assert len(slots) >= KILLS
        started = platform.rows("select count(*) as n from runs where started_by is not null")[0]["n"]
        assert started == EVENTS + len(slots)
