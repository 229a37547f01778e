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
from goldenloop.core.signatures import Signature
from goldenloop.monitors.catalogue import measure_all
from goldenloop.monitors.catalogue.base import FEWEST_ROWS, Asked, Window
from goldenloop.monitors.comparing import BesideFacts, ComparedFacts, Comparison, beside, compare, has_units
from goldenloop.monitors.custom import CustomProcess
from goldenloop.monitors.findings import Finding, Flag, Outcome
from goldenloop.monitors.observing import judged, window_of
from goldenloop.monitors.reference import Reference
from goldenloop.payloads.ledger import Ledger, Rows
from goldenloop.payloads.records import Exchange, Label, Record, Value

WAITING_LABELS_KEPT = 100_000  # labels whose prediction has not been seen; the oldest leave beyond this


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
    """What a closed window shows without labels: what its monitors found, and the scores that feed the promised detectors.

    `broken`: why rows of this window must not be trained on; "" where they may.
    """

    rows: int
    findings: tuple[Finding, ...] = ()
    scores: dict[str, float] = {}
    flags: tuple[Flag, ...] = ()
    broken: str = ""


class QualityFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a window shows once its labels are due. `residual` is the mean of loss less the loss expected of whoever answered.

    `metrics`, and the interval of the loop's own metric, are those of the monitor `performance`, over all rows.
    """

    rows: int
    labelled: int
    metrics: dict[str, float]
    low: float | None
    high: float | None
    residual: float | None
    findings: tuple[Finding, ...] = ()


class QualityQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """Whose answers are judged, against which expected losses (by version), with which monitors; `metric` is the loop's own."""

    champion: str
    reference: str
    signature: Signature
    expected: dict[str, float]
    scale: float
    metric: str
    asked: tuple[Asked, ...] = ()


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

    def window(
        self, span: Span, champion: str, reference: str, signature: Signature, asked: tuple[Asked, ...]
    ) -> WindowFacts: ...

    def quality(self, span: Span, asked: QualityQuestion) -> QualityFacts: ...

    def compare(self, span: Span, asked: Comparison) -> ComparedFacts: ...

    def beside(self, span: Span, champion: str, challenger: str) -> BesideFacts: ...

    def new_labels(self, namespace: str, service: str, since_us: int, until_us: int) -> int: ...

    def training_rows(
        self, span: Span, label: str, timestamp: str, path: str, without: tuple[tuple[int, int], ...]
    ) -> TrainingFacts: ...


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
        self._custom = CustomProcess()

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

    def window(
        self, span: Span, champion: str, reference: str, signature: Signature, asked: tuple[Asked, ...]
    ) -> WindowFacts:
        known = self._reference(reference)
        window = window_of(
            self._rows(span),
            champion,
            signature,
            start_us=span.start_us,
            end_us=span.end_us,
            loss_scale=known.loss_scale,
        )
        outcomes = self._measured(asked, window, known, labelled=False)
        return WindowFacts(
            rows=len(window),
            findings=tuple(finding for outcome in outcomes for finding in outcome.findings),
            scores={outcome.monitor: outcome.score for outcome in outcomes if outcome.score is not None},
            flags=tuple(flag for outcome in outcomes for flag in outcome.flags),
            broken="; ".join(outcome.broken for outcome in outcomes if outcome.broken),
        )

    def quality(self, span: Span, asked: QualityQuestion) -> QualityFacts:
        rows = self._rows(span)
        known = self._reference(asked.reference) if asked.asked else None
        window = window_of(
            rows,
            asked.champion,
            asked.signature,
            start_us=span.start_us,
            end_us=span.end_us,
            loss_scale=asked.scale,
        )
        outcomes = [] if known is None else self._measured(asked.asked, window, known, labelled=True)
        findings = tuple(finding for outcome in outcomes for finding in outcome.findings)
        labelled = np.flatnonzero(~np.isnan(window.losses))
        facts = QualityFacts(
            rows=len(rows),
            labelled=int(labelled.size),
            metrics={},
            low=None,
            high=None,
            residual=None,
            findings=findings,
        )
        if labelled.size < FEWEST_ROWS:
            return facts
        _, versions = judged(rows, asked.champion)
        baseline = np.array([asked.expected.get(versions[place], np.nan) for place in labelled.tolist()])
        residuals = window.losses[labelled] - baseline
        overall = [each for each in findings if each.monitor == "performance" and not (each.feature or each.slice)]
        metric = next((each for each in overall if each.metric == asked.metric), None)
        return msgspec.structs.replace(
            facts,
            metrics={each.metric: each.value for each in overall if each.value is not None},
            low=None if metric is None else metric.low,
            high=None if metric is None else metric.high,
            residual=None if np.isnan(residuals).all() else float(np.nanmean(residuals)),
        )

    def compare(self, span: Span, asked: Comparison) -> ComparedFacts:
        rows = self._rows(span)
        earlier: Rows | None = None
        if asked.split and has_units(rows):
            before = msgspec.structs.replace(span, start_us=asked.since_us, end_us=span.start_us)
            earlier = self._rows(before)
        return compare(rows, asked, earlier)

    def beside(self, span: Span, champion: str, challenger: str) -> BesideFacts:
        return beside(self._rows(span), champion, challenger)

    def new_labels(self, namespace: str, service: str, since_us: int, until_us: int) -> int:
        return self._ledger(namespace, service).labelled_since(since_us, as_of_us=until_us)

    def training_rows(
        self, span: Span, label: str, timestamp: str, path: str, without: tuple[tuple[int, int], ...] = ()
    ) -> TrainingFacts:
        """Write the labelled rows; those that happened in one of the spans `without` (start ≤ t < end) are left out."""
        rows = self._rows(span)
        happened = rows.event_us.tolist()
        places = [
            place
            for place in range(len(rows))
            if rows.labels[place] is not None and not any(start <= happened[place] < end for start, end in without)
        ]
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

    def _measured(self, asked: tuple[Asked, ...], window: Window, known: Reference, *, labelled: bool) -> list[Outcome]:
        outcomes = measure_all(asked, window, known, labelled=labelled)
        for each in asked:
            if each.settings.type == "custom":
                fitted = known.fitted.get(each.settings.name)
                if (outcome := self._custom.measure(each, window, fitted, labelled=labelled)) is not None:
                    outcomes.append(outcome)
        return outcomes

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
            for row in range(record.rows) if self._waiting else ():
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


def _arrow(values: Sequence[Value]) -> pa.Array:
    """A column of Arrow: numbers where all are numbers (None for NaN), else text."""
    if all(value is None or isinstance(value, bool) for value in values):
        return pa.array(values, type=pa.bool_())
    if all(value is None or (isinstance(value, int) and not isinstance(value, bool)) for value in values):
        return pa.array(values, type=pa.int64())
    if all(value is None or isinstance(value, int | float) for value in values):
        return pa.array([None if value is None or value != value else value for value in values], type=pa.float64())
    return pa.array([None if value is None else str(value) for value in values], type=pa.string())
