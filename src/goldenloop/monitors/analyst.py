"""The monitors' view of the payload log: asked by control, answers with facts, decides nothing and writes nothing but training rows.

It runs in a process of its own (`goldenloop.monitors.worker`), or in the caller's for a simulation. It holds no truth: killed, it reads
the log again.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.signatures import Signature, Task
from goldenloop.monitors.reference import Reference, answer_columns, losses_of
from goldenloop.payloads.ledger import Ledger, Rows
from goldenloop.payloads.records import Answer, Exchange, Label, Record, Value
from goldenloop.stats.intervals import wilson_interval
from goldenloop.stats.losses import metrics

WAITING_LABELS_KEPT = 100_000  # labels whose prediction has not been seen; the oldest leave beyond this
FEWEST_ROWS = 20  # a window with fewer says nothing


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of one service: by event time (`start_us` ≤ t < `end_us`), or by place where `places` is set; known at `as_of_us`."""

    namespace: str
    service: str
    start_us: int
    end_us: int
    as_of_us: int
    places: tuple[int, int] | None = None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """How far a service's log has come."""

    rows: int
    first_us: int | None
    watermark_us: int | None
    labelled: int
    waiting_labels: int
    damage: int = 0


class WindowFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a closed window shows without labels."""

    rows: int
    score: float | None
    columns: dict[str, float]
    missing: dict[str, float]
    answer_score: float | None
    failed: int
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    note: str = ""


class QualityFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a window shows once its labels are due. `residual` is the mean of loss less the loss expected of whoever answered."""

    rows: int
    labelled: int
    metrics: dict[str, float]
    low: float | None
    high: float | None
    residual: float | None


class PairedFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Loss of the champion less loss of the challenger, in request order. `unscored` rows reached only one of the two."""

    differences: tuple[float, ...]
    labelled: int
    missing: int
    skipped: int
    unscored: int
    challenger_failures: int


class TrainingFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Labelled rows written for training."""

    rows: int
    path: str | None


class Analyst(Protocol):
    """What control asks."""

    def expect(self, namespace: str, service: str, *, replay: bool) -> None:
        """Watch this service; where it replays, labels count from when they were observed."""
        ...

    def sync(self) -> dict[str, Summary]:
        """Read what was logged since; how far each `namespace/service` has come."""
        ...

    def count_before(self, namespace: str, service: str, event_us: int) -> int: ...

    def event_time_at(self, namespace: str, service: str, position: int) -> int: ...

    def window(self, span: Span, champion: str, reference: str, signature: Signature) -> WindowFacts: ...

    def quality(
        self, span: Span, champion: str, task: Task, expected: dict[str, float], scale: float, metric: str
    ) -> QualityFacts: ...

    def paired(
        self, span: Span, champion: str, challenger: str, task: Task, scale: float, missing: str
    ) -> PairedFacts: ...

    def new_labels(self, namespace: str, service: str, since_us: int, until_us: int) -> int: ...

    def training_rows(self, span: Span, label: str, timestamp: str, path: str) -> TrainingFacts: ...


