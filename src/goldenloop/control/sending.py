"""One message to one receiver. What is secret is looked up when it is needed, and no error repeats it."""

from __future__ import annotations

import os
import smtplib
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path

from goldenloop.core.errors import NotFoundError, UnavailableError
from goldenloop.serving.outgoing import Poster
from goldenloop.standards.messages import STRUCTURED, LastingAlert, Message, as_alerts, as_event, as_mail, as_slack
from goldenloop.standards.notify import Channel, Email, Receiver, ValueFrom, check_address

SMTP_SECONDS = 10.0
_ALERTS_PATH = "/api/v2/alerts"


def deliver(message: Message, channel: Channel, poster: Poster, secrets: Path) -> str:
    """Return when the receiver has taken it, with what it would not take of it.

    Raises UnavailableError where it did not, NotFoundError where a secret is missing.
    """
    if channel.email is not None:
        return _mail(message, channel.email, secrets)
    if channel.slack is not None:
        _post(poster, _address(channel.slack, secrets), as_slack(message), {"Content-Type": "application/json"})
    elif channel.webhook is not None:
        headers = {"Content-Type": STRUCTURED, "Idempotency-Key": message.id}
        _post(poster, _address(channel.webhook, secrets), as_event(message), headers)
    return ""


def deliver_alerts(told: Iterable[LastingAlert], channel: Channel, poster: Poster, secrets: Path, now_us: int) -> None:
    """Tell an Alertmanager how things are. Raises what `deliver` raises."""
    assert channel.alertmanager is not None
    address = _address(channel.alertmanager, secrets).rstrip("/")
    address = address if address.endswith(_ALERTS_PATH) else address + _ALERTS_PATH
    _post(poster, address, as_alerts(told, now_us=now_us), {"Content-Type": "application/json"})


def _post(poster: Poster, address: str, body: bytes, headers: Mapping[str, str]) -> None:
    try:
        status, _ = poster.post(address, body, headers)
    except UnavailableError as error:
        # The address may be the secret.
        raise UnavailableError(error.what.replace(address, "the receiver"), mend="It is sent again.") from None
    if not 200 <= status < 300:
        raise UnavailableError(f"the receiver answered {status}", mend="It is sent again; check what it expects.")


def _mail(message: Message, email: Email, secrets: Path) -> str:
    password = "" if email.password_from is None else _secret(email.password_from, secrets)
    context = ssl.create_default_context()
    try:
        if email.encryption == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(email.host, email.port, timeout=SMTP_SECONDS, context=context)
        else:
            server = smtplib.SMTP(email.host, email.port, timeout=SMTP_SECONDS)
        with server:
            if email.encryption == "starttls":
                server.starttls(context=context)
            if email.user:
                server.login(email.user, password)
            refused = server.send_message(as_mail(message, email))
    except smtplib.SMTPAuthenticationError:
        raise UnavailableError(
            f"{email.server} refuses the user {email.user!r} or the password", mend="Mend the secret; it is sent again."
        ) from None
    except (OSError, smtplib.SMTPException) as error:
        raise UnavailableError(
            f"{email.server} did not take the mail: {type(error).__name__}{_code_of(error)}", mend="It is sent again."
        ) from None
    # The others have it; sent again, they would have it twice.
    return f"{email.server} refuses {', '.join(refused)}" if refused else ""


def _code_of(error: Exception) -> str:
    code = getattr(error, "smtp_code", None)
    return f" {code}" if code is not None else ""


def _address(receiver: Receiver, secrets: Path) -> str:
    if receiver.url is not None:
        return receiver.url
    assert receiver.url_from is not None
    address = _secret(receiver.url_from, secrets)
    check_address(address, _place_of(receiver.url_from))
    return address


def _secret(reference: ValueFrom, secrets: Path) -> str:
    """The value that is referred to. Raises NotFoundError where it is not there."""
    if reference.env is not None:
        value = os.environ.get(reference.env, "")
        if not value:
            raise NotFoundError(
                "the variable is not set",
                where=_place_of(reference),
                mend="Set it in the environment of `goldenloop up`, and start the platform again.",
            )
        return value
    assert reference.secret_key_ref is not None
    path = secrets / reference.secret_key_ref.name / reference.secret_key_ref.key
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise NotFoundError(
            "there is no such secret", where=_place_of(reference), mend=f"Write the value to {path}."
        ) from None


def _place_of(reference: ValueFrom) -> str:
    if reference.env is not None:
        return f"env {reference.env}"
    assert reference.secret_key_ref is not None
    return f"secret {reference.secret_key_ref.name}/{reference.secret_key_ref.key}"
