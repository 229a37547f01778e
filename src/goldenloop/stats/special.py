"""Tail probabilities that tests need and the standard library lacks."""

from __future__ import annotations

import math
from statistics import NormalDist

_NORMAL = NormalDist()
_STEPS = 10_000  # bound on series and fractions; both converge in about sqrt(degrees) steps
_PRECISION = 1e-15


def chi_square_tail(statistic: float, degrees: int) -> float:
    """Return P(X >= statistic) for X chi-square with so many degrees of freedom: the regularised upper incomplete
    gamma Q(k/2, x/2).

    Series below the mean, Lentz's continued fraction above it (Press et al., Numerical Recipes, 6.2); relative error
    about 1e-12. Raises ValueError for a negative or NaN statistic or fewer than one degree.

    >>> round(chi_square_tail(3.841458820694124, 1), 6), chi_square_tail(0.0, 5)
    (0.05, 1.0)
    """
    if not statistic >= 0.0 or degrees < 1:
        raise ValueError(f"a chi-square needs a statistic >= 0 and degrees >= 1, not {statistic} and {degrees}")
    if statistic < 1e-300:  # half of it must not vanish under the logarithm
        return 1.0
    if math.isinf(statistic):
        return 0.0
    shape, x = degrees / 2.0, statistic / 2.0
    front = math.exp(shape * math.log(x) - x - math.lgamma(shape))
    if x < shape + 1.0:
        return max(0.0, 1.0 - front * _lower_series(shape, x))
    return front * _upper_fraction(shape, x)


def kolmogorov_tail(statistic: float) -> float:
    """Return P(K >= statistic) for Kolmogorov's distribution: 2 * sum over k of (-1)^(k-1) exp(-2 k^2 x^2).

    >>> round(kolmogorov_tail(1.3580986), 4), kolmogorov_tail(0.0)
    (0.05, 1.0)
    """
    if statistic < 0.2:
        return 1.0  # the series converges slowly there, and 1 - tail is below 1e-12
    total = sum((-1.0) ** (k - 1) * math.exp(-2.0 * (k * statistic) ** 2) for k in range(1, 40))
    return min(1.0, max(0.0, 2.0 * total))


def normal_tail(score: float) -> float:
    """Return P(Z >= score) for a standard normal Z.

    >>> round(normal_tail(1.959964), 4)
    0.025
    """
    return 0.5 * math.erfc(score / math.sqrt(2.0))


def normal_quantile(probability: float) -> float:
    """Return z with P(Z <= z) = probability, for a probability strictly between 0 and 1.

    >>> round(normal_quantile(0.975), 4)
    1.96
    """
    return _NORMAL.inv_cdf(probability)


def binomial_tail(successes: int, trials: int) -> float:
    """Return P(X >= successes) for X binomial with probability one half: the one-sided sign test. Cost: O(trials).

    >>> binomial_tail(2, 2), binomial_tail(0, 5)
    (0.25, 1.0)
    """
    if successes <= 0:
        return 1.0
    scale = trials * math.log(2.0) - math.lgamma(trials + 1)
    return min(
        1.0,
        sum(math.exp(-math.lgamma(k + 1) - math.lgamma(trials - k + 1) - scale) for k in range(successes, trials + 1)),
    )


def _lower_series(shape: float, x: float) -> float:
    term = total = 1.0 / shape
    for step in range(1, _STEPS):
        term *= x / (shape + step)
        total += term
        if term < total * _PRECISION:
            break
    return total


def _upper_fraction(shape: float, x: float) -> float:
    tiny = 1e-300
    b = x + 1.0 - shape
    c, d = 1.0 / tiny, 1.0 / b
    value = d
    for step in range(1, _STEPS):
        a = -step * (step - shape)
        b += 2.0
        d = 1.0 / (a * d + b or tiny)
        c = b + a / c or tiny
        change = c * d
        value *= change
        if abs(change - 1.0) < _PRECISION:
            break
    return value