class LogAnalyst:
    """Answers from a log that `read` hands on piece by piece."""

    def __init__(self, read: Callable[[], list[Record]], *, damage: Callable[[], int] = lambda: 0) -> None:
        self._read = read
        self._damage = damage
        self._ledgers: dict[tuple[str, str], Ledger] = {}
        self._by_prediction: dict[str, Ledger] = {}
        self._waiting: OrderedDict[tuple[str, int], Label] = OrderedDict()
        self._replays: dict[tuple[str, str], bool] = {}
        self._references: dict[str, Reference] = {}

    def expect(self, namespace: str, service: str, *, replay: bool) -> None:
        key = (namespace, service)
        if self._replays.get(key) != replay:
            self._replays[key] = replay
            if key in self._ledgers:
                self._ledgers[key].event_time_labels = replay

    def sync(self) -> dict[str, Summary]:
        while records := self._read():
            for record in records:
                self._take(record)
        return {
            f"{namespace}/{service}": Summary(
                rows=len(ledger),
                first_us=ledger.first_us,
                watermark_us=ledger.watermark_us,
                labelled=ledger.labelled,
                waiting_labels=len(self._waiting),
                damage=self._damage(),
            )
            for (namespace, service), ledger in self._ledgers.items()
        }

    def count_before(self, namespace: str, service: str, event_us: int) -> int:
        return self._ledger(namespace, service).count_before(event_us)

    def event_time_at(self, namespace: str, service: str, position: int) -> int:
        return self._ledger(namespace, service).event_time_at(position)

    def window(self, span: Span, champion: str, reference: str, signature: Signature) -> WindowFacts:
        rows = self._rows(span)
        known = self._reference(reference)
        latencies = rows.latency_us / 1_000
        bare = WindowFacts(
            rows=len(rows),
            score=None,
            columns={},
            missing={},
            answer_score=None,
            failed=int(rows.failed.sum()),
            latency_p50_ms=float(np.quantile(latencies, 0.5)) if len(rows) else None,
            latency_p99_ms=float(np.quantile(latencies, 0.99)) if len(rows) else None,
        )
        if len(rows) < FEWEST_ROWS:
            note = f"{len(rows)} rows; fewer than {FEWEST_ROWS} say nothing"
            return msgspec.structs.replace(bare, note=note)
        columns = _columns(rows, signature)
        score, by_column = known.features.score(columns)
        answered, _ = _judged(rows, champion)
        answer_values, _ = answer_columns(signature, answered)
        some = any(len(values) >= FEWEST_ROWS for values in answer_values.values())
        answer_score = known.answers.score(answer_values)[0] if some else None
        missing = {column.name: float(np.mean(_is_missing(columns[column.name]))) for column in signature.inputs}
        return msgspec.structs.replace(bare, score=score, columns=by_column, missing=missing, answer_score=answer_score)

    def quality(
        self, span: Span, champion: str, task: Task, expected: dict[str, float], scale: float, metric: str
    ) -> QualityFacts:
        rows = self._rows(span)
        judged, versions = _judged(rows, champion)
        answers = _given(rows)
        losses = losses_of(task, judged, rows.labels, scale)
        known = ~np.isnan(losses)
        labelled = int(known.sum())
        if labelled < FEWEST_ROWS:
            return QualityFacts(rows=len(rows), labelled=labelled, metrics={}, low=None, high=None, residual=None)
        chosen = np.flatnonzero(known)
        said = np.empty(labelled, dtype=object)
        said[:] = [None if (answer := answers[place]) is None else answer[0] for place in chosen]
        found = metrics(task, np.array([rows.labels[place] for place in chosen], dtype=object), said)
        low = high = None
        if metric == "accuracy":
            interval = wilson_interval(round((found["accuracy"] or 0.0) * labelled), labelled)
            low, high = interval.low, interval.high
        baseline = np.array([expected.get(versions[place], np.nan) for place in chosen])
        residuals = losses[known] - baseline
        return QualityFacts(
            rows=len(rows),
            labelled=labelled,
            metrics={name: value for name, value in found.items() if value is not None},
            low=low,
            high=high,
            residual=None if np.isnan(residuals).all() else float(np.nanmean(residuals)),
        )

    def paired(self, span: Span, champion: str, challenger: str, task: Task, scale: float, missing: str) -> PairedFacts:
        rows = self._rows(span)
        nobody: list[None] = [None] * len(rows)
        ours, theirs = rows.answers.get(champion, nobody), rows.answers.get(challenger, nobody)
        failures = rows.failures.get(challenger, [False] * len(rows))
        differences: list[float] = []
        counts = {"labelled": 0, "missing": 0, "skipped": 0, "unscored": 0, "failed": 0}
        champion_losses = losses_of(task, list(ours), rows.labels, scale)
        challenger_losses = losses_of(task, list(theirs), rows.labels, scale)
        for place in range(len(rows)):
            if ours[place] is None or (theirs[place] is None and not failures[place]):
                counts["unscored"] += 1
                continue
            counts["failed"] += theirs[place] is None
            if not np.isnan(champion_losses[place]):
                counts["labelled"] += 1
                differences.append(float(champion_losses[place] - challenger_losses[place]))
            elif missing == "ignore":
                counts["skipped"] += 1
            else:
                counts["missing"] += 1
                differences.append(-_largest_difference(task, ours[place], theirs[place], scale))
        return PairedFacts(
            differences=tuple(differences),
            labelled=counts["labelled"],
            missing=counts["missing"],
            skipped=counts["skipped"],
            unscored=counts["unscored"],
            challenger_failures=counts["failed"],
        )

    def new_labels(self, namespace: str, service: str, since_us: int, until_us: int) -> int:
        return self._ledger(namespace, service).labelled_since(since_us, as_of_us=until_us)

    def training_rows(self, span: Span, label: str, timestamp: str, path: str) -> TrainingFacts:
        rows = self._rows(span)
        places = [place for place in range(len(rows)) if rows.labels[place] is not None]
        if not places:
            return TrainingFacts(rows=0, path=None)
        table: dict[str, pa.Array] = {}
        for name, values in rows.columns.items():
            table[name] = _arrow([values[place] for place in places])
        table[label] = _arrow([rows.labels[place] for place in places])
        if timestamp:
            table[timestamp] = pa.array(rows.event_us[places], type=pa.timestamp("us", tz="UTC"))
        # Whole or not at all: a file that is there is taken for what was asked, also after a crash.
        partial = Path(f"{path}.partial")
        pq.write_table(pa.table(table), partial, compression="zstd")
        os.replace(partial, path)
        return TrainingFacts(rows=len(places), path=path)

    def _take(self, record: Record) -> None:
        if isinstance(record, Label):
            ledger = self._by_prediction.get(record.prediction)
            if ledger is None or not ledger.add_label(record):
                self._waiting.setdefault((record.prediction, record.row), record)
                if len(self._waiting) > WAITING_LABELS_KEPT:
                    self._waiting.popitem(last=False)
            return
        if isinstance(record, Exchange):
            return  # tensors and documents: there are no columns to watch
        ledger = self._ledger(record.namespace, record.service)
        ledger.add_prediction(record)
        for name in (record.id, record.alias):
            if name is None:
                continue
            self._by_prediction.setdefault(name, ledger)
            for row in range(len(record.rows)) if self._waiting else ():
                if (label := self._waiting.pop((name, row), None)) is not None:
                    ledger.add_label(label)

    def _ledger(self, namespace: str, service: str) -> Ledger:
        key = (namespace, service)
        if key not in self._ledgers:
            self._ledgers[key] = Ledger(event_time_labels=self._replays.get(key, False))
        return self._ledgers[key]

    def _rows(self, span: Span) -> Rows:
        ledger = self._ledger(span.namespace, span.service)
        if span.places is not None:
            return ledger.slice(*span.places, as_of_us=span.as_of_us)
        return ledger.between(span.start_us, span.end_us, as_of_us=span.as_of_us)

    def _reference(self, path: str) -> Reference:
        if path not in self._references:
            try:
                self._references[path] = msgspec.json.decode(Path(path).read_bytes(), type=Reference)
            except (OSError, msgspec.DecodeError) as error:
                raise InvalidSpecError(f"the reference cannot be read: {error}", where=path) from error
        return self._references[path]


