"""How strange is this score among those before it: conformal p-values, and the evidence in them.

Sources: Vovk, Gammerman & Shafer, "Algorithmic Learning in a Random World" (2005), for online conformal p-values;
Shafer, Shen, Vereshchagin & Vovk, "Test martingales, Bayes factors and p-values", Statistical Science 26 (2011), and
Vovk & Wang, "E-values: calibration, combination and applications", Annals of Statistics 49 (2021), for calibrators.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def conformal_p(score: float, reference: NDArray[np.float64], *, uniform: float = 1.0) -> float:
    """Return the one-sided p-value of a high score: (number above + uniform * (1 + number equal)) / (1 + size of
    reference).

    Where score and reference are exchangeable, P(p <= u) <= u. With `uniform` 1 (the default) ties count against the
    alarm, which is conservative; with a fresh uniform random number in [0, 1] it is exactly uniform, and in the
    online setting (each score joins the reference of the next) p-values of different times are independent. Scores
    that are correlated in time are not exchangeable: p is then too small after a rise. Anything fitted on the
    reference that ranks (a location, a bin edge) breaks exchangeability with what comes later; fit it on another
    part. The smallest possible value is 1 / (1 + size).
    Cost: O(size). Raises ValueError for NaN. An empty reference gives 1.

    >>> conformal_p(3.0, np.array([1.0, 2.0, 3.0, 4.0]))
    0.6
    >>> conformal_p(9.0, np.array([1.0, 2.0, 3.0, 4.0]))
    0.2
    """
    if math.isnan(score):
        raise ValueError("the score is NaN; a window without a score has no p-value")
    if not 0.0 <= uniform <= 1.0:
        raise ValueError(f"uniform must lie in [0, 1], not {uniform}")
    values = np.asarray(reference, dtype=np.float64)
    if bool(np.isnan(values).any()):
        raise ValueError("the reference scores contain NaN")
    if values.size == 0:
        return 1.0
    above = int(np.count_nonzero(values > score))
    equal = int(np.count_nonzero(values == score))
    return (above + uniform * (1 + equal)) / (1 + values.size)


def power_evidence(p: float, kappa: float = 0.5) -> float:
    """Return the e-value kappa * p^(kappa - 1), whose mean is at most 1 where P(p <= u) <= u.

    Small kappa bets on very small p; 0.5 is the best single choice where p cannot fall below about 0.01, as with 100
    reference scores or fewer. Raises ValueError unless 0 < p <= 1 and 0 < kappa < 1. Cost: O(1).

    >>> power_evidence(0.01), power_evidence(1.0)
    (5.0, 0.5)
    """
    _check(p)
    if not 0.0 < kappa < 1.0:
        raise ValueError(f"kappa must lie between 0 and 1, not {kappa}")
    return float(kappa * p ** (kappa - 1.0))


def mixture_evidence(p: float) -> float:
    """Return the e-value that averages `power_evidence` over all kappa: (1 - p + p ln p) / (p (ln p)^2), and 1/2 at p
    = 1.

    It needs no kappa and grows almost as 1/p, but pays for it where p is between 0.01 and 0.2. Mean at most 1 where
    P(p <= u) <= u. Cost: O(1). Raises ValueError unless 0 < p <= 1.

    >>> round(mixture_evidence(0.01), 2), round(mixture_evidence(0.001), 2), mixture_evidence(1.0)
    (4.45, 20.79, 0.5)
    """
    _check(p)
    logarithm = math.log(p)
    if logarithm > -1e-3:  # the series at p = 1; the closed form cancels there
        return 0.5 - logarithm / 6.0 + logarithm * logarithm / 24.0
    return (1.0 - p + p * logarithm) / (p * logarithm * logarithm)


def _check(p: float) -> None:
    if not 0.0 < p <= 1.0:
        raise ValueError(f"a p-value lies in (0, 1], not {p}")
