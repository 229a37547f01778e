"""What a freshly trained model loses on the window after its training rows, learned from the past by rolling the origin.

The loss of a served model can only be called high against what is usual for a fresh one. The windows before the loop began are replayed:
before each of them a plain model is trained on what the loop would have trained on, and its loss on that window is noted. A plain model
stands in for the pipeline's own, which may be costly; only the scatter and, in part, the level of its losses are used.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from goldenloop.features.schema import Schema, event_times, labels_for
from goldenloop.monitors.reference import Windows
from goldenloop.stats.detection import PROMISE_WINDOWS
from goldenloop.stats.losses import losses
from goldenloop.tuning.tabular import Recipe, build, fit, frame_for

_PLAIN = Recipe(family="boosting", iterations=40, leaves=8)
_FEWEST_WINDOWS = 2  # before the first origin
_MOST_ORIGINS = 60  # the latest ones; each costs one training
_MOST_ROWS = 20_000  # of one training, the latest ones


def rolling_losses(
    past: pa.Table, schema: Schema, windows: Windows, *, span_us: int | None, scale: float
) -> NDArray[np.float64]:
    """Return the mean loss on each window that has enough past, oldest first. `span_us` is the loop's data window, None for all.

    Windows whose training rows hold one class only, or no label, are left out. Cost: one small training a window.
    """
    labels, present = labels_for(past, schema)
    frame, times = frame_for(past, schema), event_times(past, schema)
    found = []
    # Origins before which the whole data window lies are like the loop's own runs; shorter ones are taken only where those are too few.
    whole = [rows for rows in windows if span_us is not None and times[rows[0]] - span_us >= times[0]]
    origins = whole if len(whole) >= PROMISE_WINDOWS else windows[_FEWEST_WINDOWS:]
    for rows in origins[-_MOST_ORIGINS:]:
        begin = times[rows[0]]
        known = present & (times < begin)
        if span_us is not None:
            known &= times >= begin - span_us
        training = np.flatnonzero(known)[-_MOST_ROWS:]
        judged = rows[present[rows]]
        if len(judged) == 0 or len(np.unique(labels[training])) < 2:
            continue
        model = fit(build(_PLAIN, schema), frame.iloc[training], labels[training])
        answers = np.asarray(model.predict(frame.iloc[judged]), dtype=object)
        found.append(float(losses(schema.task, labels[judged], answers, scale=scale).mean()))
    return np.array(found)
