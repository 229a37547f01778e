"""Do probabilities mean what they say: of the rows answered with 0.8, are 80 % right?

Two classes: the score is the probability of the positive class. More classes: `top_label` turns the question into
"how sure was it of the class it chose, and was that class right", which is what a user of the answer relies on; it does
not see errors among the other classes.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.stats.intervals import Interval, wilson_interval
from goldenloop.stats.losses import Values, as_text
from goldenloop.stats.measured import Measured, as_matrix, counted, joined, unmeasured
from goldenloop.stats.special import normal_quantile, normal_tail

_ROOT_TWO_OVER_PI = math.sqrt(2.0 / math.pi)


class ReliabilityPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One bin of a reliability diagram: the mean score, and the observed rate with Wilson's interval."""

    rows: int
    predicted: float
    observed: Interval


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """How far scores are from observed rates.

    `error`: the expected calibration error over bins of equal mass, debiased, with an interval. `raw_error`: the same
    without debiasing, as other tools report it. `squared_error`: the root of the debiased mean squared error over bins.
    `brier` = `reliability` - `resolution` + `uncertainty` + `within_bins`. `test`: Spiegelhalter's z with its two-sided
    p-value.
    """

    rows: int
    error: Measured
    test: Measured
    raw_error: float | None = None
    squared_error: float | None = None
    brier: float | None = None
    reliability: float | None = None
    resolution: float | None = None
    uncertainty: float | None = None
    within_bins: float | None = None
    points: tuple[ReliabilityPoint, ...] = ()


