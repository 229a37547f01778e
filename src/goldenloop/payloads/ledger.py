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

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(slots=True)
class _Row:
    event_us: int
    id: str
    index: int
    alias: str | None
    values: tuple[Value, ...]
    columns: tuple[str, ...]
    version: str
    answers: dict[str, Answer]
    failures: frozenset[str]
    latency_us: int
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
        failures = frozenset(record.failures)
        for index, values in enumerate(record.rows):
            row = _Row(
                event_us=record.event_us,
                id=record.id,
                index=index,
                alias=record.alias,
                values=values,
                columns=record.columns,
                version=record.version,
                answers={version: answers[index] for version, answers in record.answers.items()},
                failures=failures,
                latency_us=record.latency_us,
            )
            self._rows[record.id, index] = row
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
        names = list(dict.fromkeys(name for row in rows for name in row.columns))
        uniform = all(row.columns == rows[0].columns for row in rows)
        if uniform and rows:
            columns = {
                name: list(values)
                for name, values in zip(names, zip(*(row.values for row in rows), strict=True), strict=True)
            }
        else:
            maps = [dict(zip(row.columns, row.values, strict=True)) for row in rows]
            columns = {name: [values.get(name) for values in maps] for name in names}
        versions = list(dict.fromkeys(version for row in rows for version in row.answers))
        return Rows(
            ids=[row.id for row in rows],
            event_us=np.fromiter((row.event_us for row in rows), dtype=np.int64, count=len(rows)),
            columns=columns,
            answered_by=[row.version for row in rows],
            answers={version: [row.answers.get(version) for row in rows] for version in versions},
            failures={
                version: [version in row.failures for row in rows]
                for version in dict.fromkeys(version for row in rows for version in row.failures)
            },
            labels=[_known(row, as_of_us) for row in rows],
            latency_us=np.fromiter((row.latency_us for row in rows), dtype=np.int64, count=len(rows)),
            failed=np.fromiter((row.version not in row.answers for row in rows), dtype=bool, count=len(rows)),
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
            row.label_us = max(row.event_us, self.watermark_us or row.event_us)
        self.labelled += 1
        insort(self._label_times, row.label_us)

    def _drop_oldest(self, count: int) -> None:
        for _, identity, index in self._order[:count]:
            row = self._rows.pop((identity, index))
            if row.alias is not None:
                self._aliases.pop(row.alias, None)
        del self._order[:count]
        self._dropped += count


def _known(row: _Row, as_of_us: int | None) -> Value:
    if row.label_us is None or (as_of_us is not None and row.label_us > as_of_us):
        return None
    return row.label
