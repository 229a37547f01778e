"""What simpler policies would have reached on the same rows: never retraining, and retraining at every window.

Both use the loop's own model: the first version as it is, and its estimator fitted anew on the loop's data window at each
window's end, with the labels that were known then. Neither is gated, so every retraining takes the traffic at once.
"""

from __future__ import annotations

import os
from pathlib import Path

import joblib
import numpy as np
import pyarrow.parquet as pq
from sklearn.base import clone

from goldenloop.control.work.records import Comparison
from goldenloop.features.schema import event_times, labels_for
from goldenloop.lineage.baselines import Baseline, Baselines
from goldenloop.serving.models import load
from goldenloop.serving.scoring import score_table
from goldenloop.stats.losses import as_text, metrics
from goldenloop.tuning.tabular import frame_for

_FEWEST_ROWS = 40


def compare(request: Comparison) -> Baselines:
    """Score both policies, window by window. Cost: one fit of the estimator a window."""
    os.nice(5)  # the loop itself goes first
    stream, schema = pq.read_table(request.stream), request.schema
    times, frame = event_times(stream, schema), frame_for(stream, schema)
    labels, present = labels_for(stream, schema)
    truth = as_text(labels) if schema.task == "classification" else labels
    live = np.flatnonzero(times >= request.live_from_us)
    first = np.empty(len(stream), dtype=object)
    first[live] = [value for value, _ in score_table(load(Path(request.first_version)), stream.take(live))]
    estimator = joblib.load(request.estimator)
    periodic = first.copy()
    windows = [
        live[(times[live] - request.live_from_us) // request.window_us == index]
        for index in range(int((times[-1] - request.live_from_us) // request.window_us) + 1)
    ]
    fits = 0
    for index, rows in enumerate(windows[1:], start=1):
        now_us = request.live_from_us + index * request.window_us
        known = present & (times < now_us - request.delay_us)
        if request.span_us is not None:
            known &= times >= now_us - request.span_us
        training = np.flatnonzero(known)
        if len(training) < _FEWEST_ROWS or len(np.unique(truth[training])) < 2 or len(rows) == 0:
            continue
        model = clone(estimator)
        model.fit(frame.iloc[training], labels[training])
        periodic[rows] = np.asarray(model.predict(frame.iloc[rows]), dtype=object)
        fits += 1

    def policy(answers: np.ndarray, runs: int) -> Baseline:
        def measured(rows: np.ndarray) -> float | None:
            rows = rows[present[rows]]
            if len(rows) == 0:
                return None
            return metrics(schema.task, truth[rows], answers[rows]).get(request.metric)

        return Baseline(windows=tuple(measured(rows) for rows in windows), runs=runs, overall=measured(live))

    return Baselines(policies={"never": policy(first, 0), "periodic": policy(periodic, fits)})