def calibration(
    positive: NDArray[np.bool_], scores: NDArray[np.float64], *, bins: int = 10, confidence: float = 0.95
) -> Calibration:
    """Return how well the scores are calibrated; rows whose score is not a number in [0, 1] are left out and noted.

    Expected calibration error: the sum over bins of share * |mean score - observed rate|. With few rows it is above 0
    for a perfect model; debiasing (Kumar, Liang & Ma, "Verified uncertainty calibration", NeurIPS 2019) takes away what
    resampling each bin's rate would add, in closed form, about half of the bias where the model is perfect. So it
    misleads as a test: use `test`. Bins cover equal numbers of rows, equal scores stay together. Interval: normal, with
    the deviation that the bins' rates would have if all erred on one side, which bounds it from above.

    Brier's decomposition: Murphy (1973) with the within-bin term of Stephenson, Coelho & Jolliffe (2008), so that it
    adds up exactly. Spiegelhalter (1986): z is standard normal where the scores are the true probabilities and rows are
    independent; it has little power against errors that are balanced around one half. Cost: O(rows log rows). Raises
    ValueError for unequal lengths or no bins.

    >>> generator = np.random.default_rng(0)
    >>> scores = generator.random(2_000)
    >>> good = calibration(generator.random(2_000) < scores, scores)
    >>> bad = calibration(generator.random(2_000) < 0.25 + 0.5 * scores, scores)
    >>> good.error.value < 0.03, bad.error.value > 0.1, good.test.p_value > 0.01, bad.test.p_value < 1e-9
    (True, True, True, True)
    """
    outcomes, chances = np.asarray(positive, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if outcomes.shape != chances.shape or outcomes.ndim != 1:
        raise ValueError(f"outcomes and scores differ in shape: {outcomes.shape} and {chances.shape}")
    if bins < 1:
        raise ValueError(f"a reliability diagram has at least one bin, not {bins}")
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(outcomes) & (chances >= 0.0) & (chances <= 1.0)
    left_out = int(np.count_nonzero(~usable))
    note = f"{counted(left_out, 'row')} without a probability left out" if left_out else ""
    outcomes, chances = outcomes[usable], chances[usable]
    if outcomes.size == 0:
        nothing = unmeasured(joined("no rows with a probability and a label", note))
        return Calibration(rows=0, error=nothing, test=nothing)
    order = np.argsort(chances, kind="stable")
    outcomes, chances = outcomes[order], chances[order]
    starts = _bin_starts(chances, bins)
    numbers = np.diff(np.append(starts, chances.size)).astype(np.float64)
    predicted = np.add.reduceat(chances, starts) / numbers
    hits = np.add.reduceat(outcomes, starts)
    observed = hits / numbers
    weights = numbers / chances.size
    base = float(outcomes.mean())
    brier = float(np.mean((chances - outcomes) ** 2))
    reliability = float(weights @ (predicted - observed) ** 2)
    resolution = float(weights @ (observed - base) ** 2)
    return Calibration(
        rows=chances.size,
        error=_expected_error(predicted, observed, numbers, confidence=confidence, note=note),
        raw_error=float(weights @ np.abs(predicted - observed)),
        squared_error=_squared_error(predicted, observed, numbers),
        brier=brier,
        reliability=reliability,
        resolution=resolution,
        uncertainty=base * (1.0 - base),
        within_bins=brier - reliability + resolution - base * (1.0 - base),
        test=spiegelhalter(outcomes, chances),
        points=tuple(
            ReliabilityPoint(rows=int(number), predicted=float(mean), observed=wilson_interval(round(hit), int(number)))
            for number, mean, hit in zip(numbers.tolist(), predicted.tolist(), hits.tolist(), strict=True)
        ),
    )


def spiegelhalter(outcomes: NDArray[np.float64], scores: NDArray[np.float64]) -> Measured:
    """Return Spiegelhalter's z: sum (y - p)(1 - 2p) / root of sum (1 - 2p)^2 p (1 - p), with its two-sided p-value.

    Source: Statistics in Medicine 5 (1986). Positive: the Brier score is worse than the scores promise. None where
    every score is 0, 1/2 or 1, which says nothing to this test; a certain score that was wrong is then in the note.
    """
    lever = 1.0 - 2.0 * scores
    variance = float((lever**2 * scores * (1.0 - scores)).sum())
    if variance <= 1e-12:
        wrong = int(np.count_nonzero(((scores == 0.0) & (outcomes == 1.0)) | ((scores == 1.0) & (outcomes == 0.0))))
        told = f"; {counted(wrong, 'row')} answered with certainty and wrongly" if wrong else ""
        return unmeasured(f"scores of only 0, 1/2 and 1 cannot be tested{told}", rows=scores.size)
    z = float(((outcomes - scores) * lever).sum()) / math.sqrt(variance)
    return Measured(value=z, p_value=min(1.0, 2.0 * normal_tail(abs(z))), rows=scores.size)


def top_label(
    labels: Values, probabilities: NDArray[np.float64], classes: tuple[str, ...]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return, for each row, whether the most probable class was the label, and that class's probability.

    Rows without any finite probability get NaN. Raises ValueError for shapes that contradict each other.

    >>> right, sure = top_label(np.array(["a", "b"]), np.array([[0.9, 0.1], [0.6, 0.4]]), ("a", "b"))
    >>> right.tolist(), sure.tolist()
    ([True, False], [0.9, 0.6])
    """
    matrix = as_matrix(probabilities, what="probabilities")
    truth = as_text(labels)
    if matrix.shape != (truth.size, len(classes)):
        raise ValueError(f"{truth.size} labels and {len(classes)} classes do not go with probabilities {matrix.shape}")
    if matrix.size == 0:
        return np.zeros(truth.size, dtype=bool), np.full(truth.size, math.nan)
    filled = np.where(np.isfinite(matrix), matrix, -1.0)
    chosen = filled.argmax(axis=1)
    sure = filled[np.arange(truth.size), chosen]
    names = np.array(classes, dtype=object)
    right: NDArray[np.bool_] = (names[chosen] == truth).astype(bool)
    return right, np.where(sure < 0.0, math.nan, sure)


def _bin_starts(ordered: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """Where each bin of about equal mass begins; rows with equal scores are never parted."""
    cuts = (np.arange(min(bins, ordered.size)) * ordered.size) // min(bins, ordered.size)
    return np.unique(np.searchsorted(ordered, ordered[cuts], side="left"))


def _expected_error(
    predicted: NDArray[np.float64],
    observed: NDArray[np.float64],
    numbers: NDArray[np.float64],
    *,
    confidence: float,
    note: str,
) -> Measured:
    weights = numbers / numbers.sum()
    gaps = np.abs(predicted - observed)
    plain = float(weights @ gaps)
    debiased = min(max(2.0 * plain - float(weights @ _folded_mean(gaps, observed, numbers)), 0.0), 1.0)
    smoothed = (observed * numbers + 0.5) / (numbers + 1.0)  # a bin of only hits still has noise
    half = normal_quantile(0.5 + confidence / 2.0) * math.sqrt(
        float((weights**2 * smoothed * (1.0 - smoothed) / numbers).sum())
    )
    return Measured(
        value=debiased,
        low=max(debiased - half, 0.0),
        high=min(debiased + half, 1.0),
        rows=int(numbers.sum()),
        note=joined(note, "fewer than 10 rows a bin" if float(numbers.min()) < 10.0 else ""),
    )


def _folded_mean(
    gaps: NDArray[np.float64], observed: NDArray[np.float64], numbers: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The mean of |gap + noise| with the sampling noise of each bin's observed rate (a folded normal)."""
    deviation = np.sqrt(observed * (1.0 - observed) / numbers)
    means = gaps.copy()
    noisy = deviation > 0.0
    for place in np.flatnonzero(noisy).tolist():
        gap, scale = float(gaps[place]), float(deviation[place])
        means[place] = scale * _ROOT_TWO_OVER_PI * math.exp(-0.5 * (gap / scale) ** 2) + gap * (
            1.0 - 2.0 * normal_tail(gap / scale)
        )
    return means


def _squared_error(
    predicted: NDArray[np.float64], observed: NDArray[np.float64], numbers: NDArray[np.float64]
) -> float | None:
    """The root of the debiased mean squared gap; None where a bin has a single row."""
    if bool((numbers < 2.0).any()):
        return None
    terms = (predicted - observed) ** 2 - observed * (1.0 - observed) / (numbers - 1.0)
    return math.sqrt(max(float((numbers / numbers.sum()) @ terms), 0.0))
