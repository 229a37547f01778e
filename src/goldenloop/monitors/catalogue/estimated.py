"""What answers are likely to be worth before labels are there, and how much worse they are than that once labels come.

Both rest on rows that the model was not trained on: the evaluation set, with its answers and labels.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.monitors.catalogue.base import FEWEST_ROWS, Asked, Monitor, Past, Window
from goldenloop.monitors.findings import Finding, Outcome, could_not
from goldenloop.monitors.reference import Columns
from goldenloop.stats.calibration import top_label
from goldenloop.stats.estimates import Calibrator, LossModel, corrected_mean, estimate_accuracy, estimate_binary
from goldenloop.stats.losses import as_numbers, as_text
from goldenloop.stats.measured import Measured
from goldenloop.stats.special import normal_quantile

_FEWEST_EVALUATED = 100  # labelled rows of the evaluation set without which nothing is estimated
_MOST_COLUMNS = 100  # that the size of an error may depend on, the first ones
_MOST_NAMES = 64  # of a category that are told apart there
_INTERVAL = normal_quantile(0.975)


class Estimator(msgspec.Struct, frozen=True, kw_only=True):
    """What the evaluation set said: of a classifier how often each confidence was right, of a regressor how large errors are.

    `score` calibrates the probability of the second of two classes, `right` that of the class that was answered.
    """

    right: Calibrator | None = None
    score: Calibrator | None = None
    loss: LossModel | None = None
    numbers: tuple[str, ...] = ()
    categories: dict[str, tuple[str, ...]] = {}


class _Estimating(Monitor[Estimator]):
    """Monitors that can say how likely each answer is to be right."""

    knows = Estimator

    def choose(self, past: Past) -> tuple[bool, str]:
        labelled = int(np.count_nonzero(past.evaluation.labelled))
        if labelled < _FEWEST_EVALUATED:
            return False, f"the evaluation set has {labelled} labelled rows; {_FEWEST_EVALUATED} are needed to estimate"
        if past.evaluation.signature.task == "classification" and past.evaluation.probabilities is None:
            return False, "the model gives no probabilities"
        return True, f"estimated from {labelled} labelled rows of the evaluation set"

    def fit(self, past: Past) -> Estimator | None:
        if not self.choose(past)[0]:
            return None
        window = past.evaluation
        rows = np.flatnonzero(window.labelled & window.answered)
        if window.signature.task == "regression":
            numbers = tuple(name for name, kind in past.inputs.items() if kind == "number")[:_MOST_COLUMNS]
            names = [name for name, kind in past.inputs.items() if kind == "category"][: _MOST_COLUMNS - len(numbers)]
            categories = {name: _commonest(past.training.columns[name]) for name in names}
            bare = Estimator(numbers=numbers, categories=categories)
            errors = np.abs(as_numbers(window.said[rows]) - as_numbers(window.truth[rows]))
            taken = window.take(rows)
            return msgspec.structs.replace(bare, loss=LossModel.of(_encoded(bare, taken), errors))
        table = window.probabilities
        assert table is not None  # `choose` saw to it
        classes = window.signature.classes
        right, sure = top_label(window.truth[rows], table[rows], classes)
        score = None
        if len(classes) == 2:
            score = Calibrator.of(np.asarray(as_text(window.truth[rows]) == classes[1], dtype=bool), table[rows, 1])
        return Estimator(right=Calibrator.of(right, sure), score=score)


class EstimatedPerformanceMonitor(_Estimating):
    """The metrics that labels would show, estimated when the window closes and corrected by the labels that are there already.

    It assumes that labels depend on inputs as in the evaluation set; each finding's note says so, and how many rows lie outside.
    """

    name = "estimatedPerformance"
    watches = "the quality that is likely, before labels come"
    changed = "the estimated quality"
    past_tells = False  # a model is surer of the rows that it was trained on

    def measure(self, window: Window, known: Estimator | None, asked: Asked) -> Outcome:
        metric, side = ("accuracy", "low") if window.signature.task == "classification" else ("mae", "high")
        if known is None:
            return could_not(self.name, metric, "nothing was fitted for this version: see `goldenloop describe loop`")
        found = _estimates(known, window)
        if found is None:
            return could_not(self.name, metric, "the answers have no probabilities")
        findings: list[Finding] = []
        for name, value in found.items():
            leading = side if name == metric else ""
            findings.append(self.finding(name, value, asked=asked, leading=leading))  # type: ignore[arg-type]
        if window.labelled.any():
            findings.append(self.finding(f"{metric}_corrected", _corrected(known, window)))
        return Outcome(findings=tuple(findings))


class ConceptDriftMonitor(_Estimating):
    """How much more is lost than the answers' own confidence leads to expect: what is left of a loss when changed inputs are taken away.

    A changed mix of inputs changes the expected loss of each row with it; a changed relation of labels to inputs does not. So a rise here
    beside a rise of the loss says that the relation changed.
    """

    name = "conceptDrift"
    watches = "losses beyond what confidence and inputs lead to expect"
    changed = "how labels depend on inputs"
    needs_labels = True

    def measure(self, window: Window, known: Estimator | None, asked: Asked) -> Outcome:
        if known is None:
            return could_not(self.name, "unexplained_loss", "nothing was fitted for this version")
        rows = np.flatnonzero(window.labelled & window.answered)
        expected = _expected_losses(known, window)
        if expected is None or rows.size < FEWEST_ROWS:
            return could_not(self.name, "unexplained_loss", f"{rows.size} rows have a label and an answer")
        surplus = _realised(window)[rows] - expected[rows]
        surplus = surplus[np.isfinite(surplus)]
        if surplus.size < FEWEST_ROWS:
            return could_not(self.name, "unexplained_loss", f"{surplus.size} rows have a label and a probability")
        mean, half = float(surplus.mean()), _INTERVAL * float(surplus.std()) / math.sqrt(surplus.size)
        value = Measured(value=mean, low=mean - half, high=mean + half, rows=int(surplus.size))
        findings = (
            self.finding("unexplained_loss", value, asked=asked, leading="high"),
            self.finding("expected_loss", float(np.nanmean(expected[rows]))),
        )
        return Outcome(findings=findings)


def _estimates(known: Estimator, window: Window) -> dict[str, Measured] | None:
    if known.loss is not None:
        return known.loss.estimate(_encoded(known, window.take(np.flatnonzero(window.answered))))
    table = window.probabilities
    if table is None or known.right is None:
        return None
    rows = np.flatnonzero(window.answered)
    if known.score is not None:
        selected = np.asarray(window.said[rows] == window.signature.classes[1], dtype=bool)
        return estimate_binary(known.score, table[rows, 1], selected)
    return {"accuracy": estimate_accuracy(known.right, np.nanmax(table[rows], axis=1))}


def _expected_losses(known: Estimator, window: Window) -> NDArray[np.float64] | None:
    """For each row the chance of being wrong, or the size of the error; NaN where nobody answered."""
    expected = np.full(len(window), np.nan)
    rows = np.flatnonzero(window.answered)
    if known.loss is not None:
        expected[rows] = known.loss.losses(_encoded(known, window.take(rows)))
    elif window.probabilities is not None and known.right is not None and rows.size:
        expected[rows] = 1.0 - known.right.apply(np.nanmax(window.probabilities[rows], axis=1))
    else:
        return None
    return expected


def _realised(window: Window) -> NDArray[np.float64]:
    """Zero-one loss, or the absolute error in the label's own unit; NaN where there is no label or no answer."""
    realised = np.full(len(window), np.nan)
    rows = np.flatnonzero(window.labelled & window.answered)
    if window.signature.task == "classification":
        realised[rows] = window.losses[rows]
    else:
        realised[rows] = np.abs(as_numbers(window.said[rows]) - as_numbers(window.truth[rows]))
    return realised


