"""What the pages and the CLI ask that no standard has."""

from __future__ import annotations

import json
import threading
from typing import Any

import httpx
import msgspec
import pytest

from goldenloop.control.platform import Platform
from goldenloop.core.clock import SECOND
from goldenloop.core.ids import uuid7
from goldenloop.core.phases import Verdict, VersionState
from goldenloop.lineage.timeline import Happening, tell
from goldenloop.registry import versions
from goldenloop.registry.versions import Evaluation
from goldenloop.testing.stores import new_version

OURS = "/goldenloop/v1alpha1"
PIPELINE: dict[str, Any] = {
    "pipelineInfo": {"name": "wait"},
    "schemaVersion": "2.1.0",
    "sdkVersion": "kfp-2.14.0",
    "components": {"comp-step": {"executorLabel": "exec-step"}},
    "deploymentSpec": {"executors": {"exec-step": {"container": {"image": "any", "command": ["true"]}}}},
    "root": {"dag": {"tasks": {"step": {"componentRef": {"name": "comp-step"}, "taskInfo": {"name": "step"}}}}},
}  # fmt: skip


def happen(platform: Platform, namespace: str, *texts: str) -> None:
    with platform.database.write() as transaction:
        for text in texts:
            line = Happening(
                namespace=namespace, loop="loan", kind="Tick", text=text, facts={}, event_us=SECOND, created_us=SECOND
            )
            tell(transaction, line)


def of_loop(namespace: str, what: str) -> str:
    return f"{OURS}/namespaces/{namespace}/loops/loan/{what}"


def test_the_timeline_is_read_from_anywhere(http: httpx.Client, platform: Platform, namespace: str) -> None:
    happen(platform, namespace, "one", "two", "three")
    items = http.get(of_loop(namespace, "timeline")).json()["items"]
    assert [item["text"] for item in items] == ["one", "two", "three"]
    rest = http.get(of_loop(namespace, "timeline"), params={"after": items[0]["sequence"]}).json()["items"]
    assert rest == items[1:]
    for wrong in ("x", "-1", "²", "9" * 40):
        answer = http.get(of_loop(namespace, "timeline"), params={"after": wrong})
        assert answer.status_code == 422
        assert answer.json()["message"].startswith("after: ")


def test_the_timeline_is_live(address: str, platform: Platform, namespace: str) -> None:
    happen(platform, namespace, "before")
    seen: list[dict[str, Any]] = []
    first = threading.Event()

    def follow(headers: dict[str, str], until: int) -> None:
        with httpx.stream(
            "GET", address + of_loop(namespace, "timeline/events"), headers=headers, timeout=10
        ) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            identity = ""
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    identity = line.removeprefix("id: ")
                if line.startswith("data: "):
                    event = json.loads(line.removeprefix("data: "))
                    assert str(event["sequence"]) == identity
                    seen.append(event)
                    first.set()
                if len(seen) == until:
                    return

    follower = threading.Thread(target=follow, args=({}, 2))
    follower.start()
    assert first.wait(10)
    happen(platform, namespace, "while it looks")
    follower.join(timeout=10)
    assert not follower.is_alive()
    assert [event["text"] for event in seen] == ["before", "while it looks"]
    happen(platform, namespace, "after it left")
    follow({"last-event-id": str(seen[-1]["sequence"])}, 3)
    assert [event["text"] for event in seen] == ["before", "while it looks", "after it left"], "none twice, none missed"


def test_versions_are_shown_with_the_verdict_in_force(http: httpx.Client, platform: Platform, namespace: str) -> None:
    assert http.get(of_loop(namespace, "versions")).json() == {"items": []}
    with platform.database.write() as transaction:
        registered = versions.register(
            transaction, msgspec.structs.replace(new_version(), namespace=namespace), now_us=SECOND
        )
        versions.make_golden(transaction, versions.move(transaction, registered, VersionState.BLESSED))
        verdict = Evaluation(
            namespace=namespace,
            model="loan",
            challenger=1,
            champion=None,
            verdict=Verdict.PASS,
            reason="better than the baseline",
            evidence={"rows": 300},
            decided_by="gate",
        )
        versions.record_evaluation(transaction, verdict, now_us=SECOND)
    (shown,) = http.get(of_loop(namespace, "versions")).json()["items"]
    assert (shown["number"], shown["state"], shown["created"]) == (1, "Golden", "1970-01-01T00:00:01Z")
    assert shown["evaluation"]["reason"] == "better than the baseline"
    assert shown["signature"]["classes"] == ["false", "true"]
    golden = [line for line in http.get("/metrics").text.splitlines() if line.startswith("goldenloop_golden_version")]
    assert any(f'namespace="{namespace}"' in line and line.endswith(" 1.0") for line in golden)


