"""One measured number, and what to know about it; also when it could not be measured.

Monitors meet NaN, empty windows, groups of two and columns that never change. Statistics for them do not raise: they
return a `Measured` whose value is None and whose note says why, so that no evidence stays visible as no evidence.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.stats.intervals import Interval


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A value with the interval around it, from `rows` rows.

    `value` None: it could not be measured, and `note` says why. A note beside a value says what limits it. `p_value`
    is of the hypothesis that nothing is wrong, where there is a test of it.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    rows: int = 0
    note: str = ""


def unmeasured(note: str, *, rows: int = 0) -> Measured:
    """A value that could not be measured, and why.

    >>> unmeasured("the window is empty").value is None
    True
    """
    return Measured(value=None, rows=rows, note=note)


def measured(interval: Interval, *, rows: int, p_value: float | None = None, note: str = "") -> Measured:
    """The estimate of an interval as a `Measured`."""
    return Measured(
        value=interval.estimate, low=interval.low, high=interval.high, p_value=p_value, rows=rows, note=note
    )


def joined(*notes: str) -> str:
    """The notes that say something, as one.

    >>> joined("", "one row is missing", "few labels")
    'one row is missing; few labels'
    """
    return "; ".join(note for note in notes if note)


def counted(number: int, noun: str) -> str:
    """
    >>> counted(1, "row"), counted(2, "row")
    ('1 row', '2 rows')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def as_matrix(values: NDArray[np.floating] | NDArray[np.integer], *, what: str) -> NDArray[np.float64]:
    """The values as a matrix of floats, rows by columns. Raises ValueError for another shape."""
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2:
        raise ValueError(f"{what} must be rows by columns, not an array of {matrix.ndim} dimensions")
    return matrix
