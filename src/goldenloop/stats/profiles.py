"""What a data set looks like, small enough to keep beside a model version, and how far another one is from it.

A profile is a histogram a column: numbers by edges at quantiles of the reference, categories by name. Counts over the
same profile add up, so windows, workers and files can be counted apart and merged. Rows are only counted, never kept.

Cells of a number column: below the reference's minimum, its bins, above its maximum, missing (NaN or None).
Infinities fall into the outermost cells. A value that many reference rows share (zero, a constant) gets a cell of its
own. Cells of a category column: the known names, "other" (rare names of the reference, pooled), "new" (names the
reference did not have), missing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.stats.losses import Values, as_numbers
from goldenloop.stats.special import chi_square_tail, kolmogorov_tail

Kind: TypeAlias = Literal["number", "category"]
CellCounts: TypeAlias = NDArray[np.int64]

_MOST_CELLS = 128  # of a number column, missing included
_MOST_NAMES = 64  # categories that are counted apart
_MOST_RARE = 1_024  # names remembered only to tell "other" from "new"
_KOLMOGOROV_MEAN = math.sqrt(math.pi / 2.0) * math.log(2.0)
_KOLMOGOROV_DEVIATION = math.sqrt(math.pi**2 / 12.0 - _KOLMOGOROV_MEAN**2)
_SMALLEST_SCALE = 0.25  # of a column's drift score, whose deviation is about 1 by construction


class NumberProfile(msgspec.Struct, frozen=True, kw_only=True, tag="number"):
    """A number column: cell i holds values v with edges[i-1] < v <= edges[i]; `cells` are the reference's counts,
    missing last.
    """

    edges: tuple[float, ...]
    cells: tuple[int, ...]


class CategoryProfile(msgspec.Struct, frozen=True, kw_only=True, tag="category"):
    """A category column: `names` are counted apart, `rare` are pooled; `cells` are the reference's counts: names,
    other, new, missing.

    `open_ended`: the reference had too many names to remember (ids, free text); an unknown name then counts as other,
    never as new.
    """

    names: tuple[str, ...]
    rare: tuple[str, ...]
    open_ended: bool
    once: int  # names that occurred a single time
    cells: tuple[int, ...]


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows fell into each cell of each column of one profile. Counts of the same profile add up.

    >>> profile = Profile.of({"x": np.arange(4.0)}, {"x": "number"})
    >>> window = count(profile, {"x": np.array([0.0, 9.0])})
    >>> (window + window).rows
    4
    """

    rows: int
    cells: dict[str, tuple[int, ...]]

    def __add__(self, other: Counts) -> Counts:
        if {name: len(cells) for name, cells in self.cells.items()} != {
            name: len(cells) for name, cells in other.cells.items()
        }:
            raise ValueError("counts of different profiles do not add up")
        summed = {name: tuple(map(int.__add__, cells, other.cells[name])) for name, cells in self.cells.items()}
        return Counts(rows=self.rows + other.rows, cells=summed)


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The reference: `rows` rows in `columns`."""

    rows: int
    columns: dict[str, NumberProfile | CategoryProfile]

    @classmethod
    def of(cls, columns: Mapping[str, Values], kinds: Mapping[str, Kind]) -> Profile:
        """The profile of these rows. Cost: O(rows log rows) a column.

        Raises ValueError for no rows, a column of `kinds` that is missing, unequal lengths, or text in a number column.

        >>> Profile.of({"x": np.array(["a", "b", "a", None], dtype=object)}, {"x": "category"}).columns["x"].cells
        (2, 1, 0, 0, 1)
        """
        rows = _row_count(columns, kinds)
        if rows == 0:
            raise ValueError("a reference profile needs at least one row")
        profiles = {
            name: _category_profile(columns[name])
            if kind == "category"
            else _number_profile(as_numbers(columns[name], what=name))
            for name, kind in kinds.items()
        }
        return cls(rows=rows, columns=profiles)

    @property
    def counts(self) -> Counts:
        """The reference's own counts."""
        return Counts(rows=self.rows, cells={name: column.cells for name, column in self.columns.items()})


