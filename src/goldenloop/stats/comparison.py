"""How far a column of one frame is from the same column of another: tests with p-values, and distances that say how much.

With a million rows every difference is significant, and with a hundred every distance is large by chance; so a column has *drifted* only
where both hold: its p-value, corrected for all columns together (Holm), is below `alpha`, and its Jensen-Shannon distance (or the
change of its missing share) is at least `effect`. The tests assume rows that do not depend on each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.stats.grids import NumberGrid
from goldenloop.stats.intervals import Interval, wilson_interval
from goldenloop.stats.profiles import CellCounts, chi_square, jensen_shannon, population_stability
from goldenloop.stats.proportions import difference_interval
from goldenloop.stats.ranges import missing_change
from goldenloop.stats.special import kolmogorov_tail
from goldenloop.stats.tallies import NameTally

_MOST_BINS, _FEWEST_BINS, _ROWS_A_BIN = 100, 10, 50
_SMALLEST_EXPECTED = 5.0  # rows that a cell of a chi-square test should have in both frames
_ALL_TRIALS = 10_000  # rows up to which the missing share is tested exactly
_PLOTTED_BINS, _PLOTTED_NAMES, _NAMES_SHOWN = 24, 8, 5
_PLOTTED_TAIL = 0.01


class NumberChange(msgspec.Struct, frozen=True, kw_only=True, tag="number", tag_field="kind"):
    """A number column. `kolmogorov_smirnov` is at least what it says and at most `resolution` more on the raw values."""

    kolmogorov_smirnov: float
    resolution: float
    wasserstein: float  # in the unit of the column; infinities left out
    wasserstein_in_deviations: float | None  # of the reference
    reference_mean: float | None
    current_mean: float | None
    reference_deviation: float | None
    current_deviation: float | None
    reference_range: tuple[float, float] | None
    current_range: tuple[float, float] | None
    outside: Interval  # share of the current numbers below or above the reference's range
    infinities: tuple[int, int]  # of reference and current


class CategoryChange(msgspec.Struct, frozen=True, kw_only=True, tag="category", tag_field="kind"):
    """A category column. `new` is None where there are too many names to call one new; the counts of names are estimates then."""

    chi_square: float
    degrees: int
    reference_distinct: int
    current_distinct: int
    new: Interval | None  # share of the current rows whose name the reference did not have
    new_names: tuple[tuple[str, int], ...]  # the most frequent, with their rows
    gone_names: tuple[tuple[str, int], ...]  # of the reference, the most frequent of those that came no more
    is_exact: bool


class Bars(msgspec.Struct, frozen=True, kw_only=True):
    """What a plot shows: shares of reference and current by bin, and the bins' names."""

    names: tuple[str, ...]
    reference: tuple[float, ...]
    current: tuple[float, ...]


