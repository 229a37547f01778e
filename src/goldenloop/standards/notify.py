"""Whom a Loop tells of what happened, and how: the part `notify` of its spec.

```yaml
notify:
  - {name: team, slack: {urlFrom: {env: TEAM_HOOK}}}
  - {name: bus, webhook: {url: "http://127.0.0.1:9000/in"}, kinds: [Alarm, Warning, Promoted]}
  - name: owner
    email:
      server: "mail.example.com:587"
      from: loops@example.com
      to: [owner@example.com]
      user: loops
      passwordFrom: {secretKeyRef: {name: mail, key: password}}
  - {name: on-call, alertmanager: {url: "http://127.0.0.1:9093"}}
```

What must stay secret is referred to, never written: an environment variable of the control process, or a file of the installation
(`HOME/secrets/NAME/KEY`).
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject

NotifyKind = Literal[
    "Alarm",
    "Warning",
    "SchemaBroken",
    "Trigger",
    "RunFailed",
    "AwaitingApproval",
    "Promoted",
    "RolledBack",
    "BudgetSpent",
    "BurnRate",
    "Error",
]
# Those that go on until something ends them: an Alertmanager hears of their beginning and of their end.
LASTING: tuple[NotifyKind, ...] = ("Alarm", "SchemaBroken", "RunFailed", "AwaitingApproval", "BudgetSpent")
MOST_CHANNELS = 16
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")]
FileName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,252}$")]
_URL = re.compile(
    r"https?://(?P<user>[^\s/?#@]*@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?(?P<path>[/?#][^\s]*)?"
)
_SERVER = re.compile(r"[^\s:/@]+:([0-9]{1,5})")
_ADDRESS = re.compile(r"[^\s@<>,]+@[^\s@<>,]+")
_SECRET_HOSTS = ("hooks.slack.com",)  # where whoever knows the address may write


class _Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A record of a document: frozen, camel case on the wire, no unknown fields."""


class SecretKey(_Spec, frozen=True, kw_only=True):
    """The file `HOME/secrets/NAME/KEY`."""

    name: FileName
    key: FileName


class ValueFrom(_Spec, frozen=True, kw_only=True):
    """Where a secret value is found when it is needed: one of both."""

    env: str | None = None
    secret_key_ref: SecretKey | None = None


class Receiver(_Spec, frozen=True, kw_only=True):
    """A server that takes POST requests: its address, or where the address is found."""

    url: str | None = None
    url_from: ValueFrom | None = None


class Email(_Spec, frozen=True, kw_only=True):
    """An SMTP server, from whom, and to whom."""

    server: str
    sender: str = msgspec.field(name="from")
    to: Annotated[tuple[str, ...], Meta(min_length=1, max_length=64)]
    security: Literal["auto", "none", "starttls", "tls"] = "auto"  # auto: tls on 465, none on 25, else starttls
    user: str = ""
    password_from: ValueFrom | None = None

    @property
    def host(self) -> str:
        return self.server.rpartition(":")[0]

    @property
    def port(self) -> int:
        return int(self.server.rpartition(":")[2])

    @property
    def encryption(self) -> Literal["none", "starttls", "tls"]:
        """How the connection is kept from being read, by the custom of the port where it is not said."""
        if self.security != "auto":
            return self.security
        return "tls" if self.port == 465 else "none" if self.port == 25 else "starttls"


class Channel(_Spec, frozen=True, kw_only=True):
    """One way to people: exactly one of `webhook`, `slack`, `email` and `alertmanager`, and what is told there.

    A webhook is sent CloudEvents; `slack` is what Slack and its like take (Mattermost, Rocket.Chat). `kinds` may be left out: everything
    but warnings, and for an Alertmanager everything that has an end.
    """

    name: Name
    webhook: Receiver | None = None
    slack: Receiver | None = None
    email: Email | None = None
    alertmanager: Receiver | None = None
    kinds: tuple[NotifyKind, ...] = ()

    @property
    def told(self) -> tuple[NotifyKind, ...]:
        """The kinds that go there."""
        if self.kinds:
            return self.kinds
        if self.alertmanager is not None:
            return LASTING
        every: tuple[NotifyKind, ...] = get_args(NotifyKind)
        return tuple(kind for kind in every if kind != "Warning")


def subject_of(kind: str, facts: JsonObject) -> NotifyKind | None:
    """As what a line of the timeline is told; None where nobody is told of it. A broken schema is an alarm of its monitor."""
    if kind == "Alarm" and facts.get("monitor") == "schema":
        return "SchemaBroken"
    for known in get_args(NotifyKind):
        if kind == known:
            found: NotifyKind = known
            return found
    return None


