"""What is sent to people: a line of the timeline as a CloudEvent, a message of Slack, a mail; and alerts as Alertmanager takes them.

Each carries the id of the message. A message may come twice (its receiver took it and the answer was lost), always with the same id.
"""

from __future__ import annotations

from collections.abc import Iterable
from email.message import EmailMessage

import msgspec

from goldenloop.core.clock import MINUTE, to_text
from goldenloop.core.json import JsonObject
from goldenloop.standards.notify import Email

EVENT_TYPE = "dev.goldenloop.loop."
STRUCTURED = "application/cloudevents+json"
# An alert that is not sent again ends by itself after so long, as where this platform is gone. It is sent again every minute.
FIRES_ON_US = 5 * MINUTE
_LONGEST_TEXT = 2_000
_LONGEST_SUBJECT = 150


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What one channel is told: `kind` is what it is told as, `event_us` when it happened, `created_us` when it was written down."""

    id: str
    namespace: str
    loop: str
    kind: str
    text: str
    facts: JsonObject
    event_us: int
    created_us: int


class LastingAlert(msgspec.Struct, frozen=True, kw_only=True):
    """Something that goes on: from when, and until when if it has ended. `instance` tells it from others of its kind."""

    namespace: str
    loop: str
    kind: str
    instance: str
    text: str
    started_us: int
    ended_us: int | None


def as_event(message: Message) -> bytes:
    """A CloudEvent 1.0 in its structured form."""
    event: JsonObject = {
        "specversion": "1.0",
        "id": message.id,
        "source": f"/namespaces/{message.namespace}/loops/{message.loop}",
        "type": EVENT_TYPE + message.kind,
        "subject": message.loop,
        "time": to_text(message.created_us),
        "datacontenttype": "application/json",
        "data": {
            "kind": message.kind,
            "namespace": message.namespace,
            "loop": message.loop,
            "text": message.text,
            "facts": message.facts,
            "at": to_text(message.event_us),
        },
    }
    return msgspec.json.encode(event)


def as_slack(message: Message) -> bytes:
    """The body of an incoming webhook of Slack and its like."""
    text = f"*{message.kind}* of {message.namespace}/{message.loop}: {message.text}"
    # What Slack asks to be escaped; without it `<!channel>` in a column's name would call everybody.
    for sign, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, written)
    return msgspec.json.encode({"text": text[:_LONGEST_TEXT]})


def as_mail(message: Message, email: Email) -> EmailMessage:
    """A mail in plain text."""
    mail = EmailMessage()
    mail["From"], mail["To"] = email.sender, ", ".join(email.to)
    mail["Message-ID"] = f"<{message.id}@goldenloop>"
    subject = " ".join(f"[{message.namespace}/{message.loop}] {message.kind}: {message.text}".split())
    mail["Subject"] = subject[:_LONGEST_SUBJECT]
    mail["X-Goldenloop-Kind"] = message.kind
    facts = "".join(f"  {name}: {value}\n" for name, value in message.facts.items())
    mail.set_content(f"{message.text}\n\nat {to_text(message.event_us)}\n{facts}")
    return mail


def as_alerts(alerts: Iterable[LastingAlert], *, now_us: int) -> bytes:
    """The body of Alertmanager's `POST /api/v2/alerts`: those that fire go on for a while, those that ended say when."""
    body: list[JsonObject] = [
        {
            "labels": {
                "alertname": f"Goldenloop{alert.kind}",
                "namespace": alert.namespace,
                "loop": alert.loop,
                "instance": alert.instance,
            },
            "annotations": {"summary": alert.text[:_LONGEST_TEXT]},
            "startsAt": to_text(alert.started_us),
            "endsAt": to_text(now_us + FIRES_ON_US if alert.ended_us is None else alert.ended_us),
        }
        for alert in alerts
    ]
    return msgspec.json.encode(body)
