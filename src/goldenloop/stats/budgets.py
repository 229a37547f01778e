"""Error budgets: how much of what may go wrong has gone wrong, and how fast it goes.

An objective says which share of occurrences is to be good (its target). One minus the target is its error budget. The method says what an
occurrence is: each event by itself (Occurrences), each slice of time as good or bad (Timeslices), or each slice by its own share of good
events (RatioTimeslices, OpenSLO 1.0). Where nothing was counted there is no ratio: None, which is neither met nor missed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Method: TypeAlias = Literal["Occurrences", "Timeslices", "RatioTimeslices"]

Numbers: TypeAlias = NDArray[np.float64]
Moments: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """What was counted: `good` of `total` events from `start_us` to `end_us`, in the order of their ends. All of one length."""

    start_us: Moments
    end_us: Moments
    good: Numbers
    total: Numbers

    @classmethod
    def of(cls, rows: list[tuple[int, int, float, float]]) -> Points:
        """The points of these rows: start, end, good, total."""
        ordered = sorted(rows, key=lambda row: row[1])
        return cls(
            start_us=np.array([row[0] for row in ordered], dtype=np.int64),
            end_us=np.array([row[1] for row in ordered], dtype=np.int64),
            good=np.array([row[2] for row in ordered], dtype=np.float64),
            total=np.array([row[3] for row in ordered], dtype=np.float64),
        )

    def within(self, after_us: int, until_us: int) -> Points:
        """The points whose end lies in (after, until]."""
        kept = (self.end_us > after_us) & (self.end_us <= until_us)
        return Points(
            start_us=self.start_us[kept], end_us=self.end_us[kept], good=self.good[kept], total=self.total[kept]
        )

    def since(self, start_us: int) -> Points:
        """The points that begin there or later."""
        kept = self.start_us >= start_us
        return Points(
            start_us=self.start_us[kept], end_us=self.end_us[kept], good=self.good[kept], total=self.total[kept]
        )

    @property
    def cadence_us(self) -> int | None:
        """The usual time from the end of one point to that of the next; None below two points."""
        return int(np.median(np.diff(self.end_us))) if self.end_us.size >= 2 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """How occurrences are counted. A slice is good where at least `slice_target` of its events are."""

    method: Method = "Occurrences"
    slice_us: int | None = None
    slice_target: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Where an objective stands over its window."""

    good: float
    total: float
    ratio: float | None  # of good occurrences; None where nothing was counted
    remaining: float | None  # of the budget of the whole window: 1 is untouched, 0 is spent, below 0 is overspent


def occurrences(points: Points, counting: Counting) -> tuple[float, float]:
    """How many occurrences were good, and how many there were. Slices in which nothing happened are none.

    >>> five = Points.of([(0, 10, 9, 10), (10, 20, 1, 10)])
    >>> occurrences(five, Counting())
    (10.0, 20.0)
    >>> occurrences(five, Counting(method="Timeslices", slice_us=10, slice_target=0.9))
    (1.0, 2.0)
    >>> occurrences(five, Counting(method="RatioTimeslices", slice_us=10))
    (1.0, 2.0)
    """
    good, total = points.good, points.total
    if counting.method != "Occurrences":
        if counting.slice_us is None or counting.slice_us <= 0:
            raise ValueError("slices of time have a length")
        # A point belongs to the slice in which it ends; a moment on the border ends the slice before it.
        _, slices = np.unique((points.end_us - 1) // counting.slice_us, return_inverse=True)
        good = np.bincount(slices, weights=good).astype(np.float64)
        total = np.bincount(slices, weights=total).astype(np.float64)
        good, total = good[total > 0], total[total > 0]
        shares = good / total
        if counting.method == "Timeslices":
            shares = (shares >= (1.0 if counting.slice_target is None else counting.slice_target)).astype(np.float64)
        return float(shares.sum()), float(shares.size)
    return float(good.sum()), float(total.sum())


def budget(points: Points, counting: Counting, *, target: float, window_us: int, now_us: int) -> Budget:
    """Where an objective stands at `now_us`, over the `window_us` before it.

    The budget is that of the whole window: where it has not been lived through yet, the events to come are taken to be as many as so far,
    so that the first bad minute of a month spends a minute's worth and not all. Raises ValueError for a target outside (0, 1).

    >>> half = Points.of([(0, 50, 90, 100)])
    >>> round(budget(half, Counting(), target=0.9, window_us=100, now_us=50).remaining, 6)
    0.5
    """
    _check_target(target)
    mine = points.within(now_us - window_us, now_us)
    good, total = occurrences(mine, counting)
    if total <= 0:
        return Budget(good=0.0, total=0.0, ratio=None, remaining=None)
    covered_us = max(1, min(window_us, now_us - int(mine.start_us.min())))
    allowed = (1.0 - target) * total * (window_us / covered_us)
    return Budget(good=good, total=total, ratio=good / total, remaining=1.0 - (total - good) / allowed)


def burn_rate(points: Points, counting: Counting, *, target: float, lookback_us: int, now_us: int) -> float | None:
    """How many times faster than evenly the budget went in the last `lookback_us`; 1 spends it exactly by the end of the window.

    None where nothing was counted. Raises ValueError for a target outside (0, 1).

    >>> round(burn_rate(Points.of([(0, 10, 98, 100)]), Counting(), target=0.99, lookback_us=10, now_us=10), 6)
    2.0
    """
    _check_target(target)
    good, total = occurrences(points.within(now_us - lookback_us, now_us), counting)
    return None if total <= 0 else (1.0 - good / total) / (1.0 - target)


def greatest_burn_rate(target: float) -> float:
    """The burn rate when everything fails: 1 / (1 - target). No alert above it can ever fire.

    >>> round(greatest_burn_rate(0.931), 1), greatest_burn_rate(0.5)
    (14.5, 2.0)
    """
    _check_target(target)
    return 1.0 / (1.0 - target)


def reachable_factor(factor: float, target: float) -> float:
    """The factor, or where no share of failures could reach it the one midway between an even burn and that of total failure.

    >>> reachable_factor(14.4, 0.999)
    14.4
    >>> round(reachable_factor(14.4, 0.8), 6)  # of at most 5: fires where more than 60 % fail
    3.0
    """
    greatest = greatest_burn_rate(target)
    return factor if factor < greatest else (1.0 + greatest) / 2.0


def _check_target(target: float) -> None:
    if not 0.0 < target < 1.0:
        raise ValueError(f"a target lies between 0 and 1, not {target}")