def check_notify(channels: tuple[Channel, ...], where: str = "spec.notify") -> None:
    """Raise InvalidSpecError for what the types cannot say. No message repeats an address."""
    if len(channels) > MOST_CHANNELS:
        raise InvalidSpecError(f"more than {MOST_CHANNELS} channels", where=where, mend="Let one receiver pass it on.")
    names: set[str] = set()
    for index, channel in enumerate(channels):
        at = f"{where}[{index}]"
        if channel.name in names:
            raise InvalidSpecError(f"{channel.name!r} is there twice", where=f"{at}.name", mend="Rename one of both.")
        names.add(channel.name)
        _check_channel(channel, at)


def _check_channel(channel: Channel, at: str) -> None:
    given = [kind for kind in ("webhook", "slack", "email", "alertmanager") if getattr(channel, kind) is not None]
    if len(given) != 1:
        raise InvalidSpecError(
            f"a channel has one of webhook, slack, email, alertmanager; this one has {' and '.join(given) or 'none'}",
            where=at,
            mend="Write a channel for each.",
        )
    for kind in ("webhook", "slack", "alertmanager"):
        receiver = getattr(channel, kind)
        if receiver is not None:
            _check_receiver(receiver, f"{at}.{kind}")
    if channel.email is not None:
        _check_email(channel.email, f"{at}.email")
    endless = [kind for kind in channel.kinds if kind not in LASTING]
    if channel.alertmanager is not None and endless:
        raise InvalidSpecError(
            f"{endless[0]} has no end, so an Alertmanager would show it for ever",
            where=f"{at}.kinds",
            mend=f"Leave it out, or send it to a webhook. An Alertmanager is told of {', '.join(LASTING)}.",
        )


def _check_receiver(receiver: Receiver, at: str) -> None:
    if (receiver.url is None) == (receiver.url_from is None):
        raise InvalidSpecError(
            "there is one address, given or referred to", where=at, mend="Give url, or urlFrom: {env: NAME}."
        )
    if receiver.url_from is not None:
        _check_reference(receiver.url_from, f"{at}.urlFrom")
    if receiver.url is not None:
        check_address(receiver.url, f"{at}.url")
        parts = _URL.fullmatch(receiver.url)
        if parts is not None and (
            parts["user"] or "?" in (parts["path"] or "") or parts["host"].lower() in _SECRET_HOSTS
        ):
            raise InvalidSpecError(
                "the address holds a secret, and everybody who may read the Loop would read it",
                where=f"{at}.url",
                mend="Put it into a variable of the platform's environment and write urlFrom: {env: NAME}.",
            )


def check_address(url: str, at: str) -> None:
    """Raise InvalidSpecError for what is not the address of an HTTP server; the address itself is not repeated."""
    found = _URL.fullmatch(url)
    if found is None or int(found["port"] or 80) not in range(1, 65_536):
        raise InvalidSpecError(
            "this is not an address of HTTP", where=at, mend="Write http://HOST:PORT/PATH or https://…."
        )


def _check_reference(reference: ValueFrom, at: str) -> None:
    if (reference.env is None) == (reference.secret_key_ref is None):
        raise InvalidSpecError(
            "a value is found in one place", where=at, mend="Write {env: NAME} or {secretKeyRef: {name: …, key: …}}."
        )
    if reference.env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", reference.env):
        raise InvalidSpecError(
            f"{reference.env!r} is not the name of a variable", where=f"{at}.env", mend="Write TEAM_HOOK, for example."
        )


def _check_email(email: Email, at: str) -> None:
    found = _SERVER.fullmatch(email.server)
    if found is None or not 0 < int(found[1]) < 65_536:
        raise InvalidSpecError(
            f"{email.server!r} is not HOST:PORT", where=f"{at}.server", mend="Write mail.example.com:587."
        )
    for field, address in (("from", email.sender), *((f"to[{index}]", each) for index, each in enumerate(email.to))):
        if not _ADDRESS.fullmatch(address):
            raise InvalidSpecError(
                f"{address!r} is not an address of e-mail", where=f"{at}.{field}", mend="Write owner@example.com."
            )
    if bool(email.user) != (email.password_from is not None):
        raise InvalidSpecError(
            "a user and a password go together", where=f"{at}.user", mend="Give user and passwordFrom, or neither."
        )
    if email.password_from is not None:
        _check_reference(email.password_from, f"{at}.passwordFrom")
        if email.encryption == "none":
            raise InvalidSpecError(
                "the password would go over the wire as it is",
                where=f"{at}.security",
                mend="Write security: starttls, or tls.",
            )