def _given(rows: Rows) -> list[Answer | None]:
    """The answers that went out."""
    return [
        rows.answers[version][place] if version in rows.answers else None
        for place, version in enumerate(rows.answered_by)
    ]


def _judged(rows: Rows, champion: str) -> tuple[list[Answer | None], list[str]]:
    """The answers that decisions rest on, and whose they are: the champion's own where it scored the row, else the one that went out.

    The champion scores every request, also those that a challenger answers, so that nothing depends on how requests were routed.
    """
    given = _given(rows)
    own = rows.answers.get(champion, [None] * len(rows))
    judged = [mine if mine is not None else other for mine, other in zip(own, given, strict=True)]
    versions = [champion if mine is not None else version for mine, version in zip(own, rows.answered_by, strict=True)]
    return judged, versions


def _columns(rows: Rows, signature: Signature) -> dict[str, np.ndarray]:
    """The inputs of the rows as arrays: numbers as float64 with NaN, categories as text with "" where missing."""
    result: dict[str, np.ndarray] = {}
    for column in signature.inputs:
        values = rows.columns.get(column.name, [None] * len(rows))
        if column.kind == "number":
            result[column.name] = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
        else:
            result[column.name] = np.array(["" if value is None else str(value) for value in values], dtype=object)
    return result


def _is_missing(values: np.ndarray) -> np.ndarray:
    missing: np.ndarray = values == "" if values.dtype == object else np.isnan(values)
    return missing


def _largest_difference(task: Task, ours: object, theirs: object, scale: float) -> float:
    """The most by which the losses of two answers can differ, whatever the label is: what a missing label may cost the challenger."""
    if ours is None or theirs is None:
        return 1.0
    assert isinstance(ours, tuple)
    assert isinstance(theirs, tuple)
    if task == "classification":
        return float(str(ours[0]) != str(theirs[0]))
    return min(1.0, abs(float(ours[0]) - float(theirs[0])) / scale)


def _arrow(values: Sequence[Value]) -> pa.Array:
    """A column of Arrow: numbers where all are numbers (None for NaN), else text."""
    if all(value is None or isinstance(value, bool) for value in values):
        return pa.array(values, type=pa.bool_())
    if all(value is None or (isinstance(value, int) and not isinstance(value, bool)) for value in values):
        return pa.array(values, type=pa.int64())
    if all(value is None or isinstance(value, int | float) for value in values):
        return pa.array([None if value is None or value != value else value for value in values], type=pa.float64())
    return pa.array([None if value is None else str(value) for value in values], type=pa.string())