class ColumnScales(msgspec.Struct, frozen=True, kw_only=True):
    """Where a column's drift score lies, and how far it scatters, while nothing changes.

    `fit` it on windows that are not ranked against later (`detection.split_reference`), or the promise of the
    detector is lost.
    """

    location: dict[str, float] = {}
    scale: dict[str, float] = {}

    @classmethod
    def fit(cls, reference: Sequence[Mapping[str, float]]) -> ColumnScales:
        """Mean and standard deviation (at least 0.25) of each column's `drift_scores` over reference windows."""
        names = reference[0].keys() if reference else ()
        table = {name: np.array([scores[name] for scores in reference]) for name in names}
        return cls(
            location={name: float(values.mean()) for name, values in table.items()},
            scale={name: max(float(values.std()), _SMALLEST_SCALE) for name, values in table.items()},
        )


class Distances(msgspec.Struct, frozen=True, kw_only=True):
    """How far a window's column is from the reference's; see the functions of the same names."""

    jensen_shannon: float
    population_stability: float
    kolmogorov_smirnov: float | None  # None for categories
    chi_square: float
    degrees: int
    p_value: float  # of the Kolmogorov-Smirnov test for numbers, of the chi-square test for categories


def count(profile: Profile, columns: Mapping[str, Values]) -> Counts:
    """Return the window's counts. Columns the profile does not know are ignored; no rows give zero counts.

    Cost: O(rows * log cells) a number column, O(rows) a category column; 500 rows of 20 columns in under 3 ms.
    Raises ValueError for a column that is missing, unequal lengths, or text in a number column.

    >>> profile = Profile.of({"x": np.array([1.0, 2.0, 2.0, 3.0])}, {"x": "number"})
    >>> count(profile, {"x": np.array([0.0, 2.0, np.nan, 5.0])}).cells["x"]
    (1, 0, 0, 1, 0, 1, 1)
    """
    rows = _row_count(columns, profile.columns)
    cells = {}
    for name, column in profile.columns.items():
        if isinstance(column, NumberProfile):
            cells[name] = _number_cells(as_numbers(columns[name], what=name), np.asarray(column.edges))
        else:
            cells[name] = _category_cells(columns[name], column)
    return Counts(rows=rows, cells=cells)


def jensen_shannon(reference: CellCounts, current: CellCounts) -> float:
    """Return the Jensen-Shannon distance, 0..1: the root of the mean divergence (base 2) of both from their mean.

    Source: Lin, IEEE Trans. Information Theory 37 (1991). It has no fixed error rate: with no drift the squared
    distance is about (cells - 1) / (8 ln 2) * (1/n + 1/m), so small windows look drifted. Cost: O(cells). Raises
    ValueError for an empty sample.

    >>> jensen_shannon(np.array([5, 0]), np.array([0, 5])), jensen_shannon(np.array([5, 5]), np.array([1, 1]))
    (1.0, 0.0)
    """
    return math.sqrt(_divergence(*_shares(reference, current)) / math.log(2.0))


def population_stability(reference: CellCounts, current: CellCounts) -> float:
    """Return the population stability index, in nats: the sum over cells of (q - p) * ln(q / p), half a row added to
    each cell.

    The half row keeps empty cells finite. It has no fixed error rate: with no drift its mean is about (cells - 1) *
    (1/n + 1/m), so the customary threshold 0.1 alarms falsely on 80 % of windows of 100 rows. Cost: O(cells). Raises
    ValueError for an empty sample.

    >>> population_stability(np.array([50, 50]), np.array([50, 50]))
    0.0
    >>> round(population_stability(np.array([80, 20]), np.array([20, 80])), 2)
    1.63
    """
    p, q = _shares(np.asarray(reference) + 0.5, np.asarray(current) + 0.5)
    return float(((q - p) * np.log(q / p)).sum())


