"""Two proportions compared, and how strange a count is after a reference with an uncertain rate."""

from __future__ import annotations

import math

import numpy as np

from goldenloop.stats.intervals import Interval, wilson_interval
from goldenloop.stats.special import normal_quantile


def difference_interval(
    first: int, first_trials: int, second: int, second_trials: int, *, confidence: float = 0.95
) -> Interval:
    """Return Newcombe's hybrid score interval for first rate minus second (Statistics in Medicine 17, 1998, method 10).

    Built from both Wilson intervals, so it stays within [-1, 1] and is honest for rates near 0 and 1 and for small
    groups. Trials must be independent. Cost: O(1). Raises ValueError for no trials or impossible counts.

    >>> interval = difference_interval(56, 70, 48, 80)
    >>> round(interval.estimate, 3), round(interval.low, 4), round(interval.high, 4)
    (0.2, 0.0524, 0.3339)
    """
    one = wilson_interval(first, first_trials, confidence=confidence)
    two = wilson_interval(second, second_trials, confidence=confidence)
    difference = one.estimate - two.estimate
    return Interval(
        estimate=difference,
        low=max(-1.0, difference - math.hypot(one.estimate - one.low, two.high - two.estimate)),
        high=min(1.0, difference + math.hypot(one.high - one.estimate, two.estimate - two.low)),
        confidence=confidence,
    )


def ratio_interval(
    first: int, first_trials: int, second: int, second_trials: int, *, confidence: float = 0.95
) -> Interval | None:
    """Return Katz's log interval for first rate over second (Biometrics 34, 1978); None where the second rate is 0.

    Where a rate is 0 or both are 1, half a success and half a failure are added to each group for the width only
    (otherwise the width would be infinite or none). It undercovers for fewer than about 5 successes in a group.
    Trials must be independent. Cost: O(1). Raises ValueError for no trials or impossible counts.

    >>> interval = ratio_interval(30, 100, 60, 100)
    >>> round(interval.estimate, 2), round(interval.low, 3), round(interval.high, 3)
    (0.5, 0.356, 0.702)
    """
    for successes, trials in ((first, first_trials), (second, second_trials)):
        if trials < 1 or not 0 <= successes <= trials:
            raise ValueError(f"{successes} successes of {trials} trials have no rate")
    if second == 0:
        return None
    ratio = (first / first_trials) / (second / second_trials)
    certain = first == first_trials and second == second_trials
    extra = 0.5 if first == 0 or certain else 0.0
    a, b, n, m = first + extra, second + extra, first_trials + 2.0 * extra, second_trials + 2.0 * extra
    error = math.sqrt(max(1.0 / a - 1.0 / n + 1.0 / b - 1.0 / m, 0.0))
    half = normal_quantile(0.5 + confidence / 2.0) * error
    middle = (a / n) / (b / m)
    return Interval(
        estimate=ratio,
        low=min(ratio, middle * math.exp(-half)),
        high=max(ratio, middle * math.exp(half)),
        confidence=confidence,
    )


def count_tails(
    successes: int, trials: int, *, reference_successes: float, reference_trials: float
) -> tuple[float, float]:
    """Return P(X <= successes) and P(X >= successes) for the number of successes in `trials` rows that follow the
    reference.

    X is beta-binomial: the rate has Jeffreys' posterior, Beta(s + 1/2, n - s + 1/2), after the reference. With a large
    reference this is the binomial test against its rate; with a small one it also counts that the rate is unsure, where
    the binomial test alarms too often. Rows must be independent. Cost: O(trials). Raises ValueError for impossible
    counts.

    >>> lower, upper = count_tails(5, 100, reference_successes=0, reference_trials=10_000)
    >>> lower > 0.999999, upper < 1e-7
    (True, True)
    """
    if not (0 <= successes <= trials and 0 <= reference_successes <= reference_trials):
        raise ValueError(
            f"{successes} of {trials} rows after {reference_successes} of {reference_trials} cannot have been counted"
        )
    if trials == 0:
        return 1.0, 1.0
    a, b = reference_successes + 0.5, reference_trials - reference_successes + 0.5
    steps = np.arange(trials, dtype=np.float64)
    first = math.lgamma(trials + b) - math.lgamma(b) + math.lgamma(a + b) - math.lgamma(trials + a + b)
    growth = np.log((trials - steps) / (steps + 1.0)) + np.log((steps + a) / (trials - steps - 1.0 + b))
    chances = np.exp(np.concatenate([[first], first + np.cumsum(growth)]))
    return min(1.0, float(chances[: successes + 1].sum())), min(1.0, float(chances[successes:].sum()))


def two_sided(tails: tuple[float, float]) -> float:
    """The two-sided p-value: twice the smaller tail, at most 1."""
    return min(1.0, 2.0 * min(tails))


def student_quantile(probability: float, degrees: float) -> float:
    """Return the quantile of Student's t by its expansion in 1/degrees (Abramowitz & Stegun 26.7.5).

    Within 0.5 % for 9 degrees or more and probabilities in [0.005, 0.995]. Raises ValueError for fewer than 3 degrees.

    >>> round(student_quantile(0.975, 9), 3)
    2.262
    """
    if not degrees >= 3.0:
        raise ValueError(f"the expansion needs 3 degrees of freedom or more, not {degrees}")
    z = normal_quantile(probability)
    return (
        z
        + (z**3 + z) / (4.0 * degrees)
        + (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / (96.0 * degrees**2)
        + (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / (384.0 * degrees**3)
    )
