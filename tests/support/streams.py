"""A seeded stream with a sudden change that a new model can learn, and a sender that sends again what got no answer."""

from __future__ import annotations

import csv
import http.client
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from goldenloop.core.clock import HOUR, MINUTE, from_text, to_text

BEGIN_US = from_text("2024-01-01T00:00:00Z")
STEP_US = 15 * MINUTE
DELAY_US = 6 * HOUR
DELIVERY_US = HOUR
PLACES = ("north", "south", "west")


@dataclass(frozen=True, slots=True)
class Row:
    """One row: when, what, and what is true of it."""

    event_us: int
    features: dict[str, float | str]
    label: str


def make_rows(seed: int, *, history: int, before: int, after: int) -> tuple[list[Row], list[Row]]:
    """The past and the stream. From row `before` of the stream on, `heat` lies where the past has none, and means the opposite there."""
    dice = random.Random(seed)
    rows: list[Row] = []
    for number in range(history + before + after):
        changed = number >= history + before
        place = dice.choice(PLACES)
        heat = dice.gauss(6.0 if changed else 0.0, 1.0)
        load = dice.gauss(0.0, 1.0)
        score = (6.0 - heat if changed else heat) + (0.5 if place == "north" else 0.0) + dice.gauss(0.0, 0.3)
        features: dict[str, float | str] = {"heat": round(heat, 4), "load": round(load, 4), "place": place}
        rows.append(Row(BEGIN_US + number * STEP_US, features, "yes" if score > 0 else "no"))
    return rows[:history], rows[history:]


def write_history(path: Path, rows: list[Row]) -> None:
    """The past as a CSV file."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["at", *rows[0].features, "label"])
        for row in rows:
            writer.writerow([to_text(row.event_us), *row.features.values(), row.label])


@dataclass(slots=True)
class Sender:
    """Sends one request after the other. What got no answer is sent again; what was answered is kept."""

    inference: str
    service: str
    answered: list[str] = field(default_factory=list)  # ids of predictions that were acknowledged
    labelled: list[str] = field(default_factory=list)  # ids whose labels were acknowledged
    retries: int = 0
    patience_seconds: float = 120.0
    _connection: http.client.HTTPConnection | None = None

    def send(self, rows: list[Row]) -> None:
        """Send rows, and the labels of those that were sent before as they become known (with the next delivery, one an hour)."""
        due: list[tuple[int, dict[str, object]]] = []
        for row in rows:
            known = [label for at_us, label in due if at_us <= row.event_us]
            if known:
                self._label(known)
                due = [(at_us, label) for at_us, label in due if at_us > row.event_us]
            identity = self.predict(row)
            known_us = -(-(row.event_us + DELAY_US) // DELIVERY_US) * DELIVERY_US
            due.append((known_us, {"id": identity, "label": row.label, "observed_at": to_text(known_us)}))
        self._label([label for _, label in due])

    def predict(self, row: Row) -> str:
        """Send one row until it is answered; return the id of the prediction."""
        inputs = [
            {"name": name, "datatype": "BYTES" if isinstance(value, str) else "FP64", "shape": [1], "data": [value]}
            for name, value in row.features.items()
        ]
        body = {"inputs": inputs, "parameters": {"event_time": to_text(row.event_us)}}
        answer = msgspec.json.decode(self._until_answered(f"/v2/models/{self.service}/infer", body, 200), type=dict)
        self.answered.append(str(answer["id"]))
        return str(answer["id"])

    def _label(self, labels: list[dict[str, object]]) -> None:
        self._until_answered("/v1/feedback", labels, 202)
        self.labelled += [str(label["id"]) for label in labels]

    def _until_answered(self, path: str, body: object, expected: int) -> bytes:
        parts = urlsplit(self.inference)
        content = msgspec.json.encode(body)
        end = time.monotonic() + self.patience_seconds
        while True:
            try:
                if self._connection is None:
                    self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
                self._connection.request("POST", path, content, {"Content-Type": "application/json"})
                response = self._connection.getresponse()
                text = response.read()
            except (OSError, http.client.HTTPException) as error:
                if self._connection is not None:
                    self._connection.close()
                self._connection = None
                assert time.monotonic() < end, f"{path}: {error}"
                self.retries += 1
                time.sleep(0.02)
                continue
            if response.status == expected:
                return text
            assert response.status in (429, 503), text
            assert time.monotonic() < end, text
            self.retries += 1
            time.sleep(0.1)