class MissingShares(msgspec.Struct, frozen=True, kw_only=True):
    """The shares of missing values. `p` is None where none is missing on either side: then there is nothing to test."""

    reference: float | None
    current: float | None
    difference: Interval | None  # current minus reference
    p: float | None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A column of two frames. `distance` and `stability` are None where a side has no values; `note` says so."""

    jensen_shannon: float | None
    population_stability: float | None
    distribution_p: float | None
    missing: MissingShares
    change: NumberChange | CategoryChange | None
    bars: Bars | None = None
    note: str = ""

    @property
    def p(self) -> float | None:
        """Of "nothing has changed", from both tests (Bonferroni); None where nothing could be tested."""
        tested = [p for p in (self.distribution_p, self.missing.p) if p is not None]
        return min(1.0, len(tested) * min(tested)) if tested else None

    @property
    def effect(self) -> float:
        """The larger of the distance and the change of the missing share, 0..1."""
        difference = self.missing.difference
        return max(self.jensen_shannon or 0.0, 0.0 if difference is None else abs(difference.estimate))


def compare_numbers(reference: NumberGrid, current: NumberGrid) -> Comparison:
    """Compare two grids of the same `tiny`.

    Kolmogorov and Smirnov's test is on all cells (at most 32,768 a grid), Jensen-Shannon and the stability index on quantile bins of the
    reference: one for each 50 rows of the smaller frame, between 10 and 100, and one each below and above its range. Cost: O(cells).
    """
    shares = _missing(reference.missing, _rows(reference), current.missing, _rows(current))
    if _present(reference) == 0 or _present(current) == 0:
        return _without_values(shares, _present(reference), _present(current))
    before, after, low, high = _aligned(reference, current, max(reference.shift, current.shift))
    p, q = before / before.sum(), after / after.sum()
    apart = np.abs(np.cumsum(p - q))
    largest = float(apart.max())
    binned = _quantile_bins(before, after)
    effective = _present(reference) * _present(current) / (_present(reference) + _present(current))
    deviation = reference.deviation
    moved = _wasserstein(before[1:-1], after[1:-1], low[1:-1] / 2.0 + high[1:-1] / 2.0)
    change = NumberChange(
        kolmogorov_smirnov=largest,
        resolution=float(np.max(np.where(low < high, np.maximum(p, q), 0.0))),
        wasserstein=moved,
        wasserstein_in_deviations=moved / deviation if deviation else None,
        reference_mean=reference.mean,
        current_mean=current.mean,
        reference_deviation=deviation,
        current_deviation=current.deviation,
        reference_range=(reference.low, reference.high) if reference.count else None,
        current_range=(current.low, current.high) if current.count else None,
        outside=wilson_interval(sum(current.outside), _present(current)),
        infinities=(reference.below + reference.above, current.below + current.above),
    )
    return Comparison(
        jensen_shannon=jensen_shannon(*binned),
        population_stability=population_stability(*binned),
        distribution_p=kolmogorov_tail(largest * math.sqrt(effective)),
        missing=shares,
        change=change,
        bars=_number_bars(before, after, low, high),
        note="" if reference.count and current.count else "a side has only infinities",
    )


def compare_names(reference: NameTally, current: NameTally) -> Comparison:
    """Compare two tallies: on the names where both count all of them, else on buckets of names.

    For the chi-square test, names that should have fewer than 5 rows in a frame are pooled. Cost: O(names).
    """
    shares = _missing(
        reference.missing, reference.count + reference.missing, current.missing, current.count + current.missing
    )
    if reference.count == 0 or current.count == 0:
        return _without_values(shares, reference.count, current.count)
    exact = reference.is_exact and current.is_exact
    if exact:
        names = sorted(reference.names.keys() | current.names.keys())
        before, after = (
            np.array([tally.names.get(name, 0) for name in names], dtype=np.int64) for tally in (reference, current)
        )
    else:
        before, after = reference.buckets(), current.buckets()
    statistic, degrees, p = chi_square(*_pooled(before, after))
    new: tuple[tuple[str, int], ...] = ()
    gone: tuple[tuple[str, int], ...] = ()
    share = None
    if exact:
        strange = {name: number for name, number in current.names.items() if name not in reference.names}
        new = _leading(strange)
        gone = _leading({name: number for name, number in reference.names.items() if name not in current.names})
        share = wilson_interval(sum(strange.values()), current.count)
    change = CategoryChange(
        chi_square=statistic,
        degrees=degrees,
        reference_distinct=reference.distinct,
        current_distinct=current.distinct,
        new=share,
        new_names=new,
        gone_names=gone,
        is_exact=exact,
    )
    return Comparison(
        jensen_shannon=jensen_shannon(before, after),
        population_stability=population_stability(before, after),
        distribution_p=p,
        missing=shares,
        change=change,
        bars=_name_bars(reference, current),
        note="" if exact else "too many names to count each: compared by buckets of names, and counts are estimates",
    )


def _missing(before: int, before_rows: int, after: int, after_rows: int) -> MissingShares:
    both = bool(before_rows and after_rows)
    return MissingShares(
        reference=before / before_rows if before_rows else None,
        current=after / after_rows if after_rows else None,
        difference=difference_interval(after, after_rows, before, before_rows) if both else None,
        p=_missing_p(before, before_rows, after, after_rows) if both and before + after else None,
    )


def _missing_p(before: int, before_rows: int, after: int, after_rows: int) -> float | None:
    if after_rows <= _ALL_TRIALS:
        return missing_change(after, after_rows, reference_missing=before, reference_rows=before_rows).p_value
    return chi_square(np.array([before, before_rows - before]), np.array([after, after_rows - after]))[2]


def _without_values(missing: MissingShares, reference: int, current: int) -> Comparison:
    side = (
        "neither side has"
        if not reference and not current
        else f"the {'current' if reference else 'reference'} frame has not"
    )
    return Comparison(
        jensen_shannon=None,
        population_stability=None,
        distribution_p=None,
        missing=missing,
        change=None,
        note=f"{side} a single value",
    )


def _present(grid: NumberGrid) -> int:
    return grid.count + grid.below + grid.above


def _rows(grid: NumberGrid) -> int:
    return _present(grid) + grid.missing


def _aligned(
    reference: NumberGrid, current: NumberGrid, shift: int
) -> tuple[CellCounts, CellCounts, NDArray[np.float64], NDArray[np.float64]]:
    """Both frames' counts on the cells that either fills, in order, infinities outermost; and the cells' ends."""
    sides = [grid.occupied(shift) for grid in (reference, current)]
    cells = np.union1d(sides[0][0], sides[1][0])
    counts = []
    for grid, (own, number) in zip((reference, current), sides, strict=True):
        laid = np.zeros(cells.size + 2, dtype=np.int64)
        laid[1 + np.searchsorted(cells, own)] = number
        laid[0], laid[-1] = grid.below, grid.above
        counts.append(laid)
    low, high = reference.edges(cells, shift)
    return counts[0], counts[1], np.concatenate([[-np.inf], low, [np.inf]]), np.concatenate([[-np.inf], high, [np.inf]])


def _quantile_bins(before: CellCounts, after: CellCounts) -> tuple[CellCounts, CellCounts]:
    """The cells merged into bins of about equally many reference rows, with one below and one above its range."""
    rows = before.sum()
    bins = int(np.clip(min(rows, after.sum()) // _ROWS_A_BIN, _FEWEST_BINS, _MOST_BINS))
    middle = (np.cumsum(before) - before / 2.0) / rows
    places = 1 + np.minimum((middle * bins).astype(np.int64), bins - 1)
    filled = np.flatnonzero(before)
    places[: filled[0]] = 0
    places[filled[-1] + 1 :] = bins + 1
    binned = [np.bincount(places, weights=counts, minlength=bins + 2).astype(np.int64) for counts in (before, after)]
    return binned[0], binned[1]


def _wasserstein(before: CellCounts, after: CellCounts, middle: NDArray[np.float64]) -> float:
    """The area between the distribution functions of the finite numbers, each number at the middle of its cell."""
    if before.sum() == 0 or after.sum() == 0:
        return 0.0
    apart = np.abs(np.cumsum(before / before.sum() - after / after.sum()))[:-1]
    with np.errstate(over="ignore"):
        return float(apart @ np.diff(middle))


def _pooled(before: CellCounts, after: CellCounts) -> tuple[CellCounts, CellCounts]:
    n, m = float(before.sum()), float(after.sum())
    expected = (before + after) * min(n, m) / (n + m)
    sparse = expected < _SMALLEST_EXPECTED
    if np.count_nonzero(sparse) < 2:
        return before, after
    return (
        np.append(before[~sparse], before[sparse].sum()),
        np.append(after[~sparse], after[sparse].sum()),
    )


def _leading(counts: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_NAMES_SHOWN])


def _number_bars(
    before: CellCounts, after: CellCounts, low: NDArray[np.float64], high: NDArray[np.float64]
) -> Bars | None:
    """Bins of one width over the central 98 % of both frames; what lies beyond is in the outermost."""
    together = np.cumsum(before / before.sum() + after / after.sum()) / 2.0
    ends = np.searchsorted(together, (_PLOTTED_TAIL, 1.0 - _PLOTTED_TAIL))
    with np.errstate(all="ignore"):
        first, last = float(low[ends[0]]), float(high[min(int(ends[1]), high.size - 1)])
        edges = np.linspace(first, last, _PLOTTED_BINS + 1)
        places = np.clip(np.searchsorted(edges, low / 2.0 + high / 2.0, side="right") - 1, 0, _PLOTTED_BINS - 1)
    if not np.isfinite(edges).all():
        return None
    shares = [np.bincount(places, weights=side / side.sum(), minlength=_PLOTTED_BINS) for side in (before, after)]
    names = tuple(f"{edges[place]:.4g} to {edges[place + 1]:.4g}" for place in range(_PLOTTED_BINS))
    return Bars(names=names, reference=tuple(shares[0].tolist()), current=tuple(shares[1].tolist()))


def _name_bars(reference: NameTally, current: NameTally) -> Bars:
    """The names that are most frequent in both frames together, and the rest."""
    before, after = (
        {name: number / tally.count for name, number in tally.names.items()} for tally in (reference, current)
    )
    ranked = sorted(
        before.keys() | after.keys(), key=lambda name: (-before.get(name, 0.0) - after.get(name, 0.0), name)
    )
    names = ranked[:_PLOTTED_NAMES]
    shares = [[side.get(name, 0.0) for name in names] for side in (before, after)]
    if reference.distinct > len(names) or current.distinct > len(names):
        names = [*names, "other"]
        for side in shares:
            side.append(max(0.0, 1.0 - sum(side)))
    return Bars(names=tuple(names), reference=tuple(shares[0]), current=tuple(shares[1]))
