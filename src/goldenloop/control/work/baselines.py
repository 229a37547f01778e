"""What other policies would have reached on the same rows: never retraining, every window or every k-th, and one that was named.

All use the loop's own model: the first version as it is, and its estimator fitted anew on the loop's data window at a window's
beginning, with the labels that were known then. None is gated, so every retraining takes the traffic at once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import joblib
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.base import clone

from goldenloop.control.costing import priced
from goldenloop.control.work.records import Comparison
from goldenloop.control.work.references import read_reference
from goldenloop.features.schema import event_times, labels_for
from goldenloop.lineage.baselines import Baseline, Baselines
from goldenloop.serving.scoring import score_table
from goldenloop.serving.unconverted import load_version
from goldenloop.stats.losses import as_text, losses, metrics
from goldenloop.triggers.costs import Costs
from goldenloop.triggers.policies import Periodic, Policy, Windows, policy_named, simulate
from goldenloop.tuning.tabular import frame_for

if TYPE_CHECKING:
    import pandas

_FEWEST_ROWS = 40


class Predictor(Protocol):
    """What is asked of a fitted estimator."""

    def predict(self, rows: pandas.DataFrame, /) -> np.ndarray: ...


class _Past:
    """The stream, cut into windows, with the models that were trained at their beginnings. A model is fitted once, whoever asks for it."""

    def __init__(self, request: Comparison) -> None:
        stream, schema = pq.read_table(request.stream), request.schema
        self._request = request
        self._times, self._frame = event_times(stream, schema), frame_for(stream, schema)
        self._labels, self._present = labels_for(stream, schema)
        self._truth = as_text(self._labels) if schema.task == "classification" else self._labels
        starts = np.array(request.starts_us, dtype=np.int64)
        self._starts = starts
        self.live = np.flatnonzero(self._times >= starts[0])
        self._first = np.empty(len(stream), dtype=object)
        scored = score_table(load_version(Path(request.first_version)), stream.take(self.live))
        self._first[self.live] = [value for value, _ in scored]
        self._estimator = joblib.load(request.estimator)
        places = np.searchsorted(starts, self._times[self.live], side="right") - 1
        self.windows = [self.live[places == index] for index in range(len(starts) - 1)]
        known = request.known_us
        self._known_us = self._times + request.delay_us if known is None else np.array(known, dtype=np.int64)
        # When all the labels of a window are there that will ever come.
        self._complete_us = np.array([self._known_us[rows].max() if len(rows) else 0 for rows in self.windows])
        self._models: dict[int, Predictor | None] = {}
        self.reference = read_reference(Path(request.first_version))

    def train(self, window: int) -> bool:
        """Fit a model on what is known at the beginning of a window; whether that was enough."""
        if window not in self._models:
            now_us = int(self._starts[window])
            known = self._present & (self._known_us < now_us)
            if self._request.span_us is not None:
                known &= self._times >= now_us - self._request.span_us
            rows = np.flatnonzero(known)
            enough = len(rows) >= _FEWEST_ROWS and len(np.unique(self._truth[rows])) > 1
            self._models[window] = (
                clone(self._estimator).fit(self._frame.iloc[rows], self._labels[rows]) if enough else None
            )
        return self._models[window] is not None

    def answers(self, version: int, window: int) -> np.ndarray:
        """What a version says to the rows of a window; version 0 is the first."""
        rows, model = self.windows[window], self._models.get(version)
        if version == 0 or model is None or len(rows) == 0:
            return np.asarray(self._first[rows])
        return np.asarray(model.predict(self._frame.iloc[rows]), dtype=object)

    def losses(self, version: int, window: int) -> NDArray[np.float64]:
        """The losses of a version on the labelled rows of a window."""
        there = self._present[self.windows[window]]
        truth = self._truth[self.windows[window]][there]
        said = self.answers(version, window)[there]
        return losses(self._request.schema.task, truth, said, scale=self.reference.loss_scale)

    def due(self, window: int) -> int:
        """How many windows have all the labels that they will have at the beginning of this one."""
        late = np.flatnonzero(self._complete_us[:window] >= self._starts[window])
        return int(late[0]) if len(late) else window

    def reached(self, policy: Policy) -> Baseline:
        """What a policy leads to."""
        windows = Windows(count=len(self.windows), losses=self.losses, train=self.train, due=self.due)
        answering = simulate(policy, windows)
        said = np.empty(len(self._times), dtype=object)
        for window, version in enumerate(answering):
            said[self.windows[window]] = self.answers(version, window)

        def measured(rows: np.ndarray) -> float | None:
            rows = rows[self._present[rows]]
            if len(rows) == 0:
                return None
            return metrics(self._request.schema.task, self._truth[rows], said[rows]).get(self._request.metric)

        return Baseline(
            windows=tuple(measured(rows) for rows in self.windows),
            runs=len(set(answering)) - 1,
            overall=measured(self.live),
            trained=tuple(sorted(set(answering) - {0})),
        )


def compare(request: Comparison) -> Baselines:
    """Score the policies, window by window. Cost: one fit of the estimator for each retraining."""
    os.nice(5)  # the loop itself goes first
    past = _Past(request)
    policies = {"never": past.reached(Periodic(0)), "periodic": past.reached(Periodic(request.every))}
    if request.policy:
        policies["chosen"] = past.reached(_chosen(request, past))
    return Baselines(policies=policies)


def _chosen(request: Comparison, past: _Past) -> Policy:
    reference, retrain = past.reference, request.retrain
    window_us = max(1, (request.starts_us[-1] - request.starts_us[0]) // max(1, len(past.windows)))
    rows = len(past.live) / max(1, len(past.windows))

    def price(usual: float) -> float:
        return priced(
            retrain, usual=usual, window_us=window_us, rows=rows, scale=reference.loss_scale, duration_us=0
        ).amount

    known = Costs.of(
        [reference.usual_loss + difference for difference in reference.loss_windows],
        expected=reference.expected_loss,
        windows_per_false_alarm=float(retrain.false_alarm_windows),
    )
    return policy_named(request.policy, known=known, price=price)
