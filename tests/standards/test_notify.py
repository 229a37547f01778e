"""Whom a Loop tells: what is read, what is refused, and what is sent."""

from __future__ import annotations

import json

import pytest

from goldenloop.core.clock import MINUTE, from_text
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.standards.documents import convert
from goldenloop.standards.messages import LastingAlert, Message, as_alerts, as_event, as_mail, as_slack
from goldenloop.standards.notify import Channel, Email, check_notify, subject_of

NOON = from_text("2026-01-31T12:00:00Z")
MAIL: JsonObject = {"server": "mail.example.com:25", "from": "loops@example.com", "to": ["owner@example.com"]}


def message(text: str, **facts: object) -> Message:
    return Message(
        id="018f0000-0000-7000-8000-000000000000",
        namespace="default",
        loop="loan",
        kind="Alarm",
        text=text,
        facts=facts,  # type: ignore[arg-type]
        event_us=NOON - MINUTE,
        created_us=NOON,
    )


def channels(*given: JsonObject) -> tuple[Channel, ...]:
    read = tuple(convert({"name": f"channel-{index}", **each}, Channel) for index, each in enumerate(given))
    check_notify(read)
    return read


def test_a_channel_is_told_of_everything_but_warnings_and_an_alertmanager_of_what_ends() -> None:
    hook, alertmanager = channels(
        {"webhook": {"url": "http://127.0.0.1:9000/in"}}, {"alertmanager": {"urlFrom": {"env": "ALERTS"}}}
    )
    assert "Warning" not in hook.told
    assert {"Alarm", "SchemaBroken", "Promoted", "RolledBack", "RunFailed"} <= set(hook.told)
    assert alertmanager.told == ("Alarm", "SchemaBroken", "RunFailed", "AwaitingApproval", "BudgetSpent")


def test_a_broken_schema_is_told_as_one_and_what_nobody_asks_for_is_nothing() -> None:
    assert subject_of("Alarm", {"monitor": "schema"}) == "SchemaBroken"
    assert subject_of("Alarm", {"monitor": "drift"}) == "Alarm"
    assert subject_of("Served", {}) is None


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({}, "spec.notify[0]"),
        ({"webhook": {"url": "http://h/"}, "slack": {"url": "http://h/"}}, "spec.notify[0]"),
        ({"webhook": {}}, "spec.notify[0].webhook"),
        ({"webhook": {"url": "http://h/", "urlFrom": {"env": "A"}}}, "spec.notify[0].webhook"),
        ({"webhook": {"url": "ftp://h/"}}, "spec.notify[0].webhook.url"),
        ({"webhook": {"url": "http://h:99999/"}}, "spec.notify[0].webhook.url"),
        ({"webhook": {"url": "http://h/a b"}}, "spec.notify[0].webhook.url"),
        ({"webhook": {"url": "http://user:hidden@h/"}}, "spec.notify[0].webhook.url"),
        ({"webhook": {"url": "http://h/in?token=hidden"}}, "spec.notify[0].webhook.url"),
        ({"slack": {"url": "https://hooks.slack.com/services/hidden"}}, "spec.notify[0].slack.url"),
        ({"webhook": {"urlFrom": {}}}, "spec.notify[0].webhook.urlFrom"),
        ({"webhook": {"urlFrom": {"env": "A=B"}}}, "spec.notify[0].webhook.urlFrom.env"),
        ({"alertmanager": {"url": "http://h/"}, "kinds": ["Promoted"]}, "spec.notify[0].kinds"),
        ({"email": {**MAIL, "server": "mail.example.com"}}, "spec.notify[0].email.server"),
        ({"email": {**MAIL, "to": ["a@b\nBcc: c@d"]}}, "spec.notify[0].email.to[0]"),
        ({"email": {**MAIL, "user": "loops"}}, "spec.notify[0].email.user"),
        (
            {"email": {**MAIL, "user": "loops", "passwordFrom": {"env": "PASSWORD"}}},
            "spec.notify[0].email.security",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_meant_is_refused_with_its_place_and_without_its_secret(given: JsonObject, where: str) -> None:
    with pytest.raises(InvalidSpecError) as refused:
        channels(given)
    assert refused.value.where == where
    assert refused.value.mend
    assert "hidden" not in str(refused.value)


def test_names_tell_channels_apart() -> None:
    twice = {"name": "team", "webhook": {"url": "http://h/"}}
    with pytest.raises(InvalidSpecError, match="twice"):
        channels(twice, twice)


def test_a_secret_outside_of_its_folder_cannot_be_named() -> None:
    with pytest.raises(InvalidSpecError):
        channels({"webhook": {"urlFrom": {"secretKeyRef": {"name": "..", "key": "state.db"}}}})


@pytest.mark.parametrize(("port", "encryption"), [(25, "none"), (465, "tls"), (587, "starttls")])
def test_the_port_says_how_a_mail_is_kept_from_being_read(port: int, encryption: str) -> None:
    assert convert({**MAIL, "server": f"h:{port}"}, Email).encryption == encryption
    assert convert({**MAIL, "server": f"h:{port}", "security": "tls"}, Email).encryption == "tls"


def test_an_event_says_what_happened_when_and_to_whom() -> None:
    event = json.loads(as_event(message("drift (age) changed", monitor="drift", window=7)))
    assert event["specversion"] == "1.0"
    assert (event["id"], event["type"]) == ("018f0000-0000-7000-8000-000000000000", "dev.goldenloop.loop.Alarm")
    assert (event["source"], event["time"]) == ("/namespaces/default/loops/loan", "2026-01-31T12:00:00Z")
    assert event["data"]["facts"] == {"monitor": "drift", "window": 7}
    assert event["data"]["at"] == "2026-01-31T11:59:00Z"


def test_names_in_data_call_nobody_on_slack_and_add_no_header_to_a_mail() -> None:
    nasty = message("<!channel> & <b>\r\nBcc: thief@example.com")
    text = json.loads(as_slack(nasty))["text"]
    assert "&lt;!channel&gt; &amp; &lt;b&gt;" in text
    mail = as_mail(nasty, convert(MAIL, Email))
    assert mail["Bcc"] is None
    assert "\n" not in mail["Subject"]
    assert mail["Message-ID"] == "<018f0000-0000-7000-8000-000000000000@goldenloop>"


def test_an_alert_goes_on_for_a_while_or_says_when_it_ended() -> None:
    alert = LastingAlert(
        namespace="default",
        loop="loan",
        kind="Alarm",
        instance="drift",
        text="drift changed",
        started_us=NOON - MINUTE,
        ended_us=None,
    )
    firing, ended = json.loads(as_alerts([alert, LastingAlert(**{**_fields(alert), "ended_us": NOON})], now_us=NOON))
    assert firing["labels"] == {
        "alertname": "GoldenloopAlarm",
        "namespace": "default",
        "loop": "loan",
        "instance": "drift",
    }
    assert (firing["startsAt"], firing["endsAt"]) == ("2026-01-31T11:59:00Z", "2026-01-31T12:05:00Z")
    assert (ended["labels"], ended["endsAt"]) == (firing["labels"], "2026-01-31T12:00:00Z")


def _fields(alert: LastingAlert) -> dict[str, object]:
    return {name: getattr(alert, name) for name in alert.__struct_fields__}