def _corrected(known: Estimator, window: Window) -> Measured:
    """Accuracy, or the mean absolute error, from the labels that are there and the estimates of the other rows."""
    expected, realised = _expected_losses(known, window), _realised(window)
    if expected is None:
        return Measured(value=None, note="the answers have no probabilities")
    if window.signature.task == "classification":
        expected, realised = 1.0 - expected, 1.0 - realised
    has_label = window.labelled & window.answered
    return corrected_mean(realised[has_label], expected[has_label], expected[window.answered & ~window.labelled])


def _encoded(known: Estimator, window: Window) -> NDArray[np.float64]:
    """Numbers as they are, categories by their rank, and the answer."""
    columns: Columns = window.columns
    absent = np.full(len(window), np.nan)
    parts = [np.asarray(columns.get(name, absent), dtype=np.float64) for name in known.numbers]
    for name, names in known.categories.items():
        ranks = {value: float(rank) for rank, value in enumerate(names)}
        values = columns[name].tolist() if name in columns else [""] * len(window)
        parts.append(np.array([ranks.get(str(value), float(len(names))) for value in values], dtype=np.float64))
    parts.append(as_numbers(window.said))
    return np.column_stack(parts)


def _commonest(values: NDArray[np.generic]) -> tuple[str, ...]:
    names, counts = np.unique(values.astype(str), return_counts=True)
    return tuple(names[np.argsort(-counts, kind="stable")][:_MOST_NAMES].tolist())
