"""One error rate shared out over tests that never end: the k-th test gets a share, and all shares together stay
within the whole.
"""

from __future__ import annotations

import math

# The sum over k >= 1 of 1 / ((k + 1) ln(k + 1)^2) is 2.10974280..., rounded up: the shares never exceed the whole.
_SERIES = 2.109743


def alpha_share(index: int, total: float = 0.05) -> float:
    """Return the error rate of the `index`-th test (from 1): total / (2.1097 * (k + 1) * ln(k + 1)^2).

    By the union bound the chance that any of the tests ever errs is at most `total`, however many there are and
    however they depend on each other (Foster & Stine, "Alpha-investing", JRSS B 70, 2008, for the idea of a budget;
    the series is the slowest customary one that converges). Why so slow a series: evidence grows exponentially, so a
    share costs ln(1/share) values, and what counts is that late tests are not starved. The 40th share is 2.2 times
    that of 6 / (pi^2 k^2); the first is 0.49 of the total instead of 0.61, which costs 0.2 nats. It is wasteful where
    most tests find something: nothing is earned back. Cost: O(1). Raises ValueError for an index below 1 or a total
    outside (0, 1).

    >>> round(alpha_share(1), 5), round(alpha_share(40), 7)
    (0.02466, 4.19e-05)
    >>> sum(alpha_share(k) for k in range(1, 10_000)) < 0.05
    True
    """
    if index < 1:
        raise ValueError(f"tests are counted from 1, not {index}")
    if not 0.0 < total < 1.0:
        raise ValueError(f"an error rate lies between 0 and 1, not {total}")
    return total / (_SERIES * (index + 1) * math.log(index + 1) ** 2)


def log_threshold(index: int, total: float = 0.05) -> float:
    """Return the log-evidence at which the `index`-th test decides: ln(1 / alpha_share).

    >>> round(log_threshold(1), 2), round(log_threshold(40), 2)
    (3.7, 10.08)
    """
    return -math.log(alpha_share(index, total))
