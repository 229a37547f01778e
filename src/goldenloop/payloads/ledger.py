"""The ledger of one service: its logged requests as columns in event-time order, with the labels that came.

Rules. Rows are ordered by event time, then by prediction id, whatever the order in which they were logged. A label belongs to one row
of one prediction, known by our id or by the client's; the first label of a row counts, later ones are counted as repeated.
What a question may see is cut at a moment: a label observed after it is not there yet.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field

import numpy as np

from goldenloop.payloads.records import Answer, Label, Prediction, Value

ROWS_KEPT = 1_000_000  # the oldest rows leave memory beyond this; they stay in the log
_DROPPED_SHARE = 100  # they leave by the hundredth part, because taking from the front of a list moves all of it


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows as columns. `labels` holds None where no label is known; `answers[version]` None where that version did not answer."""

    ids: list[str]
    event_us: np.ndarray  # int64
    columns: dict[str, list[Value]]
    answered_by: list[str]
    answers: dict[str, list[Answer | None]]
    failures: dict[str, list[bool]]  # that version was asked and did not answer
    labels: list[Value]
    latency_us: np.ndarray  # int64
    failed: np.ndarray  # bool: nobody answered
    reasons: list[str] = field(default_factory=list)  # why that version answered
    units: list[str] = field(
        default_factory=list
    )  # what answers were dealt out by; the request's id where there is no other
    places: list[int] = field(default_factory=list)  # the place of the row in its request, from 0
    scored_us: dict[str, list[int | None]] = field(
        default_factory=dict
    )  # how long each version took, where that was measured

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(slots=True)
class _Row:
    """One row of a record, which is taken apart only when somebody asks for the row."""

    record: Prediction
    index: int
    label: Value = None
    label_us: int | None = None


@dataclass(slots=True)
class Ledger:
    """All that is known of one service's requests. `event_time_labels`: labels count from when they were observed, not received."""

    event_time_labels: bool = False
    watermark_us: int | None = None
    first_us: int | None = None
    labelled: int = 0
    repeated_labels: int = 0
    _order: list[tuple[int, str, int]] = field(default_factory=list)
    _dropped: int = 0  # rows that left memory; places go on counting them
    _rows: dict[tuple[str, int], _Row] = field(default_factory=dict)
    _aliases: dict[str, str] = field(default_factory=dict)
    _label_times: list[int] = field(default_factory=list)

    def add_prediction(self, record: Prediction) -> None:
        """Take in a request. One that is known already (a log read twice) changes nothing."""
        if (record.id, 0) in self._rows:
            return
        if record.alias is not None:
            self._aliases.setdefault(record.alias, record.id)
        for index in range(record.rows):
            self._rows[record.id, index] = _Row(record, index)
            key = (record.event_us, record.id, index)
            if not self._order or key > self._order[-1]:
                self._order.append(key)
            else:
                insort(self._order, key)
        self.watermark_us = record.event_us if self.watermark_us is None else max(self.watermark_us, record.event_us)
        self.first_us = record.event_us if self.first_us is None else min(self.first_us, record.event_us)
        if len(self._order) > ROWS_KEPT:
            self._drop_oldest(max(1, ROWS_KEPT // _DROPPED_SHARE))

    def add_label(self, label: Label) -> bool:
        """Take in a label; return whether its row is known."""
        row = self._rows.get((self._aliases.get(label.prediction, label.prediction), label.row))
        if row is None:
            return False
        self._attach(row, label)
        return True

    def __len__(self) -> int:
        return self._dropped + len(self._order)

    def count_before(self, event_us: int) -> int:
        """How many rows have an event time before this."""
        return self._dropped + bisect_left(self._order, (event_us, "", 0))

    def event_time_at(self, position: int) -> int:
        """The event time of the row at this place in event-time order; of the oldest one in memory where it has left."""
        return self._order[max(0, position - self._dropped)][0]

    def between(self, start_us: int, end_us: int, *, as_of_us: int | None = None) -> Rows:
        """The rows with start ≤ event time < end, with the labels known at `as_of_us` (None: all that came)."""
        return self.slice(self.count_before(start_us), self.count_before(end_us), as_of_us=as_of_us)

    def slice(self, first: int, last: int, *, as_of_us: int | None = None) -> Rows:
        """The rows from place `first` to before `last` in event-time order, as far as they are still in memory."""
        first, last = max(0, first - self._dropped), max(0, last - self._dropped)
        rows = [self._rows[identity, index] for _, identity, index in self._order[first:last]]
        records = [row.record for row in rows]
        places = [row.index for row in rows]
        versions = list(dict.fromkeys(version for record in records for version in record.answers))
        return Rows(
            ids=[record.id for record in records],
            event_us=np.fromiter((record.event_us for record in records), dtype=np.int64, count=len(rows)),
            columns=_columns(records, places),
            answered_by=[record.version for record in records],
            answers={
                version: [
                    None if (given := record.answers.get(version)) is None else given[place]
                    for record, place in zip(records, places, strict=True)
                ]
                for version in versions
            },
            failures={
                version: [version in record.failures for record in records]
                for version in dict.fromkeys(version for record in records for version in record.failures)
            },
            labels=[_known(row, as_of_us) for row in rows],
            latency_us=np.fromiter((record.latency_us for record in records), dtype=np.int64, count=len(rows)),
            failed=np.fromiter(
                (record.version not in record.answers for record in records), dtype=bool, count=len(rows)
            ),
            places=places,
            reasons=[record.reason for record in records],
            units=[record.unit or record.id for record in records],
            scored_us={
                version: [record.scored_us.get(version) for record in records]
                for version in dict.fromkeys(version for record in records for version in record.scored_us)
            },
        )

    def labelled_since(self, moment_us: int, *, as_of_us: int) -> int:
        """How many labels became known after one moment and by another."""
        return bisect_right(self._label_times, as_of_us) - bisect_right(self._label_times, moment_us)

    def _attach(self, row: _Row, label: Label) -> None:
        if row.label_us is not None:
            self.repeated_labels += 1
            return
        row.label = label.label
        if not self.event_time_labels:
            row.label_us = label.arrival_us
        elif label.observed_us is not None:
            row.label_us = label.observed_us
        else:
            row.label_us = max(row.record.event_us, self.watermark_us or row.record.event_us)
        self.labelled += 1
        insort(self._label_times, row.label_us)

    def _drop_oldest(self, count: int) -> None:
        for _, identity, index in self._order[:count]:
            row = self._rows.pop((identity, index))
            if row.record.alias is not None:
                self._aliases.pop(row.record.alias, None)
        del self._order[:count]
        self._dropped += count


def _known(row: _Row, as_of_us: int | None) -> Value:
    if row.label_us is None or (as_of_us is not None and row.label_us > as_of_us):
        return None
    return row.label


def _columns(records: list[Prediction], places: list[int]) -> dict[str, list[Value]]:
    """The values of rows by column; None where a row's request did not have the column."""
    if not records:
        return {}
    first = records[0]
    if all(record.rows == 1 and record.columns == first.columns for record in records):
        # As it nearly always is: the numbers of all rows are one piece of memory.
        numbers = np.frombuffer(b"".join([record.numbers for record in records]), dtype="<f8")
        by_column: list[list[Value]] = numbers.reshape(len(records), -1).T.tolist()
        by_column += [list(texts) for texts in zip(*(record.texts for record in records), strict=True)]
        return dict(zip(first.names, by_column, strict=True))
    rows = [record.row(place) for record, place in zip(records, places, strict=True)]
    return {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}
