"""Causes: what may start a run of a Trigger, written down once, in the transaction of whoever saw it.

A cause has a key that is the same however often it is seen (a slot of a schedule, the versions of files, an event's source and id, an
alert's firing, a run's id), so that what is delivered twice is noted once. A cause that is noted waits until it is decided on; every
decision, also the one to start nothing, stays on record with its reason.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from fnmatch import fnmatchcase

import msgspec
from sqlalchemy import ColumnElement, Row, func, insert, select

from goldenloop.core.clock import from_text
from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.core.ids import digest_text
from goldenloop.core.json import Json, JsonObject
from goldenloop.standards import kubernetes
from goldenloop.standards.alertmanager import Alert
from goldenloop.standards.incoming_events import CloudEvent
from goldenloop.standards.trigger import AlertSource, EventSource, PipelineTriggerSpec, read_trigger
from goldenloop.store import resources
from goldenloop.store.database import Transaction
from goldenloop.store.tables import decisions

TRIGGER = kubernetes.kind_named("triggers")
MOST_WAITING = 100  # causes of one trigger; what comes then is dropped, and that is said
LONGEST_KEY = 80  # with what stands before it, a name has 128 characters at most
LARGEST_FACTS = 64 << 10  # bytes of an event's data that are kept
_WAITING = "not decided on yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerView:
    """A Trigger of a pipeline, read."""

    namespace: str
    name: str
    uid: str
    generation: int
    created_us: int
    spec: PipelineTriggerSpec
    status: Json

    @classmethod
    def of(cls, document: JsonObject) -> TriggerView | None:
        """The Trigger in a document, None where it is one of a loop."""
        spec = read_trigger(document.get("spec", {}))
        if not isinstance(spec, PipelineTriggerSpec):
            return None
        metadata = resources.metadata_of(document)
        generation = metadata["generation"]
        assert isinstance(generation, int)
        return cls(
            namespace=str(metadata["namespace"]),
            name=str(metadata["name"]),
            uid=str(metadata["uid"]),
            generation=generation,
            created_us=from_text(str(metadata["creationTimestamp"])),
            spec=spec,
            status=document.get("status"),
        )


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Something that may start a run. `key` names it within its trigger; `facts` are what the run's parameters can name."""

    kind: str
    key: str
    text: str
    event_us: int
    facts: JsonObject = {}


def pipeline_triggers(transaction: Transaction) -> list[TriggerView]:
    """Every Trigger of a pipeline; one that another version of this program wrote and this one cannot read is left alone."""
    found = []
    for document in resources.listing(transaction, TRIGGER):
        with contextlib.suppress(InvalidSpecError):
            view = TriggerView.of(document)
            if view is not None:
                found.append(view)
    return found


def find_trigger(transaction: Transaction, namespace: str, name: str) -> TriggerView:
    """The Trigger of this name. Raises NotFoundError, also for one of a loop."""
    view = TriggerView.of(resources.get(transaction, TRIGGER, namespace, name))
    if view is None:
        raise NotFoundError(
            f"Trigger {name!r} belongs to a Loop", mend=f"Its decisions: goldenloop describe loop {name}."
        )
    return view


def note(transaction: Transaction, view: TriggerView, cause: Cause, *, now_us: int) -> bool:
    """Write a cause down, to be decided on; whether it is a new one."""
    key = cause_key(view, cause)
    if transaction.scalar(select(decisions.c.id).where(decisions.c.cause_key == key)) is not None:
        return False
    waiting = transaction.scalar(select(func.count()).select_from(decisions).where(*_waits(view)))
    is_full = (waiting or 0) >= MOST_WAITING
    values = {
        "namespace": view.namespace,
        "loop": "",
        "trigger_uid": view.uid,
        "cause_key": key,
        "fired": False,
        "reason": f"{MOST_WAITING} causes wait already" if is_full else _WAITING,
        "evidence": msgspec.to_builtins(cause),
        "settled": is_full,
        "event_us": cause.event_us,
        "created_us": now_us,
    }
    transaction.execute(insert(decisions).values(**values))
    return True


def cause_key(view: TriggerView, cause: Cause) -> str:
    """The name of a cause among all; the run that comes of it carries it too. A long key stands there as its digest."""
    key = cause.key if len(cause.key) <= LONGEST_KEY else digest_text(cause.key)
    return cause_prefix(view, cause.kind) + key


def cause_prefix(view: TriggerView, kind: str) -> str:
    """How the names of a trigger's causes of one kind begin."""
    return f"{view.uid}/{kind}/"


def waiting_causes(transaction: Transaction, view: TriggerView, *, limit: int) -> list[Row[tuple[object, ...]]]:
    """Causes that are not decided on, in the order in which they came."""
    query = select(decisions).where(*_waits(view)).order_by(decisions.c.id).limit(limit)
    return list(transaction.execute(query))


def of_event(view: TriggerView, event: CloudEvent, *, now_us: int) -> Cause | None:
    """The cause that an event is for a trigger, None where it is none."""
    for on in view.spec.on:
        if on.event is not None and _fits_event(on.event, event):
            facts = msgspec.to_builtins(event)
            if len(msgspec.json.encode(facts)) > LARGEST_FACTS:
                facts = {**facts, "data": None}
            return Cause(
                kind="event",
                key=f"{event.source}\n{event.id}",
                text=f"event {event.type} of {event.source}",
                event_us=_moment(event.time, now_us),
                facts=facts,
            )
    return None


def of_alert(view: TriggerView, alert: Alert, *, now_us: int) -> Cause | None:
    """The cause that an alert is for a trigger, None where it is none."""
    for on in view.spec.on:
        if on.alert is not None and _fits_alert(on.alert, alert):
            named = alert.fingerprint or msgspec.json.encode(alert.labels, order="sorted").decode()
            return Cause(
                kind="alert",
                key=f"{named}\n{alert.starts_at}\n{alert.status}",
                text=f"alert {alert.name or named} is {alert.status}",
                event_us=_moment(alert.ends_at if alert.status == "resolved" else alert.starts_at, now_us),
                facts=msgspec.to_builtins(alert),
            )
    return None


def _fits_event(source: EventSource, event: CloudEvent) -> bool:
    data = event.data if isinstance(event.data, dict) else {}
    return (
        fnmatchcase(event.type, source.type)
        and source.source in (None, event.source)
        and source.subject in (None, event.subject)
        and all(name in data and data[name] == value for name, value in source.data.items())
    )


def _fits_alert(source: AlertSource, alert: Alert) -> bool:
    return (
        alert.status == source.status
        and source.name in (None, alert.name)
        and all(alert.labels.get(name) == value for name, value in source.labels.items())
    )


def _moment(text: str, otherwise: int) -> int:
    """The moment that a sender names; what cannot be read is no reason to lose the cause."""
    try:
        return from_text(text) if text else otherwise
    except ValueError:
        return otherwise


def _waits(view: TriggerView) -> tuple[ColumnElement[bool], ...]:
    return (decisions.c.trigger_uid == view.uid, decisions.c.settled.is_(False))
