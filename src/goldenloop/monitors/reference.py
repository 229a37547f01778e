"""What a version's windows are compared with: made once, when the version is registered, and kept beside it.

The first version's reference is split: the profile and the scales come from its first half, and the second half only ranks
(goldenloop.stats.detection says why). A later version brings a profile of its own training rows and inherits the scales; where its
windows lie is learned by scoring each of its training windows against the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.core.json import JsonObject
from goldenloop.core.signatures import Signature, Task
from goldenloop.monitors.findings import Chosen
from goldenloop.payloads.records import Answer, Value
from goldenloop.stats.detection import split_reference
from goldenloop.stats.losses import losses
from goldenloop.stats.profiles import (
    CategoryProfile,
    ColumnScales,
    Counts,
    NumberProfile,
    Profile,
    count,
    drift_scores,
    window_score,
)

Columns: TypeAlias = dict[str, NDArray[np.generic]]
Kinds: TypeAlias = dict[str, Literal["number", "category"]]
_USUAL_COUNTS = 2.0
Windows: TypeAlias = list[NDArray[np.int64]]  # the row numbers of each window, oldest first


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """Some columns, what they look like, and the scores of reference windows, oldest first."""

    profile: Profile
    scales: ColumnScales
    windows: tuple[float, ...]

    def score(self, columns: Columns) -> tuple[float, dict[str, float]]:
        """A window's score, and each column's, standardised so that they compare."""
        return self.score_counts(count(self.profile, columns))

    def score_counts(self, counts: Counts) -> tuple[float, dict[str, float]]:
        """The same, of rows that were counted already."""
        return _scored(self.profile, self.scales, counts)


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """What is usual for a version's inputs, answers and losses.

    `loss_scale` turns an absolute error into a loss (regression; 1 for classification). `loss_windows` are the losses of freshly
    trained models on the window after their training rows, less `usual_loss`, their mean; a later version has none of its own.
    `fitted` is what each monitor knows of the reference rows, `scores` what detectors and learned thresholds begin with (by monitor, or
    by monitor and metric as in `volume/rows`), `chosen` what `auto` makes of these data; see goldenloop.monitors.catalogue.
    """

    task: Task
    features: Watched
    answers: Watched
    loss_scale: float
    usual_loss: float
    expected_loss: float
    loss_windows: tuple[float, ...]
    fitted: dict[str, JsonObject] = {}
    scores: dict[str, tuple[float, ...]] = {}
    chosen: tuple[Chosen, ...] = ()


def expected_loss(evaluated: float, usual: float, *, windows: float) -> float:
    """What a version is expected to lose: its evaluation, drawn towards what is usual.

    An evaluation set is short, and the version was chosen for doing well on it; `usual` counts like two windows beside its `windows`
    (Efron & Morris 1977 on why shrinking wins).

    >>> round(expected_loss(0.1, 0.2, windows=2.0), 3)
    0.15
    """
    return (windows * evaluated + _USUAL_COUNTS * usual) / (windows + _USUAL_COUNTS)


def split_watch(columns: Columns, kinds: Kinds, windows: Windows) -> Watched:
    """The first version's reference."""
    half = split_reference(len(windows))
    fitting = np.concatenate(windows[:half]) if half else np.arange(_length(columns))
    profile = Profile.of({name: values[fitting] for name, values in columns.items()}, kinds)
    counts = [count(profile, _taken(columns, rows)) for rows in windows]
    scales = ColumnScales.fit([drift_scores(profile, each) for each in counts[:half]])
    return Watched(profile=profile, scales=scales, windows=tuple(_scored(profile, scales, each)[0] for each in counts))


def inherited_watch(columns: Columns, kinds: Kinds, windows: Windows, scales: ColumnScales) -> Watched:
    """A later version's reference: its own profile, the first version's scales."""
    profile = Profile.of(columns, kinds)
    scores = []
    for rows in windows if len(windows) > 1 else []:
        counts = count(profile, _taken(columns, rows))
        scores.append(_scored(_without(profile, counts), scales, counts)[0])
    return Watched(profile=profile, scales=scales, windows=tuple(scores))


def answer_columns(signature: Signature, answers: Sequence[Answer | None]) -> tuple[Columns, Kinds]:
    """Answers as columns that can be profiled, and their kinds: the class and the confidence, or the value."""
    given = [answer for answer in answers if answer is not None]
    if signature.task == "regression":
        return {"value": np.array([float(value) for value, _ in given], dtype=np.float64)}, {"value": "number"}
    columns: Columns = {"class": np.array([str(value) for value, _ in given], dtype=object)}
    kinds: Kinds = {"class": "category"}
    if signature.classes:
        confidences = [max(shares) if shares else np.nan for _, shares in given]
        columns["confidence"] = np.array(confidences, dtype=np.float64)
        kinds["confidence"] = "number"
    return columns, kinds


def losses_of(
    task: Task, answers: Sequence[Answer | None], labels: Sequence[Value], scale: float
) -> NDArray[np.float64]:
    """The loss of each answer, in [0, 1]; a version that did not answer loses 1. NaN where there is no label."""
    known = [place for place, label in enumerate(labels) if label is not None and label == label]
    result = np.full(len(labels), np.nan)
    if known:
        truth = np.array([labels[place] for place in known], dtype=object)
        said = np.empty(len(known), dtype=object)
        said[:] = [None if (answer := answers[place]) is None else answer[0] for place in known]
        result[known] = losses(task, truth, said, scale=scale)
    return result


def _scored(profile: Profile, scales: ColumnScales, counts: Counts) -> tuple[float, dict[str, float]]:
    scores = drift_scores(profile, counts)
    standardised = {
        name: (score - scales.location.get(name, 0.0)) / scales.scale.get(name, 1.0) for name, score in scores.items()
    }
    return window_score(scores, scales), standardised


def _without(profile: Profile, counts: Counts) -> Profile:
    """The profile of the rows that were not counted."""
    columns: dict[str, NumberProfile | CategoryProfile] = {}
    for name, column in profile.columns.items():
        left = tuple(whole - part for whole, part in zip(column.cells, counts.cells[name], strict=True))
        columns[name] = msgspec.structs.replace(column, cells=left)
    return Profile(rows=profile.rows - counts.rows, columns=columns)


def _taken(columns: Columns, rows: NDArray[np.int64]) -> Columns:
    return {name: values[rows] for name, values in columns.items()}


def _length(columns: Columns) -> int:
    return len(next(iter(columns.values())))
