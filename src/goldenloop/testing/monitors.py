"""What every monitor must do, built in or your own: derive from `MonitorSuite` and give your monitor.

    class TestRefunds(MonitorSuite):
        def monitor(self) -> Monitor:
            return Refunds()

The suite fits it on a small reference and shows it windows as they come in bad times: empty, of one row, with missing and infinite
numbers, constants, categories never seen, columns that vanished, no answers, no labels. A monitor answers each with findings that can be
stored; it never raises, and never writes into what it was given.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from goldenloop.core.phases import Verdict
from goldenloop.core.signatures import Column, Signature, Task
from goldenloop.monitors.catalogue.base import Asked, Monitor, Past, Window
from goldenloop.monitors.findings import Outcome
from goldenloop.monitors.reference import Columns, Reference, answer_columns, split_watch
from goldenloop.payloads.records import Answer
from goldenloop.standards.loop import NamedMonitor

ROWS, WINDOW_ROWS = 1_200, 40
_KINDS = {"income": "number", "age": "number", "city": "category", "sex": "category"}
BAD_WINDOWS = (
    "usual",
    "empty",
    "one row",
    "missing",
    "infinite",
    "constant",
    "new category",
    "vanished",
    "unreadable",
    "unanswered",
    "unlabelled",
    "group of two",
)


def past_of(task: Task = "classification", *, seed: int = 0) -> Past:
    """A reference with numbers, categories and a protected column, and a model that is right four times in five."""
    signature = Signature(
        inputs=tuple(Column(name=name, kind=kind) for name, kind in _KINDS.items()),  # type: ignore[arg-type]  # literals
        task=task,
        classes=("no", "yes") if task == "classification" else (),
    )
    training, evaluation = _rows(signature, ROWS, seed=seed), _rows(signature, ROWS // 3, seed=seed + 1)
    windows = [np.arange(start, start + WINDOW_ROWS) for start in range(0, ROWS, WINDOW_ROWS)]
    return Past(
        training=training,
        evaluation=evaluation,
        windows=windows,
        score=lambda columns, rows: _answers(signature, columns, rows),
        protected=("sex", "age"),
    )


def reference_of(past: Past) -> Reference:
    """What is kept beside a version, without what monitors fit."""
    training = past.training
    said, kinds = answer_columns(training.signature, training.answers)
    return Reference(
        task=training.signature.task,
        features=split_watch(training.columns, past.inputs, past.windows),
        answers=split_watch(said, kinds, past.windows),
        loss_scale=1.0,
        usual_loss=0.2,
        expected_loss=0.2,
        loss_windows=(),
    )


def window_like(past: Past, what: str, *, seed: int = 5) -> Window:
    """A window of one of `BAD_WINDOWS`."""
    signature = past.training.signature
    sizes = {"empty": 0, "one row": 1}
    window = _rows(signature, sizes.get(what, WINDOW_ROWS * 3), seed=seed)
    columns = dict(window.columns)
    count = len(window)
    nobody: list[None] = [None] * count
    if what == "missing":
        columns |= {"income": np.full(count, np.nan), "city": _objects([""] * count)}
    elif what == "infinite":
        columns["income"] = np.where(np.arange(count) % 3 == 0, np.inf, -np.inf)
    elif what == "constant":
        columns |= {"income": np.full(count, 7.0), "city": _objects(["a"] * count)}
    elif what == "new category":
        columns["city"] = _objects(["moon"] * count)
    elif what == "group of two":
        columns["sex"] = _objects(["f"] * 2 + ["m"] * (count - 2))
    elif what == "unanswered":
        return replace(window, answers=nobody)
    elif what == "unlabelled":
        return replace(window, labels=nobody)
    elif what == "vanished":
        columns["income"] = np.full(count, np.nan)
        return replace(window, columns=columns, absent=("income",))
    elif what == "unreadable":
        columns["income"] = np.full(count, np.nan)
        return replace(window, columns=columns, unreadable={"income": count})
    return replace(window, columns=columns)


class MonitorSuite(ABC):
    """Derive from it, and give `monitor`; give `settings` where your class needs some."""

    @abstractmethod
    def monitor(self) -> Monitor:  # type: ignore[type-arg]  # each knows a record of its own
        """The monitor to examine."""

    def settings(self) -> NamedMonitor:
        """How a loop asks for it."""
        monitor = self.monitor()
        source = f"monitors.py:{type(monitor).__name__}" if monitor.name == "custom" else ""
        return NamedMonitor(type=monitor.name, source=source)

    @pytest.mark.parametrize("task", ["classification", "regression"])
    @pytest.mark.parametrize("what", BAD_WINDOWS)
    def test_every_window_has_findings_that_can_be_stored(self, what: str, task: Task) -> None:
        monitor, past = self.monitor(), past_of(task)
        window = window_like(past, what)
        if len(window) < monitor.fewest_rows:
            return
        before = {name: values.copy() for name, values in window.columns.items()}
        outcome = self._measured(monitor, past, window)
        assert outcome.findings
        for finding in outcome.findings:
            assert finding.value is None or not math.isnan(finding.value), finding
            assert finding.value is not None or finding.verdict in (Verdict.INCONCLUSIVE, Verdict.ERROR), finding
            assert len(finding.metric) <= 64, finding
        assert len({(each.metric, each.feature, each.slice) for each in outcome.findings}) == len(outcome.findings)
        assert msgspec.json.decode(msgspec.json.encode(outcome), type=Outcome) is not None
        for name, values in window.columns.items():
            assert np.array_equal(values, before[name], equal_nan=values.dtype != object), name

    def test_the_same_window_gives_the_same_findings(self) -> None:
        monitor, past = self.monitor(), past_of()
        window = window_like(past, "usual")
        assert self._measured(monitor, past, window) == self._measured(monitor, past, window)

    def test_what_it_knows_survives_being_kept(self) -> None:
        monitor, past = self.monitor(), past_of()
        known = monitor.fit(past)
        if known is None:
            return
        assert monitor.knows is not None, "`knows` says of what type the record is"
        kept = msgspec.json.decode(msgspec.json.encode(known))
        assert msgspec.convert(kept, monitor.knows) == known

    def test_it_says_whether_it_is_chosen_and_why(self) -> None:
        chosen, why = self.monitor().choose(past_of())
        assert isinstance(chosen, bool)
        assert why

    def _measured(self, monitor: Monitor, past: Past, window: Window) -> Outcome:  # type: ignore[type-arg]
        reference = reference_of(past)
        known = monitor.fit(past)
        if known is not None:
            reference = msgspec.structs.replace(reference, fitted={self.settings().name: msgspec.to_builtins(known)})
        if monitor.name != "custom":
            known = monitor.known(reference)
        with np.errstate(all="ignore"):
            return monitor.measure(window, known, Asked(settings=self.settings()))


def _rows(signature: Signature, count: int, *, seed: int) -> Window:
    generator = np.random.default_rng(seed)
    columns: Columns = {
        "income": generator.lognormal(size=count),
        "age": np.round(generator.uniform(18.0, 90.0, size=count)),
        "city": _objects(generator.choice(["a", "b", "c", ""], size=count).tolist()),
        "sex": _objects(generator.choice(["f", "m"], size=count).tolist()),
    }
    answers = _answers(signature, columns, count)
    right = generator.random(count) < 0.8
    labels: list[str | float]
    if signature.task == "classification":
        labels = [
            str(said) if sure else {"no": "yes", "yes": "no"}[str(said)]
            for (said, _), sure in zip(answers, right.tolist(), strict=True)
        ]
    else:
        labels = [
            float(said) + float(error) for (said, _), error in zip(answers, generator.normal(size=count), strict=True)
        ]
    times = np.arange(count, dtype=np.int64) * 1_000_000
    return Window(
        start_us=0,
        end_us=int(times[-1]) + 1 if count else 1,
        signature=signature,
        event_us=times,
        columns=columns,
        answers=answers,
        labels=labels,
        ids=[f"id-{place}" for place in range(count)],
        places=[0] * count,
        latency_ms=np.full(count, 2.0),
    )


def _answers(signature: Signature, columns: Columns, rows: int) -> list[Answer]:
    income = np.nan_to_num(np.asarray(columns["income"], dtype=np.float64)[:rows])
    if signature.task == "regression":
        return [(float(value), ()) for value in income.tolist()]
    chances = np.clip(0.2 + 0.25 * income, 0.05, 0.95).tolist()
    return [("yes" if chance > 0.5 else "no", (1.0 - chance, chance)) for chance in chances]


def _objects(values: list[str]) -> NDArray[np.object_]:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made
