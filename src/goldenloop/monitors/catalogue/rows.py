"""Rows as a whole: single rows that are strange, windows whose columns hang together otherwise, answers that noise turns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.monitors.catalogue.base import Asked, Monitor, Past, Window
from goldenloop.monitors.findings import Flag, Outcome, could_not
from goldenloop.payloads.records import Answer
from goldenloop.stats.detection import split_reference
from goldenloop.stats.encoding import Encoding
from goldenloop.stats.losses import Values
from goldenloop.stats.multivariate import Reconstruction
from goldenloop.stats.noise import Noise
from goldenloop.stats.outliers import Method, OutlierModel, Scorer, fit_outliers
from goldenloop.stats.robustness import Stability, stability

FLAGGED_SHARE = 0.01  # of rows like the reference
_SCORERS_KEPT = 8
_TREES = 32


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """A fitted scorer of rows; as text, so that windows decode it once and know it again."""

    method: Method
    model: str


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """Principal components of the encoded inputs, and what reference windows score, oldest first."""

    encoding: Encoding
    components: Reconstruction
    windows: tuple[float, ...]


class Shaken(msgspec.Struct, frozen=True, kw_only=True):
    """What each kind of noise did to the answers of this version."""

    found: tuple[Stability, ...]


class OutliersMonitor(Monitor[Scored]):
    """Rows that are stranger than 99 in 100 rows of the reference (conformal p-values, goldenloop.stats.flagging).

    The density of each column alone is the scorer of tables with many columns and few rows; else an isolation forest, which sees strange
    combinations too. The strangest fifty rows of a window are kept by their prediction.
    """

    name = "outliers"
    watches = "single rows that are unlike the reference's"
    changed = "the share of strange rows"
    knows = Scored

    def choose(self, past: Past) -> tuple[bool, str]:
        rows = len(past.training)
        if rows < 300:  # of which a third is held out: 1 / 0.01 - 1 are needed to flag one row in a hundred
            return False, f"the reference has {rows} rows; 300 are needed to flag one row in a hundred"
        return True, f"rows are scored by {_method(past).replace('_', ' ')}"

    def fit(self, past: Past) -> Scored | None:
        if not self.choose(past)[0]:
            return None
        method = _method(past)
        model = fit_outliers(method, past.training.columns, past.inputs, trees=_TREES)
        return Scored(method=method, model=msgspec.json.encode(model).decode())

    def measure(self, window: Window, known: Scored | None, asked: Asked) -> Outcome:
        if known is None:
            return could_not(self.name, "flagged_share", "nothing was fitted for this version")
        found = _scorer(known.model).judge(window.columns, rate=FLAGGED_SHARE)
        flags = [
            Flag(
                monitor=self.name,
                prediction=window.ids[each.row],
                row=window.places[each.row],
                score=each.score,
                threshold=found.threshold,
                note=f"p = {each.p_value:.4f} ({known.method.replace('_', ' ')})",
            )
            for each in found.flagged
            if window.ids
        ]
        return Outcome(
            findings=(self.finding("flagged_share", found.share, asked=asked, leading="high"),), flags=tuple(flags)
        )


class MultivariateDriftMonitor(Monitor[Rebuilt]):
    """How well principal components of the reference rebuild a window's rows: columns that hang together otherwise are rebuilt worse.

    Its score is the distance of the mean reconstruction error from the reference's, in standard errors, judged under the promise. The
    components come from the first half of the reference windows, as in goldenloop.stats.detection.
    """

    name = "multivariateDrift"
    watches = "how the inputs hang together"
    changed = "how the inputs hang together"
    knows = Rebuilt
    promised = True

    def choose(self, past: Past) -> tuple[bool, str]:
        encoded = len(past.inputs)
        if encoded < 2:
            return False, "one input has nothing to hang together with"
        return True, f"{encoded} inputs may hang together"

    def fit(self, past: Past) -> Rebuilt | None:
        if not self.choose(past)[0]:
            return None
        half = split_reference(len(past.windows)) if past.first else 0
        fitting = past.training.take(np.concatenate(past.windows[:half])) if half else past.training
        encoding = Encoding.of(fitting.columns, past.inputs)
        if len(encoding.columns) < 2:
            return None
        bare = Rebuilt(encoding=encoding, components=Reconstruction.of(encoding.matrix(fitting.columns)), windows=())
        matrix = encoding.matrix(past.training.columns)
        scores = [_surplus(bare, matrix[rows]) for rows in past.windows if rows.size]
        return msgspec.structs.replace(bare, windows=tuple(scores))

    def reference_scores(self, known: Rebuilt) -> tuple[float, ...]:
        return known.windows

    def measure(self, window: Window, known: Rebuilt | None, asked: Asked) -> Outcome:
        if known is None:
            return could_not(self.name, "statistic", "nothing was fitted for this version")
        matrix = known.encoding.matrix(window.columns)
        found = known.components.judge(matrix)
        error = self.finding("reconstruction_error", found, asked=asked)
        return Outcome(findings=(error,), score=_surplus(known, matrix))


class RobustnessMonitor(Monitor[Shaken]):
    """How many answers of this version turn under noise that the data really has, found when the version was made."""

    name = "robustness"
    watches = "answers that turn under small noise, for each version"
    changed = "the stability of the answers"
    knows = Shaken
    past_tells = False
    fewest_rows = 0

    def choose(self, past: Past) -> tuple[bool, str]:
        return bool(len(past.evaluation)), "the model is at hand when a version is made"

    def fit(self, past: Past) -> Shaken:
        def predict(columns: dict[str, Values]) -> NDArray[np.generic]:
            count = len(next(iter(columns.values())))
            return _levels(past.score(columns, count), past.training.signature.classes)

        noise = Noise.of(past.training.columns, past.inputs)
        return Shaken(found=stability(predict, past.evaluation.columns, noise, repeats=1))

    def measure(self, window: Window, known: Shaken | None, asked: Asked) -> Outcome:  # noqa: ARG002
        if known is None:
            return could_not(self.name, "flips", "nothing was measured for this version")
        findings = [self.finding(f"{each.noise}_flips", each.flips) for each in known.found]
        most = max(
            (each.flips for each in known.found if each.flips.value is not None),
            key=lambda flips: flips.value or 0.0,
            default=None,
        )
        note = "no column has any of this noise" if most is None else ""
        return Outcome(
            findings=(self.finding("flips", most, asked=asked, leading="high", fails=False, note=note), *findings)
        )


def _method(past: Past) -> Method:
    return "isolation_forest" if len(past.inputs) <= 64 else "density"


@lru_cache(maxsize=_SCORERS_KEPT)
def _scorer(model: str) -> Scorer:
    return Scorer(msgspec.json.decode(model, type=OutlierModel))


def _surplus(known: Rebuilt, matrix: NDArray[np.float64]) -> float:
    """The distance of the rows' mean reconstruction error from the reference's, in standard errors."""
    errors = known.components.errors(matrix)
    deviation = known.components.deviation or 1.0
    return abs(float(errors.mean()) - known.components.error) / (deviation / math.sqrt(errors.size))


def _levels(answers: Sequence[Answer], classes: tuple[str, ...]) -> NDArray[np.generic]:
    """Probabilities where there are any, else the answers."""
    if classes and all(len(shares) == len(classes) for _, shares in answers):
        return np.array([shares for _, shares in answers], dtype=np.float64)
    values = [value for value, _ in answers]
    if all(isinstance(value, int | float) for value in values):
        return np.array(values, dtype=np.float64)
    names = np.empty(len(values), dtype=object)
    names[:] = [str(value) for value in values]
    return names
