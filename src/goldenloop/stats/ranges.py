"""Values outside the range that the reference had, and values that are missing more or less often than there."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from goldenloop.stats.intervals import wilson_interval
from goldenloop.stats.losses import Values, as_numbers
from goldenloop.stats.measured import Measured, counted, joined, measured, unmeasured
from goldenloop.stats.proportions import count_tails, difference_interval, two_sided


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """The smallest and largest number of a reference column of `rows` numbers; infinities do not count.

    `spread`: its central half (interquartile range), the unit of the tolerance; where that is 0, the whole range.
    """

    rows: int
    low: float | None = None
    high: float | None = None
    spread: float = 0.0

    @classmethod
    def of(cls, values: Values) -> Range:
        """The range of these values. Raises ValueError for text that is no number.

        >>> found = Range.of(np.array([1.0, 2.0, np.inf, np.nan, 4.0]))
        >>> found.rows, found.low, found.high
        (3, 1.0, 4.0)
        """
        numbers = as_numbers(values)
        numbers = numbers[np.isfinite(numbers)]
        if numbers.size == 0:
            return cls(rows=0)
        low, high = float(numbers.min()), float(numbers.max())
        with np.errstate(all="ignore"):  # numbers near the largest float have an infinite spread
            first, third = np.quantile(numbers, (0.25, 0.75))
            spread = float(third - first) or high - low
        return cls(rows=int(numbers.size), low=low, high=high, spread=spread if math.isfinite(spread) else 0.0)


def outside_share(reference: Range, values: Values, *, tolerance: float = 0.0) -> Measured:
    """Return the share of numbers below the reference's smallest or above its largest, with Wilson's interval.

    `tolerance` widens the range on both sides by so many interquartile ranges; infinities are always outside, missing
    values do not count. The p-value is of "these rows are like the reference's": of N exchangeable rows the extremes
    are exceeded by 2 in N + 1, so it is beta-binomial with 2 successes of N (a tolerance only makes it smaller, so
    then it errs on the quiet side). Cost: O(rows). Raises ValueError for text that is no number or a negative
    tolerance.

    >>> reference = Range.of(np.arange(100.0))
    >>> outside_share(reference, np.array([-1.0, 50.0, 99.0, 120.0])).value
    0.5
    >>> outside_share(reference, np.array([-1.0, 50.0, 99.0, 120.0]), tolerance=0.1).value
    0.25
    """
    if not tolerance >= 0.0:
        raise ValueError(f"a tolerance is at least 0, not {tolerance}")
    numbers = as_numbers(values)
    numbers = numbers[~np.isnan(numbers)]
    if numbers.size == 0:
        return unmeasured("no row has a value")
    if reference.low is None or reference.high is None:
        return unmeasured("the reference has no numbers", rows=int(numbers.size))
    slack = tolerance * reference.spread
    below = int(np.count_nonzero(numbers < reference.low - slack))
    above = int(np.count_nonzero(numbers > reference.high + slack))
    rows, successes = int(numbers.size), below + above
    _, upper = count_tails(
        successes, rows, reference_successes=min(2, reference.rows), reference_trials=max(reference.rows, 2)
    )
    sides = joined(
        f"{below} below {reference.low:g}" if below else "", f"{above} above {reference.high:g}" if above else ""
    )
    return measured(wilson_interval(successes, rows), rows=rows, p_value=upper, note=sides)


def missing_change(
    missing: int, rows: int, *, reference_missing: int, reference_rows: int, confidence: float = 0.95
) -> Measured:
    """Return the window's share of missing values minus the reference's, with Newcombe's interval.

    The p-value is two-sided, beta-binomial: the binomial test against the reference's rate, which also counts that a
    small reference does not know its rate well. Rows must be independent; a source that fails for an hour is one event.
    Cost: O(rows). Raises ValueError for impossible counts.

    >>> change = missing_change(30, 100, reference_missing=100, reference_rows=1_000)
    >>> round(change.value, 2), change.p_value < 1e-6
    (0.2, True)
    """
    if not (0 <= missing <= rows and 0 <= reference_missing <= reference_rows):
        raise ValueError(f"{missing} of {rows} after {reference_missing} of {reference_rows} cannot have been counted")
    if rows == 0:
        return unmeasured("the window is empty")
    if reference_rows == 0:
        return unmeasured("the reference is empty", rows=rows)
    tails = count_tails(missing, rows, reference_successes=reference_missing, reference_trials=reference_rows)
    difference = difference_interval(missing, rows, reference_missing, reference_rows, confidence=confidence)
    note = f"all of {counted(rows, 'row')} missing" if missing == rows else ""
    return measured(difference, rows=rows, p_value=two_sided(tails), note=note)