@pytest.mark.parametrize("what", ["quality", "decisions", "versions", "timeline"])
def test_a_loop_of_which_nothing_is_known_has_nothing(http: httpx.Client, namespace: str, what: str) -> None:
    answer = http.get(of_loop(namespace, what))
    assert answer.status_code == 200
    assert answer.json().get("items", answer.json().get("windows")) == []


def test_a_run_is_started_once_for_a_cause_shown_and_cancelled(http: httpx.Client, namespace: str) -> None:
    asked = {"namespace": namespace, "name": "by hand", "pipeline": PIPELINE, "cause_key": f"{namespace}/once"}
    started = http.post(f"{OURS}/runs", json=asked)
    assert started.status_code == 200, started.text
    run = started.json()["id"]
    again = http.post(f"{OURS}/runs", json=asked)
    assert (again.status_code, again.json()["reason"]) == (409, "Conflict")
    (listed,) = http.get(f"{OURS}/runs", params={"namespace": namespace}).json()["items"]
    assert (listed["id"], listed["state"], listed["name"]) == (run, "PENDING", "by hand")
    assert http.get(f"{OURS}/runs/{run}").json()["id"] == run
    assert http.post(f"{OURS}/runs/{run}/cancel").json() == {"cancelled": True}
    assert http.get(f"{OURS}/runs/{run}").json()["state"] == "CANCELED"
    assert http.post(f"{OURS}/runs/{run}/cancel").json() == {"cancelled": False}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"nam": "x"}, "missing required field"),
        ({"namespace": "a", "name": "b", "pipeline": {}}, ""),
        ({"namespace": "a", "name": "b", "pipeline": PIPELINE, "parameters": {"nobody": 1}}, "nobody"),
    ],
)
def test_a_wrong_run_is_refused(http: httpx.Client, wrong: dict[str, Any], said: str) -> None:
    answer = http.post(f"{OURS}/runs", json=wrong)
    assert (answer.status_code, answer.json()["reason"]) == (422, "Invalid")
    assert said in answer.json()["message"]


@pytest.mark.parametrize("path", ["runs/{id}", "runs/{id}/tasks/step/log", "trace/{id}", "trace/not-an-id"])
def test_an_unknown_id_is_not_found(http: httpx.Client, path: str) -> None:
    answer = http.get(f"{OURS}/{path.format(id=uuid7())}")
    assert (answer.status_code, answer.json()["reason"]) == (404, "NotFound"), answer.text


def test_a_trace_of_an_unknown_prediction_says_where_ids_are(http: httpx.Client) -> None:
    identity = uuid7()
    message = http.get(f"{OURS}/trace/{identity}").json()["message"]
    assert identity in message
    assert "x-prediction-id" in message
    assert http.get(f"{OURS}/trace/{identity}", params={"row": "first"}).status_code == 422


@pytest.mark.parametrize("verb", ["runs", "promote", "rollback"])
def test_nothing_is_decided_by_hand_on_a_loop_that_is_not_there(http: httpx.Client, namespace: str, verb: str) -> None:
    answer = http.post(of_loop(namespace, verb), json={"reason": "because"})
    assert (answer.status_code, answer.json()["reason"]) == (404, "NotFound"), answer.text
    assert http.get(of_loop(namespace, "timeline")).json()["items"] == []


def test_a_version_to_promote_is_a_number(http: httpx.Client, namespace: str) -> None:
    answer = http.post(of_loop(namespace, "promote"), json={"version": "two"})
    assert answer.status_code == 422
    assert answer.json()["message"].startswith("version: 'two'")
    assert http.post(of_loop(namespace, "promote"), json=["x"]).status_code == 422


def test_baselines_are_kept(http: httpx.Client, namespace: str) -> None:
    kept = {"policies": {"never": {"windows": [0.5, None], "runs": 1}}}
    assert http.put(of_loop(namespace, "baselines"), json=kept).json() == {"kept": 1}
    shown = http.get(of_loop(namespace, "quality")).json()
    assert shown["never"] == [{"index": 0, "value": 0.5}, {"index": 1, "value": None}]
    assert http.put(of_loop(namespace, "baselines"), json={"policies": 1}).status_code == 422


def test_the_schema_of_a_loop_shows_every_default(http: httpx.Client) -> None:
    definitions = http.get(f"{OURS}/schema/loop").json()["$defs"]
    assert definitions["LoopSpec"]["required"] == ["data"]
    assert definitions["Retrain"]["properties"]["cooldown"]["default"] == "1h"
    for name, definition in definitions.items():
        for field, described in definition["properties"].items():
            assert field in definition.get("required", []) or "default" in described, f"{name}.{field}"
