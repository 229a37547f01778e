"""CloudEvents in their three forms over HTTP, and messages of Alertmanager."""

from __future__ import annotations

import base64
import json

import pytest

from goldenloop.core.errors import InvalidSpecError
from goldenloop.standards.alertmanager import read_alerts
from goldenloop.standards.incoming_events import CloudEvent, read_events

EVENT = {"specversion": "1.0", "id": "1", "source": "/here", "type": "a.b", "data": {"n": 1}, "extension": "x"}
READ = CloudEvent(specversion="1.0", id="1", source="/here", type="a.b", data={"n": 1})
STRUCTURED = {"content-type": "application/cloudevents+json; charset=utf-8"}
BATCHED = {"content-type": "application/cloudevents-batch+json"}


def body(document: object) -> bytes:
    return json.dumps(document).encode()


def test_an_event_is_the_same_in_every_form() -> None:
    assert read_events(STRUCTURED, body(EVENT)) == [READ]
    assert read_events({"content-type": "application/json"}, body(EVENT)) == [READ]
    assert read_events(BATCHED, body([EVENT, EVENT])) == [READ, READ]
    headers = {f"ce-{name}": str(EVENT[name]) for name in ("specversion", "id", "source", "type")}
    assert read_events({**headers, "content-type": "application/json"}, body({"n": 1})) == [READ]


def test_data_that_is_no_json_is_text() -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t", "content-type": "text/plain"}
    assert read_events(headers, b"hello")[0].data == "hello"
    encoded = base64.b64encode(b"hello").decode()
    without = {name: value for name, value in EVENT.items() if name != "data"}
    assert read_events(STRUCTURED, body({**without, "data_base64": encoded}))[0].data == "hello"


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        (STRUCTURED, b"not json"),
        (STRUCTURED, body([EVENT])),
        (STRUCTURED, body({**EVENT, "specversion": "0.3"})),
        (STRUCTURED, body({**EVENT, "id": ""})),
        (STRUCTURED, body({"specversion": "1.0"})),
        (STRUCTURED, body({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data_base64": "!"})),
        (BATCHED, body(EVENT)),
        (BATCHED, body([EVENT] * 1001)),
        ({"ce-specversion": "1.0"}, b""),
    ],
)
def test_what_is_no_event_is_refused(headers: dict[str, str], content: bytes) -> None:
    with pytest.raises(InvalidSpecError):
        read_events(headers, content)


def test_alerts_are_read_as_alertmanager_sends_them() -> None:
    message = {
        "version": "4",
        "groupKey": '{}:{alertname="Low"}',
        "status": "firing",
        "receiver": "goldenloop",
        "alerts": [
            {
                "status": "firing",
                "labels": {"alertname": "Low", "team": "risk"},
                "annotations": {"summary": "low"},
                "startsAt": "2026-01-31T09:30:00Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://prometheus/graph",
                "fingerprint": "f00",
            }
        ],
    }
    (alert,) = read_alerts(body(message))
    assert (alert.name, alert.labels["team"], alert.fingerprint) == ("Low", "risk", "f00")
    assert (alert.starts_at, alert.generator_url) == ("2026-01-31T09:30:00Z", "http://prometheus/graph")
    for wrong in ([], {}, {"version": "3", "alerts": []}, {"version": "4", "alerts": [{"status": "odd"}]}):
        with pytest.raises(InvalidSpecError, match="body"):
            read_alerts(body(wrong))