def kolmogorov_smirnov(reference: CellCounts, current: CellCounts) -> float:
    """Return the largest difference of the two distribution functions at the cells' upper edges, 0..1; cells must be
    in order.

    A lower bound of the distance on raw values; with 125 quantile edges it is short of it by about 0.008 at most. It
    hardly sees changes of the tails or of the spread. Cost: O(cells). Raises ValueError for an empty sample.

    >>> kolmogorov_smirnov(np.array([2, 2, 0]), np.array([0, 2, 2]))
    0.5
    """
    p, q = _shares(reference, current)
    return float(np.abs(np.cumsum(p - q)).max())


def chi_square(reference: CellCounts, current: CellCounts) -> tuple[float, int, float]:
    """Return the two-sample chi-square statistic, its degrees of freedom and its p-value; cells empty in both are
    left out.

    P(p <= u) is about u where expected counts are 5 or more; with rare categories it alarms too often. Rows must be
    independent. Cost: O(cells). Raises ValueError for an empty sample.

    >>> statistic, degrees, p = chi_square(np.array([50, 50]), np.array([40, 60]))
    >>> round(statistic, 3), degrees, round(p, 3)
    (2.02, 1, 0.155)
    """
    p, q = _shares(reference, current)
    n, m = float(np.sum(reference)), float(np.sum(current))
    together = np.asarray(reference, dtype=np.float64) + np.asarray(current, dtype=np.float64)
    used = together > 0.0
    degrees = int(np.count_nonzero(used)) - 1
    if degrees == 0:
        return 0.0, 0, 1.0
    pooled = together[used] / (n + m)
    statistic = float((n * m / (n + m) * (p[used] - q[used]) ** 2 / pooled).sum())
    return statistic, degrees, chi_square_tail(statistic, degrees)


def distances(profile: Profile, counts: Counts) -> dict[str, Distances]:
    """Return every distance of each column, for a report. Raises ValueError for an empty window."""
    _check_counts(profile, counts)
    found = {}
    for name, column in profile.columns.items():
        reference, current = np.asarray(column.cells), np.asarray(counts.cells[name])
        statistic, degrees, p_value = chi_square(reference, current)
        largest = None
        if isinstance(column, NumberProfile):
            largest = _ordered_distance(reference, current)
            p_value = kolmogorov_tail(largest * math.sqrt(_effective(reference[:-1].sum(), current[:-1].sum())))
        found[name] = Distances(
            jensen_shannon=jensen_shannon(reference, current),
            population_stability=population_stability(reference, current),
            kolmogorov_smirnov=largest,
            chi_square=statistic,
            degrees=degrees,
            p_value=p_value,
        )
    return found


def drift_scores(profile: Profile, counts: Counts) -> dict[str, float]:
    """Return one comparable score a column: for independent rows without drift, whatever their number, its deviation is
    about 1 and its mean within about 1 of 0 (lower where many rows share a value, higher with many rare categories).

    Numbers: the Kolmogorov-Smirnov distance times sqrt(n m / (n + m)), standardised by Kolmogorov's distribution.
    Categories, and the share of missing values of a number column where there are any: 8 (n m / (n + m)) times the
    Jensen-Shannon divergence, which is asymptotically chi-square but, unlike Pearson's statistic, finite and calm for
    rare categories; made normal by Wilson and Hilferty's cube root. A number column scores the larger of its two.
    New names are expected as often as names occurred once in the reference (Good & Turing). Rows that depend on
    each other score higher: `ColumnScales` takes that away. Cost: O(cells), under 1 ms for 20
    columns. Raises ValueError for an empty window or counts of another profile.

    >>> profile = Profile.of({"x": np.arange(1000.0)}, {"x": "number"})
    >>> same = drift_scores(profile, count(profile, {"x": np.arange(0.0, 1000.0, 5.0)}))["x"]
    >>> moved = drift_scores(profile, count(profile, {"x": np.arange(0.0, 1000.0, 5.0) + 300.0}))["x"]
    >>> same < 0.0, moved > 8.0
    (True, True)
    """
    _check_counts(profile, counts)
    scores = {}
    for name, column in profile.columns.items():
        current = np.asarray(counts.cells[name])
        if isinstance(column, CategoryProfile):
            scores[name] = _category_score(_expected_cells(column), current)
        else:
            scores[name] = _number_score(np.asarray(column.cells), current)
    return scores


