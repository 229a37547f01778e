"""What simpler policies would have reached on the same rows: never retraining, and retraining at every window, or every k-th.

Both use the loop's own model: the first version as it is, and its estimator fitted anew on the loop's data window at each
window's end, with the labels that were known then. Neither is gated, so every retraining takes the traffic at once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import joblib
import numpy as np
import pyarrow.parquet as pq
from sklearn.base import clone

from goldenloop.control.work.records import Comparison
from goldenloop.features.schema import event_times, labels_for
from goldenloop.lineage.baselines import Baseline, Baselines
from goldenloop.serving.scoring import score_table
from goldenloop.serving.unconverted import load_version
from goldenloop.stats.losses import as_text, metrics
from goldenloop.tuning.tabular import frame_for

if TYPE_CHECKING:
    import pandas

_FEWEST_ROWS = 40


class Predictor(Protocol):
    """What is asked of a fitted estimator."""

    def predict(self, rows: pandas.DataFrame, /) -> np.ndarray: ...


def compare(request: Comparison) -> Baselines:
    """Score both policies, window by window. Cost: one fit of the estimator a window."""
    os.nice(5)  # the loop itself goes first
    stream, schema = pq.read_table(request.stream), request.schema
    times, frame = event_times(stream, schema), frame_for(stream, schema)
    labels, present = labels_for(stream, schema)
    truth = as_text(labels) if schema.task == "classification" else labels
    starts = np.array(request.starts_us, dtype=np.int64)
    live = np.flatnonzero(times >= starts[0])
    first = np.empty(len(stream), dtype=object)
    first[live] = [value for value, _ in score_table(load_version(Path(request.first_version)), stream.take(live))]
    estimator = joblib.load(request.estimator)
    periodic = first.copy()
    places = np.searchsorted(starts, times[live], side="right") - 1
    windows = [live[places == index] for index in range(len(starts) - 1)]
    known_us = times + request.delay_us if request.known_us is None else np.array(request.known_us, dtype=np.int64)
    fits = 0
    current: Predictor | None = None  # the model that answers; None: the first version
    for index, rows in enumerate(windows):
        if index == 0 or index % request.every:
            _answer(current, rows, frame, periodic)
            continue
        now_us = int(starts[index])
        known = present & (known_us < now_us)
        if request.span_us is not None:
            known &= times >= now_us - request.span_us
        training = np.flatnonzero(known)
        if len(training) >= _FEWEST_ROWS and len(np.unique(truth[training])) > 1:
            current = clone(estimator).fit(frame.iloc[training], labels[training])
            fits += 1
        _answer(current, rows, frame, periodic)

    def policy(answers: np.ndarray, runs: int) -> Baseline:
        def measured(rows: np.ndarray) -> float | None:
            rows = rows[present[rows]]
            if len(rows) == 0:
                return None
            return metrics(schema.task, truth[rows], answers[rows]).get(request.metric)

        return Baseline(windows=tuple(measured(rows) for rows in windows), runs=runs, overall=measured(live))

    return Baselines(policies={"never": policy(first, 0), "periodic": policy(periodic, fits)})


def _answer(model: Predictor | None, rows: np.ndarray, frame: pandas.DataFrame, answers: np.ndarray) -> None:
    """Let a model answer these rows; where there is none yet, the first version's answers stay."""
    if model is not None and len(rows):
        answers[rows] = np.asarray(model.predict(frame.iloc[rows]), dtype=object)
