"""Intervals: how sure a rate or a mean is. All are two-sided; all are for one look at data that is all there.

Whoever looks again and again needs `betting` instead.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.stats.special import normal_quantile, normal_tail

_CELLS = 4_000_000  # random numbers drawn at once; bounds the memory of a bootstrap


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate with the interval around it."""

    estimate: float
    low: float
    high: float
    confidence: float


def wilson_interval(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval for a rate (JASA 22, 1927).

    Coverage is near `confidence` on average also for rates near 0 and 1, and falls to about 0.90 at 0.95 for the
    least lucky rates. Trials must be independent. Cost: O(1). Raises ValueError for no trials or impossible counts.

    >>> interval = wilson_interval(8, 10)
    >>> round(interval.low, 3), round(interval.high, 3)
    (0.49, 0.943)
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials have no rate")
    z = normal_quantile(0.5 + _checked(confidence) / 2.0)
    rate = successes / trials
    centre = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Interval(estimate=rate, low=min(low, rate), high=max(high, rate), confidence=confidence)


def mean_interval(
    values: NDArray[np.float64], *, confidence: float = 0.95, block: int = 1, replicates: int = 2_000, seed: int = 0
) -> Interval:
    """Return a bootstrap interval for the mean: BCa for independent rows, circular blocks for rows that follow each
    other.

    `block` 1: bias-corrected and accelerated (Efron, JASA 82, 1987). Coverage is within a point of `confidence` from
    about 100 rows, and below it for fewer or for very skewed values; a constant sample has an interval of no width,
    which says nothing about how rare a different value is. `block` > 1: studentised by blocks and resampled in
    circular blocks (Politis & Romano 1992), right where dependence fades within a block; `block_length` proposes one.
    For a paired comparison give the differences. The same seed gives the same interval. Cost: O(replicates * rows /
    block). Raises ValueError for no values, NaN, or a block below 1.

    >>> interval = mean_interval(np.arange(100.0) % 10)
    >>> interval.estimate, round(interval.low, 1), round(interval.high, 1)
    (4.5, 4.0, 5.0)
    """
    array = _checked_values(values)
    if block < 1:
        raise ValueError(f"a block has at least one row, not {block}")
    _checked(confidence)
    mean = float(array.mean())
    if array.size == 1 or float(np.ptp(array)) == 0.0:
        return Interval(estimate=mean, low=mean, high=mean, confidence=confidence)
    generator = np.random.default_rng(seed)
    tails = np.array([(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    if block == 1:
        means = np.sort(_resampled_means(array, count=array.size, replicates=replicates, generator=generator))
        low, high = np.quantile(means, _bca_levels(array, means, tails))
        return Interval(estimate=mean, low=min(float(low), mean), high=max(float(high), mean), confidence=confidence)
    block = min(block, max(1, array.size // 2))
    sums = np.concatenate([[0.0], np.cumsum(np.concatenate([array, array[: block - 1]]))])
    blocks = (sums[block:] - sums[:-block]) / block
    needed = math.ceil(array.size / block)
    picks = _resampled_blocks(blocks, count=needed, replicates=replicates, generator=generator)
    error = math.sqrt(float(blocks.var()) / needed)
    if error == 0.0:
        return Interval(estimate=mean, low=mean, high=mean, confidence=confidence)
    errors = np.sqrt(picks.var(axis=1) / needed)
    steady = errors > 0.0  # a replicate without spread has no studentised mean
    studentised = (picks.mean(axis=1) - float(blocks.mean()))[steady] / errors[steady]
    upper, lower = np.quantile(studentised, tails) if studentised.size else (0.0, 0.0)
    # Of a handful of rows the studentised tails may lie on one side; the interval still holds its estimate.
    low, high = mean - max(float(lower), 0.0) * error, mean - min(float(upper), 0.0) * error
    return Interval(estimate=mean, low=low, high=high, confidence=confidence)


def block_length(rows: int) -> int:
    """Return rows^(1/3), rounded up: the order at which a block bootstrap of a mean errs least (Hall, Horowitz & Jing
    1995).

    >>> block_length(1000), block_length(1)
    (10, 1)
    """
    return max(1, math.ceil(math.cbrt(rows) - 1e-9))


def mean_excess_p(values: NDArray[np.float64], bound: float = 0.0) -> float:
    """Return the one-sided p-value of "the mean is at most `bound`": normal tail of the studentised mean.

    Near its level from about 30 rows, too small for fewer or for very skewed values; rows must be independent.
    Constant values above the bound give 0.5^rows (their sign test), not 0. Cost: O(rows). Raises ValueError for no
    values or NaN.

    >>> mean_excess_p(np.array([0.0, 0.0])), mean_excess_p(np.array([1.0, 1.0]))
    (1.0, 0.25)
    """
    array = _checked_values(values)
    excess = float(array.mean()) - bound
    if float(np.ptp(array)) == 0.0:
        return math.pow(0.5, array.size) if excess > 0.0 else 1.0
    return normal_tail(excess / math.sqrt(float(array.var(ddof=1)) / array.size))


def holm(p_values: dict[str, float]) -> dict[str, float]:
    """Return p-values adjusted for their number (Holm 1979): comparing each with alpha errs anywhere with probability
    at most alpha.

    Valid under any dependence. Cost: O(n log n).

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    adjusted: dict[str, float] = {}
    largest = 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: (item[1], item[0]))):
        largest = max(largest, min(1.0, p * (len(p_values) - rank)))
        adjusted[name] = largest
    return adjusted


def _resampled_means(
    array: NDArray[np.float64], *, count: int, replicates: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Means of samples with replacement. Where few values are distinct, as among 0/1 losses, multinomial counts do
    the same faster.
    """
    distinct, numbers = np.unique(array, return_counts=True)
    if distinct.size <= 64:
        drawn = generator.multinomial(count, numbers / array.size, size=replicates)
        return (drawn @ distinct) / count
    step = max(1, _CELLS // count)
    pieces = [
        array[generator.integers(array.size, size=(min(step, replicates - start), count))].mean(axis=1)
        for start in range(0, replicates, step)
    ]
    return np.concatenate(pieces)


def _resampled_blocks(
    blocks: NDArray[np.float64], *, count: int, replicates: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    replicates = max(100, min(replicates, 4 * _CELLS // count))
    return blocks[generator.integers(blocks.size, size=(replicates, count))]


def _bca_levels(
    array: NDArray[np.float64], means: NDArray[np.float64], tails: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The quantile levels of the replicates that correct for bias and skew."""
    mean = float(array.mean())
    below = (np.count_nonzero(means < mean) + 0.5 * np.count_nonzero(means == mean)) / means.size
    shift = normal_quantile(min(max(float(below), 1.0 / means.size), 1.0 - 1.0 / means.size))
    centred = array - mean
    # The jackknife's acceleration of a mean has this closed form.
    acceleration = float((centred**3).sum()) / (6.0 * float((centred**2).sum()) ** 1.5)
    levels = []
    for tail in tails.tolist():
        z = shift + normal_quantile(tail)
        levels.append(1.0 - normal_tail(shift + z / (1.0 - acceleration * z)))
    return np.array(levels)


def _checked(confidence: float) -> float:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"a confidence lies between 0 and 1, not {confidence}")
    return confidence


def _checked_values(values: NDArray[np.float64]) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError("an interval needs at least one value")
    if not bool(np.isfinite(array).all()):
        raise ValueError("values must be finite numbers")
    return array