def window_score(scores: Mapping[str, float], scales: ColumnScales | None = None) -> float:
    """Return one number for a window: ln of the mean over columns of exp(standardised score).

    A soft maximum: one column that moves far is seen among many, and many that move a little are seen too; averaging
    exponentials is what averaging evidence does, so dependent columns do no harm. Columns without a scale count as
    location 0 and scale 1. Cost: O(columns). Raises ValueError for no columns or a score that is NaN.

    >>> round(window_score({"a": 0.0, "b": 0.0}), 3), round(window_score({"a": 6.0, "b": 0.0}), 3)
    (0.0, 5.309)
    """
    if not scores:
        raise ValueError("a window without columns has no score")
    known = scales or ColumnScales()
    standardised = np.array(
        [(score - known.location.get(name, 0.0)) / known.scale.get(name, 1.0) for name, score in scores.items()]
    )
    if bool(np.isnan(standardised).any()):
        raise ValueError(f"the drift score of column {list(scores)[int(np.argmax(np.isnan(standardised)))]!r} is NaN")
    top = float(standardised.max())
    return top + math.log(float(np.exp(standardised - top).mean()))


def _number_profile(values: NDArray[np.float64]) -> NumberProfile:
    present = values[~np.isnan(values)]
    if present.size == 0:
        return NumberProfile(edges=(), cells=(0, int(values.size)))
    # Levels leave room for the cells below the minimum, above the maximum and for missing values. Values that several
    # levels fall on are atoms: an edge just below them gives them a cell of their own.
    ordered = np.sort(present)
    levels = np.quantile(ordered, np.linspace(0.0, 1.0, _MOST_CELLS - 3), method="inverted_cdf")
    distinct, repeats = np.unique(levels, return_counts=True)
    shared = np.searchsorted(ordered, distinct, side="right") - np.searchsorted(ordered, distinct, side="left")
    atoms = np.append(distinct[(repeats > 1) & (shared > 1)], distinct[0])
    with np.errstate(over="ignore"):  # below the most negative float lies minus infinity
        edges = np.unique(np.concatenate([distinct, np.nextafter(atoms, -np.inf)]))
    edges = edges[np.isfinite(edges)]  # an infinite edge parts nothing, and JSON has no word for it
    return NumberProfile(edges=tuple(float(edge) for edge in edges), cells=_number_cells(values, edges))


def _number_cells(values: NDArray[np.float64], edges: NDArray[np.float64]) -> tuple[int, ...]:
    missing = np.isnan(values)
    absent = int(np.count_nonzero(missing))
    present = values[~missing] if absent else values
    counted = np.bincount(np.searchsorted(edges, present, side="left"), minlength=edges.size + 1)
    return (*counted.tolist(), absent)


def _category_profile(values: Values) -> CategoryProfile:
    tally, missing = _tally(values)
    ranked = sorted(tally.items(), key=lambda item: (-item[1], item[0]))
    known, rest = ranked[:_MOST_NAMES], ranked[_MOST_NAMES:]
    return CategoryProfile(
        names=tuple(name for name, _ in known),
        rare=tuple(name for name, _ in rest[:_MOST_RARE]),
        open_ended=len(rest) > _MOST_RARE,
        once=sum(number == 1 for number in tally.values()),
        cells=(*(number for _, number in known), sum(number for _, number in rest), 0, missing),
    )


def _category_cells(values: Values, profile: CategoryProfile) -> tuple[int, ...]:
    tally, missing = _tally(values)
    known = [tally.pop(name, 0) for name in profile.names]
    if profile.open_ended:
        return (*known, sum(tally.values()), 0, missing)
    rare = set(profile.rare)
    other = sum(number for name, number in tally.items() if name in rare)
    return (*known, other, sum(tally.values()) - other, missing)


