"""What people are to be told of a line of the timeline: written beside it, in its transaction, and sent by the messenger.

So nothing is told that did not happen, and what happened is told also after a crash. A channel of which `MOST_WAITING` messages wait
takes no more: what is not taken is on record as dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, insert, select, update

from goldenloop.control.view import LOOP
from goldenloop.core.clock import to_text
from goldenloop.core.ids import uuid7
from goldenloop.core.json import Json, JsonObject
from goldenloop.core.phases import Verdict
from goldenloop.lineage.timeline import Happening
from goldenloop.standards.documents import convert
from goldenloop.standards.notify import Channel, NotifyKind, subject_of
from goldenloop.store import resources
from goldenloop.store.database import Transaction
from goldenloop.store.tables import alerts, measurements, messages

MOST_WAITING = 1_000  # messages of one channel
MOST_FIRING = 200  # alerts of one loop

# Kind of the line that ends something → what it ends, and the fact that both have in common (none: whichever there is).
_ENDS: dict[str, tuple[NotifyKind, str]] = {
    "BudgetLeft": ("BudgetSpent", "slo"),
    "Approved": ("AwaitingApproval", "version"),
    "Superseded": ("AwaitingApproval", "version"),
    "Refused": ("AwaitingApproval", "version"),
}
# A run that made a version worked, whatever became of the version.
_ENDS_FAILURE = frozenset({"Blessed", "Refused", "AwaitingApproval", "Golden"})
_INSTANCE: dict[NotifyKind, str] = {
    "Alarm": "monitor",
    "SchemaBroken": "monitor",
    "BudgetSpent": "slo",
    "AwaitingApproval": "version",
}


@dataclass(frozen=True, slots=True)
class Lasting:
    """Something that goes on, as it is told apart: a failed run has no name, since the next one that works ends it."""

    kind: NotifyKind
    instance: str


def channels_of(transaction: Transaction, namespace: str, loop: str) -> tuple[Channel, ...]:
    """Whom the loop tells; nobody where there is no such Loop."""
    document = resources.find(transaction, LOOP, namespace, loop)
    spec = None if document is None else document["spec"]
    given = spec.get("notify") if isinstance(spec, dict) else None
    return tuple(convert(each, Channel, where="spec.notify") for each in given) if isinstance(given, list) else ()


def note(transaction: Transaction, happening: Happening) -> None:
    """Write down what is to be told of this line."""
    kind = subject_of(happening.kind, happening.facts)
    ends = ended_by(happening.kind, happening.facts)
    if kind is None and not ends:
        return
    channels = channels_of(transaction, happening.namespace, happening.loop)
    if not channels:
        return
    for each in ends:
        _end(transaction, happening, each)
    if kind is None:
        return
    told = [channel for channel in channels if kind in channel.told]
    for channel in told:
        if channel.alertmanager is None:
            _queue(transaction, happening, kind, channel.name)
    if any(channel.alertmanager is not None for channel in told):
        _begin(transaction, happening, Lasting(kind, str(happening.facts.get(_INSTANCE.get(kind, ""), ""))))


def ended_by(kind: str, facts: JsonObject) -> tuple[Lasting, ...]:
    """What a line of this kind brings to its end. Alarms end by measurements (`end_alarms`)."""
    ended: list[Lasting] = []
    if kind in _ENDS:
        what, fact = _ENDS[kind]
        ended.append(Lasting(what, str(facts.get(fact, ""))))
    if kind in _ENDS_FAILURE:
        ended.append(Lasting("RunFailed", ""))
    return tuple(ended)


def end_alarms(transaction: Transaction, *, now_us: int) -> int:
    """End the alarms whose monitor measured a later window and found nothing; how many. No evidence ends none."""
    query = select(alerts).where(alerts.c.kind.in_(("Alarm", "SchemaBroken")), alerts.c.ended_us.is_(None))
    ended = 0
    for row in transaction.execute(query).all():
        if _has_passed_since(transaction, row.namespace, row.loop, row.instance, int(row.facts.get("window") or 0)):
            transaction.execute(update(alerts).where(alerts.c.id == row.id).values(ended_us=now_us))
            ended += 1
    return ended


def channels_shown(transaction: Transaction, namespace: str, loop: str, channels: tuple[Channel, ...]) -> list[Json]:
    """How each channel does: how many messages wait, were sent, failed or were dropped in the last days, and the last failure."""
    mine = (messages.c.namespace == namespace, messages.c.loop == loop)
    counts: dict[tuple[str, str], int] = {
        (channel, state): count
        for channel, state, count in transaction.execute(
            select(messages.c.channel, messages.c.state, func.count())
            .where(*mine)
            .group_by(messages.c.channel, messages.c.state)
        )
    }
    shown: list[Json] = []
    for channel in channels:
        of_it: JsonObject = {"name": channel.name, "tells": list(channel.told)}
        if channel.alertmanager is not None:
            shown.append(of_it | _alerts_shown(transaction, namespace, loop, channel.name))
            continue
        of_it |= {state: counts.get((channel.name, state), 0) for state in ("waiting", "sent", "failed", "dropped")}
        failure = transaction.execute(
            select(messages.c.error, messages.c.attempts, messages.c.state, messages.c.next_us, messages.c.ended_us)
            .where(*mine, messages.c.channel == channel.name, messages.c.error != "")
            .order_by(messages.c.id.desc())
            .limit(1)
        ).first()
        if failure is not None:
            of_it["lastFailure"] = {
                "text": failure.error,
                "attempts": failure.attempts,
                "state": failure.state,
                "nextAttempt": to_text(failure.next_us) if failure.state == "waiting" else None,
            }
        shown.append(of_it)
    return shown


def _alerts_shown(transaction: Transaction, namespace: str, loop: str, channel: str) -> JsonObject:
    query = select(alerts.c.ended_us, alerts.c.error).where(alerts.c.namespace == namespace, alerts.c.loop == loop)
    rows = transaction.execute(query.order_by(alerts.c.id)).all()
    shown: JsonObject = {"firing": sum(row.ended_us is None for row in rows)}
    failures = [row.error for row in rows if row.error.startswith(f"{channel}: ")]
    return shown | {"lastFailure": {"text": failures[-1].removeprefix(f"{channel}: ")}} if failures else shown


def _queue(transaction: Transaction, happening: Happening, kind: NotifyKind, channel: str) -> None:
    waiting = transaction.execute(
        select(func.count()).where(
            messages.c.namespace == happening.namespace,
            messages.c.loop == happening.loop,
            messages.c.channel == channel,
            messages.c.state == "waiting",
        )
    ).scalar_one()
    is_full = waiting >= MOST_WAITING
    transaction.execute(
        insert(messages).values(
            id=uuid7(),
            namespace=happening.namespace,
            loop=happening.loop,
            channel=channel,
            kind=kind,
            text=happening.text,
            facts=happening.facts,
            event_us=happening.event_us,
            created_us=happening.created_us,
            state="dropped" if is_full else "waiting",
            attempts=0,
            next_us=happening.created_us,
            error=f"{MOST_WAITING} messages wait for this channel already" if is_full else "",
            ended_us=happening.created_us if is_full else None,
        )
    )


def _begin(transaction: Transaction, happening: Happening, lasting: Lasting) -> None:
    """It fires, if it does not yet."""
    mine = (alerts.c.namespace == happening.namespace, alerts.c.loop == happening.loop, alerts.c.ended_us.is_(None))
    firing = transaction.execute(select(alerts.c.id, alerts.c.kind, alerts.c.instance).where(*mine)).all()
    for row in firing:
        if (row.kind, row.instance) == (lasting.kind, lasting.instance):
            values = {"text": happening.text, "facts": happening.facts}
            transaction.execute(update(alerts).where(alerts.c.id == row.id).values(**values))
            return
    if len(firing) >= MOST_FIRING:
        return
    transaction.execute(
        insert(alerts).values(
            namespace=happening.namespace,
            loop=happening.loop,
            kind=lasting.kind,
            instance=lasting.instance,
            text=happening.text,
            facts=happening.facts,
            started_us=happening.created_us,
            ended_us=None,
            told=[],
            error="",
        )
    )


def _end(transaction: Transaction, happening: Happening, lasting: Lasting) -> None:
    transaction.execute(
        update(alerts)
        .where(
            alerts.c.namespace == happening.namespace,
            alerts.c.loop == happening.loop,
            alerts.c.kind == lasting.kind,
            alerts.c.instance == lasting.instance,
            alerts.c.ended_us.is_(None),
        )
        .values(ended_us=happening.created_us)
    )


def _has_passed_since(transaction: Transaction, namespace: str, loop: str, monitor: str, window: int) -> bool:
    """Whether the newest window after this one in which the monitor was measured has passed, and no part of it failed."""
    query = select(measurements.c.window, measurements.c.verdict).where(
        measurements.c.namespace == namespace,
        measurements.c.loop == loop,
        measurements.c.monitor == monitor,
        measurements.c.window > window,
    )
    if monitor != "schema":  # of the others the detector's statistic is what alarmed
        query = query.where(measurements.c.metric == "statistic")
    rows = transaction.execute(query).all()
    newest = max((row.window for row in rows), default=None)
    verdicts = {row.verdict for row in rows if row.window == newest}
    return Verdict.PASS in verdicts and Verdict.FAIL not in verdicts
