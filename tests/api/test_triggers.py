"""Causes that come from outside, and what was decided on them."""

from __future__ import annotations

import httpx
import pytest

from goldenloop.control.loops import mark_strangers
from goldenloop.control.platform import Platform
from goldenloop.control.triggers import Triggers

TRIGGERS = "/apis/goldenloop.dev/v1alpha1/namespaces/{namespace}/triggers"
SPEC = {"pipeline": "train", "on": [{"event": {"type": "data.new"}}, {"alert": {"name": "Low"}}]}
EVENT = {"specversion": "1.0", "id": "1", "source": "test", "type": "data.new"}
ALERTS = {
    "version": "4",
    "alerts": [{"status": "firing", "labels": {"alertname": "Low"}, "startsAt": "2026-01-31T09:30:00Z"}],
}


@pytest.fixture
def trigger(http: httpx.Client, namespace: str) -> str:
    """The path of a trigger on events and alerts."""
    made = http.post(TRIGGERS.format(namespace=namespace), json={"metadata": {"name": "t"}, "spec": SPEC})
    assert made.status_code == 201, made.text
    return f"{TRIGGERS.format(namespace=namespace)}/t"


def mine(answer: httpx.Response, namespace: str) -> list[bool]:
    assert answer.status_code == 202, answer.text
    return [cause["new"] for cause in answer.json()["causes"] if cause["namespace"] == namespace]


def test_causes_are_noted_once_and_their_decisions_shown(
    http: httpx.Client, platform: Platform, trigger: str, namespace: str
) -> None:
    headers = {"content-type": "application/cloudevents+json"}
    event = {**EVENT, "source": namespace}
    assert mine(http.post("/events", json=event, headers=headers), namespace) == [True]
    assert mine(http.post("/events", json=event, headers=headers), namespace) == [False]
    binary = {f"ce-{name}": value for name, value in {**event, "id": "a%20b"}.items()}
    assert mine(http.post("/events", headers=binary), namespace) == [True]
    assert mine(http.post("/events", json={**event, "type": "other"}, headers=headers), namespace) == []
    assert mine(http.post("/webhooks/alertmanager", json=ALERTS), namespace) == [True]
    assert mine(http.post("/webhooks/alertmanager", json=ALERTS), namespace) == [False]
    Triggers(platform.world).advance()
    path = f"/goldenloop/v1alpha1/namespaces/{namespace}/triggers/t/decisions"
    items = http.get(path).json()["items"]
    assert [item["kind"] for item in items] == ["alert", "event", "event"]
    assert items[1]["facts"]["id"] == "a b"
    assert all(item["decided"] and not item["fired"] for item in items)
    assert "there is no pipeline 'train'" in items[0]["reason"]
    assert http.get(trigger).json()["status"]["runs"] == 0


def test_a_trigger_of_a_person_is_acted_on(http: httpx.Client, platform: Platform, trigger: str) -> None:
    with platform.database.write() as transaction:
        mark_strangers(transaction, platform.world.clock)
    assert http.get(trigger).json()["status"] == {}
    Triggers(platform.world).advance()
    assert http.get(trigger).json()["status"]["conditions"][0]["reason"] == "Looking"


@pytest.mark.parametrize("path", ["/events", "/webhooks/alertmanager"])
def test_what_cannot_be_read_is_refused(http: httpx.Client, path: str) -> None:
    for content in (b"", b"not json", b"[]", b"{}"):
        assert http.post(path, content=content).status_code == 422
    assert http.post(path, content=b" " * (2 << 20)).status_code == 422


def test_decisions_of_a_trigger_that_is_not_there(http: httpx.Client, namespace: str) -> None:
    assert http.get(f"/goldenloop/v1alpha1/namespaces/{namespace}/triggers/none/decisions").status_code == 404
