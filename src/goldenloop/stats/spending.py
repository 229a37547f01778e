"""One error rate shared out over tests that never end: the k-th test gets a share, and all shares together stay
within the whole.
"""

from __future__ import annotations

import math

import msgspec

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


class ErrorBudget(msgspec.Struct, frozen=True, kw_only=True):
    """The error rate that is left for a sequence of e-processes, each begun when the one before has ended.

    Promise: the chance that any of them ever finds something that is not there is at most `total`. A test is given a
    share a of what is left and finds something when its e-process E reaches 1/a. When it ends at evidence e, it gives
    back all of a where it found something, else a * min(1, e). Why this holds: let P be what is left, plus one from
    the first false find on. While a null is true, E[a * E_end] <= a, and a find has a * E_end >= 1, so P does not
    grow on average; where the null is false at most a comes back, so P does not grow at all. P began at `total`.

    It needs E to be valid given everything before the test began, which e-processes on later data are. Compared with
    `alpha_share` (which never gives back) a life of finds stays at the first threshold for ever, and a test that ended
    undecided costs what it lost, not its whole share. What is given is a part of what is left: that of the series of
    `alpha_share` without its first term, after as many terms as there were fruitless tests in a row. (The whole series
    would spend half of what is left on the first test after each find; in simulated lives of forty tests that found a
    seventh less.)

    >>> budget = ErrorBudget.of(0.05)
    >>> round(budget.next_share, 5)
    0.01292
    >>> after = budget.begin().end(budget.next_share, evidence=0.5, found=False)
    >>> round(after.left, 5), after.fruitless
    (0.04354, 1)
    >>> budget.begin().end(budget.next_share, evidence=50.0, found=True) == budget
    True
    """

    total: float
    left: float
    fruitless: int = 0  # tests in a row that found nothing

    @classmethod
    def of(cls, total: float) -> ErrorBudget:
        """Nothing spent yet. Raises ValueError for a total outside (0, 1)."""
        alpha_share(1, total)
        return cls(total=total, left=total)

    @property
    def next_share(self) -> float:
        """What the next test is given."""
        return self.left * _part(self.fruitless + 1)

    def begin(self) -> ErrorBudget:
        """The budget without what the next test is given."""
        return msgspec.structs.replace(self, left=self.left - self.next_share, fruitless=self.fruitless + 1)

    def end(self, share: float, *, evidence: float, found: bool) -> ErrorBudget:
        """The budget after a test that was given `share` and ended at this evidence (not its logarithm)."""
        back = share if found else share * min(1.0, max(0.0, evidence))
        return msgspec.structs.replace(
            self, left=min(self.total, self.left + back), fruitless=0 if found else self.fruitless
        )

    def rescaled(self, total: float) -> ErrorBudget:
        """The budget under another total: as large a part of it is left as was of the old one."""
        return (
            self
            if total == self.total
            else msgspec.structs.replace(self, total=total, left=self.left * total / self.total)
        )


def _part(index: int) -> float:
    """Which part of what is left after `index` - 1 terms of the series without its first is its next term."""
    terms = [1.0 / ((k + 1) * math.log(k + 1) ** 2) for k in range(1, index + 2)]
    return terms[-1] / (_SERIES - sum(terms[:-1]))