def _tally(values: Values) -> tuple[dict[str, int], int]:
    """How often each name occurs, written as text, and how many are missing."""
    tally: dict[str, int] = {}
    missing = 0
    for value, number in Counter(np.asarray(values).tolist()).items():
        if value is None or value != value:
            missing += number
        else:
            name = value if isinstance(value, str) else str(value)
            tally[name] = tally.get(name, 0) + number
    return tally, missing


def _row_count(columns: Mapping[str, Values], needed: Mapping[str, object]) -> int:
    absent = [name for name in needed if name not in columns]
    if absent:
        raise ValueError(f"the columns {', '.join(map(repr, absent[:5]))} are missing")
    lengths = {len(columns[name]) for name in needed}
    if len(lengths) > 1:
        raise ValueError(f"columns differ in length: {sorted(lengths)}")
    return lengths.pop() if lengths else 0


def _check_counts(profile: Profile, counts: Counts) -> None:
    if counts.rows == 0:
        raise ValueError("the window is empty: there is nothing to compare")
    wrong = [name for name, column in profile.columns.items() if len(counts.cells.get(name, ())) != len(column.cells)]
    if wrong:
        raise ValueError(f"the counts are of another profile: column {wrong[0]!r} does not fit")


def _shares(
    reference: NDArray[np.generic], current: NDArray[np.generic]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    p, q = np.asarray(reference, dtype=np.float64), np.asarray(current, dtype=np.float64)
    if p.shape != q.shape:
        raise ValueError(f"samples with {p.size} and {q.size} cells cannot be compared")
    n, m = float(p.sum()), float(q.sum())
    if n <= 0.0 or m <= 0.0:
        raise ValueError("an empty sample has no distribution")
    return p / n, q / m


def _divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """The Jensen-Shannon divergence, in nats."""
    middle = (p + q) / 2.0
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0.0, p * np.log(p / middle), 0.0) + np.where(q > 0.0, q * np.log(q / middle), 0.0)
    return max(0.0, float(terms.sum()) / 2.0)


def _effective(reference_rows: float, current_rows: float) -> float:
    return float(reference_rows) * float(current_rows) / max(float(reference_rows + current_rows), 1.0)


def _ordered_distance(reference: CellCounts, current: CellCounts) -> float:
    """The Kolmogorov-Smirnov distance of what is present; 0 where either has nothing present, which the missing share
    tells.
    """
    if reference[:-1].sum() == 0 or current[:-1].sum() == 0:
        return 0.0
    return kolmogorov_smirnov(reference[:-1], current[:-1])


def _number_score(reference: CellCounts, current: CellCounts) -> float:
    effective = _effective(reference[:-1].sum(), current[:-1].sum())
    score = (_ordered_distance(reference, current) * math.sqrt(effective) - _KOLMOGOROV_MEAN) / _KOLMOGOROV_DEVIATION
    if reference[-1] == 0 and current[-1] == 0:
        return score
    by_presence = [np.array([cells[:-1].sum(), cells[-1]]) for cells in (reference, current)]
    return max(score, _category_score(*by_presence))


def _expected_cells(profile: CategoryProfile) -> CellCounts:
    """The reference's counts with the new names it leads one to expect: as many as occurred once (Good & Turing)."""
    cells = np.array(profile.cells)
    if not profile.open_ended:
        other, new = len(profile.names), len(profile.names) + 1
        cells[other] -= min(profile.once, int(cells[other]))
        cells[new] += profile.once
    return cells


def _category_score(reference: CellCounts, current: CellCounts) -> float:
    """The standardised divergence; cells in which the window should have less than one row are pooled into one."""
    sparse = reference * current.sum() < reference.sum()
    if np.count_nonzero(sparse) > 1:
        reference = np.append(reference[~sparse], reference[sparse].sum())
        current = np.append(current[~sparse], current[sparse].sum())
    degrees = max(int(np.count_nonzero(reference + current)) - 1, 1)
    statistic = 8.0 * _effective(reference.sum(), current.sum()) * _divergence(*_shares(reference, current))
    spread = 2.0 / (9.0 * degrees)
    return (math.pow(statistic / degrees, 1.0 / 3.0) - (1.0 - spread)) / math.sqrt(spread)
