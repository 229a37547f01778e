"""Whether inputs and answers are distributed as they were: drift of inputs, drift of answers, skew between training and serving."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from goldenloop.monitors.catalogue.base import FEWEST_ROWS, Asked, Monitor, Window, watched_inputs
from goldenloop.monitors.findings import Outcome, could_not
from goldenloop.monitors.reference import Reference, Watched, answer_columns
from goldenloop.stats.profiles import NumberProfile

LEAST_OVERLAP = 0.5  # of an input's distributions in training and in serving
_CELLS = 16  # so few that 100 rows of the same distribution overlap by about 0.85


class DriftMonitor(Monitor[Watched]):
    """Every input against the reference, one score a window (goldenloop.stats.profiles), judged under the promise."""

    name = "drift"
    watches = "every input against the reference windows"
    changed = "the data"
    knows = Watched
    promised = True
    essential = True

    def known(self, reference: Reference) -> Watched:
        return reference.features

    def measure(self, window: Window, known: Watched | None, asked: Asked) -> Outcome:
        assert known is not None
        score, by_column = known.score_counts(window.counted(known.profile))
        shown = {name: by_column[name] for name in watched_inputs(window.columns, asked) if name in by_column}
        findings = [self.finding("score", value, feature=name) for name, value in shown.items()]
        return Outcome(findings=tuple(findings), score=score)


class PredictionDriftMonitor(Monitor[Watched]):
    """Classes and confidence, or values, of the answers against those to the reference rows."""

    name = "predictionDrift"
    watches = "classes and confidence, or values, of the answers"
    changed = "the answers"
    knows = Watched
    promised = True
    essential = True

    def known(self, reference: Reference) -> Watched:
        return reference.answers

    def measure(self, window: Window, known: Watched | None, asked: Asked) -> Outcome:  # noqa: ARG002
        assert known is not None
        columns, _ = answer_columns(window.signature, window.answers)
        if not any(len(values) >= FEWEST_ROWS for values in columns.values()):
            return could_not(self.name, "statistic", f"fewer than {FEWEST_ROWS} rows were answered")
        score, by_column = known.score(columns)
        findings = [self.finding("score", value, feature=name) for name, value in by_column.items()]
        return Outcome(findings=tuple(findings), score=score)


class SkewMonitor(Monitor[Watched]):
    """How far an input's distribution in serving covers that in training: the sum over cells of the smaller of both shares.

    It looks for inputs that are made otherwise in serving, in another unit or with other names, not for drift: below one half it fails. It
    has no error rate; of 100 rows without any change it is about 0.85, of 20 about 0.7.
    """

    name = "skew"
    watches = "inputs that are made otherwise in serving than in training"
    changed = "inputs are not what training had"
    knows = Watched
    essential = True

    def known(self, reference: Reference) -> Watched:
        return reference.features

    def measure(self, window: Window, known: Watched | None, asked: Asked) -> Outcome:
        assert known is not None
        counts = window.counted(known.profile)
        given = asked.settings.threshold
        least = float(given) if isinstance(given, int | float) else LEAST_OVERLAP
        overlaps: dict[str, float] = {}
        for name in watched_inputs(window.columns, asked):
            if (column := known.profile.columns.get(name)) is not None:
                cells = np.array([column.cells, counts.cells[name]], dtype=np.float64)
                overlaps[name] = _overlap(cells, ordered=isinstance(column, NumberProfile))
        failing = {name: value for name, value in overlaps.items() if value < least}
        findings = [
            self.finding("overlap", value, fails=True, threshold=least, feature=name) for name, value in failing.items()
        ]
        lowest = self.finding(
            "overlap",
            min(overlaps.values(), default=None),
            asked=asked,
            leading="low",
            fails=bool(failing),
            threshold=least,
            note=", ".join(list(failing)[:5]),
        )
        return Outcome(findings=(lowest, *findings))


def _overlap(cells: NDArray[np.float64], *, ordered: bool) -> float:
    """The share that two rows of counts have in common, over at most 16 cells of about equal mass in the first."""
    reference, current = cells
    if not reference.sum() or not current.sum():
        return 1.0
    if ordered:
        level = np.cumsum(reference) - reference / 2.0
        groups = np.minimum((level / reference.sum() * _CELLS).astype(int), _CELLS - 1)
        groups[-1] = _CELLS  # missing values stand apart
    else:
        rank = np.argsort(np.argsort(-reference, kind="stable"), kind="stable")
        groups = np.minimum(rank, _CELLS)
        groups[-2:] = _CELLS + 1, _CELLS + 2  # new names and missing values stand apart
    pooled = np.array([np.bincount(groups, weights=row, minlength=_CELLS + 3) / row.sum() for row in cells])
    return float(pooled.min(axis=0).sum())
