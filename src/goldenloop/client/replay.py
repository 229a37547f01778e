"""Replaying a recorded stream through the real endpoint, in its own time: each row as a request, its label when it became known.

Requests leave one after the other in event-time order, a few are under way at once. Where the loop has something to decide it lets
the next request wait; how fast one sends changes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from urllib.parse import quote

from goldenloop.client.connection import Connection
from goldenloop.core.clock import to_text
from goldenloop.core.errors import UnavailableError
from goldenloop.core.json import Json, JsonObject

_LABELS_AT_ONCE = 200
_IN_FLIGHT = 3  # requests under way at once
_PATIENCE_SECONDS = 600.0  # a run that the stream waits for may take a while


@dataclass(frozen=True, slots=True)
class StreamRow:
    """A row of a stream: when it happened, its features by name, and what turned out to be true (None: never known)."""

    event_us: int
    features: dict[str, Json]
    label: Json


@dataclass(slots=True)
class Sent:
    """One answered row, as the sender saw it."""

    event_us: int
    prediction: str
    version: str
    answer: Json
    label: Json


def replay(
    inference: str,
    service: str,
    rows: Iterable[StreamRow],
    *,
    delay_us: int,
    delivery_us: int,
    on_sent: Callable[[Sent], None],
) -> None:
    """Send all rows, and their labels: each is known `delay_us` of event time after its row and comes with the next delivery, of which
    there is one every `delivery_us`. Labels still due at the end are sent last. `on_sent` is called in the order of the rows.
    """
    connections = [Connection(inference) for _ in range(_IN_FLIGHT)]
    labels = Connection(inference)
    due: deque[tuple[int, JsonObject]] = deque()
    under_way: deque[tuple[StreamRow, Future[Sent]]] = deque()
    path = f"/v2/models/{quote(service)}/infer"

    def finish_first() -> None:
        row, future = under_way.popleft()
        sent = future.result()
        on_sent(sent)
        if row.label is not None:
            known_us = -(-(row.event_us + delay_us) // delivery_us) * delivery_us
            due.append((known_us, {"id": sent.prediction, "label": row.label, "observed_at": to_text(known_us)}))

    with ThreadPoolExecutor(_IN_FLIGHT) as pool:
        try:
            for number, row in enumerate(rows):
                if len(under_way) == _IN_FLIGHT:
                    finish_first()
                _send_labels(labels, due, until_us=row.event_us)
                begun = Event()
                connection = connections[number % _IN_FLIGHT]
                under_way.append((row, pool.submit(_send_row, connection, path, row, begun)))
                begun.wait()  # a row leaves before the next does
            while under_way:
                finish_first()
            _send_labels(labels, due, until_us=None)
        finally:
            for connection in (*connections, labels):
                connection.close()


def _send_row(connection: Connection, path: str, row: StreamRow, begun: Event) -> Sent:
    body = {
        "inputs": [_tensor(name, value) for name, value in row.features.items()],
        "parameters": {"event_time": to_text(row.event_us)},
    }
    try:
        answered, headers = connection.call("POST", path, body, patience_seconds=_PATIENCE_SECONDS, on_sent=begun.set)
    finally:
        begun.set()
    if not isinstance(answered, dict):
        raise UnavailableError(f"the answer is not an object: {answered!r}")
    value = next(output["data"][0] for output in answered["outputs"] if output["name"] == "predict")
    return Sent(row.event_us, headers["x-prediction-id"], str(answered["model_version"]), value, row.label)


def _send_labels(connection: Connection, due: deque[tuple[int, JsonObject]], *, until_us: int | None) -> None:
    """Send the labels that are known by this moment."""
    while due and (until_us is None or due[0][0] <= until_us):
        labels: list[JsonObject] = []
        while due and (until_us is None or due[0][0] <= until_us) and len(labels) < _LABELS_AT_ONCE:
            labels.append(due.popleft()[1])
        connection.call("POST", "/v1/feedback", labels, patience_seconds=_PATIENCE_SECONDS)


def _tensor(name: str, value: Json) -> JsonObject:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return {"name": name, "datatype": "FP64", "shape": [1], "data": [value]}
    return {"name": name, "datatype": "BYTES", "shape": [1], "data": [str(value)]}
