"""What Alertmanager sends to a webhook (version 4 of its message)."""

from __future__ import annotations

from typing import Literal

import msgspec

from goldenloop.core.errors import InvalidSpecError

_MEND = "Let Alertmanager send it: receivers: [{name: goldenloop, webhook_configs: [{url: …}]}]."


class Alert(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One alert. The fingerprint names its labels; with `startsAt` it names one firing of it."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    starts_at: str = ""
    ends_at: str = ""
    generator_url: str = msgspec.field(default="", name="generatorURL")
    fingerprint: str = ""

    @property
    def name(self) -> str:
        return self.labels.get("alertname", "")


class _Message(msgspec.Struct, frozen=True, kw_only=True):
    version: str
    alerts: list[Alert]


def read_alerts(body: bytes) -> list[Alert]:
    """Return the alerts of a message. Raises InvalidSpecError."""
    try:
        message = msgspec.json.decode(body, type=_Message)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidSpecError(f"this is no message of Alertmanager: {error}", where="body", mend=_MEND) from None
    if message.version != "4":
        raise InvalidSpecError(f"the version is {message.version!r}, not '4'", where="body.version", mend=_MEND)
    return message.alerts
