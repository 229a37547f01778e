"""The noise that data really has, learned from reference rows, to be put on other rows.

- `jitter`: numbers move by at most one unit of the last digit they are reported with, or by 5 % of their spread, if
  that is more, and are rounded to their digits again.
- `missing`: values go missing as often as they are missing in the reference.
- `swap`: one category in twenty becomes another one, drawn as often as it occurs.
- `shift`: all numbers move together by 10 % of their spread, each column up or down.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.stats.losses import Values, as_numbers, is_missing
from goldenloop.stats.profiles import Kind

NoiseKind: TypeAlias = Literal["jitter", "missing", "swap", "shift"]
# Rows as columns in; out come probabilities (rows by classes), numbers, or answers as they are.
Predict: TypeAlias = Callable[[dict[str, Values]], NDArray[np.generic]]

NOISES: tuple[NoiseKind, ...] = ("jitter", "missing", "swap", "shift")

_JITTER = 0.05
_SHIFT = 0.1
_SWAPPED = 0.05
_MOST_NAMES = 100
_MOST_DIGITS = 6
_NORMAL_QUARTILES = 1.3489795003921634


class NumberNoise(msgspec.Struct, frozen=True, kw_only=True, tag="number"):
    """`unit`: of the last reported digit, 0 where there is none. `spread`: robust standard deviation."""

    unit: float
    spread: float
    missing: float


class CategoryNoise(msgspec.Struct, frozen=True, kw_only=True, tag="category"):
    """The names (at most 100) and their shares, and the share of missing values."""

    names: tuple[str | bool | int | float, ...]
    shares: tuple[float, ...]
    missing: float


class Noise(msgspec.Struct, frozen=True, kw_only=True):
    """What noise each column has."""

    columns: dict[str, NumberNoise | CategoryNoise]

    @classmethod
    def of(cls, columns: Mapping[str, Values], kinds: Mapping[str, Kind]) -> Noise:
        """Learn from reference rows. Cost: O(rows log rows) a column. Raises ValueError for a column that is missing or
        text in a number column.

        >>> noise = Noise.of({"x": np.array([1.5, 2.25, 4.0, np.nan])}, {"x": "number"})
        >>> noise.columns["x"].unit, noise.columns["x"].missing
        (0.01, 0.25)
        """
        found: dict[str, NumberNoise | CategoryNoise] = {}
        for name, kind in kinds.items():
            if name not in columns:
                raise ValueError(f"the column {name!r} is missing")
            found[name] = (
                _category_noise(columns[name]) if kind == "category" else _number_noise(as_numbers(columns[name]))
            )
        return cls(columns=found)

    def suffered(self, kind: NoiseKind) -> tuple[str, ...]:
        """The columns that this kind of noise touches."""
        return tuple(name for name, column in self.columns.items() if _touches(kind, column))

    def apply(
        self, kind: NoiseKind, columns: Mapping[str, Values], generator: np.random.Generator
    ) -> dict[str, Values]:
        """The rows with this noise on them; what came is not changed. Columns it does not know stay as they are.

        Cost: O(cells). Raises ValueError for text in a number column.
        """
        noisy = dict(columns)
        for name, column in self.columns.items():
            if name in noisy and _touches(kind, column):
                if kind == "missing":
                    noisy[name] = _with_missing(noisy[name], column, generator)
                elif isinstance(column, CategoryNoise):
                    noisy[name] = _swapped(noisy[name], column, generator)
                else:
                    noisy[name] = _moved(kind, as_numbers(noisy[name], what=name), column, generator)
        return noisy


def answers_and_levels(said: NDArray[np.generic]) -> tuple[NDArray[np.generic], NDArray[np.float64] | None]:
    """What a model said as one answer a row, and as numbers whose change can be measured (rows by numbers).

    Probabilities: the most probable class, and the probabilities. Numbers: themselves twice. Names: no numbers.
    """
    array = np.asarray(said)
    if array.ndim == 2:
        levels = array.astype(np.float64)
        if levels.shape[1] == 0:
            raise ValueError("a model that answers with no class has no answers")
        return np.where(np.isfinite(levels), levels, -1.0).argmax(axis=1), levels
    if array.ndim != 1:
        raise ValueError(f"answers must be a column or rows by classes, not an array of {array.ndim} dimensions")
    if array.dtype.kind in "fiu":
        return array, array.astype(np.float64)[:, None]
    return array, None


def _touches(kind: NoiseKind, column: NumberNoise | CategoryNoise) -> bool:
    if kind == "missing":
        return column.missing > 0.0
    if kind == "swap":
        return isinstance(column, CategoryNoise) and len(column.names) > 1
    return isinstance(column, NumberNoise) and column.spread > 0.0


def _number_noise(values: NDArray[np.float64]) -> NumberNoise:
    present = values[np.isfinite(values)]
    missing = float(np.isnan(values).mean()) if values.size else 0.0
    if present.size == 0:
        return NumberNoise(unit=0.0, spread=0.0, missing=missing)
    with np.errstate(all="ignore"):
        low, high = np.quantile(present, (0.25, 0.75))
        spread = float(high - low) / _NORMAL_QUARTILES or float(present.std())
    return NumberNoise(unit=_reported_unit(present), spread=spread if np.isfinite(spread) else 0.0, missing=missing)


def _reported_unit(present: NDArray[np.float64]) -> float:
    """The largest power of ten, at most 1, of which all numbers are multiples; 0 where digits go on."""
    some = present[:1_000]
    if float(np.abs(some).max()) > 1e9:
        return 0.0
    for digits in range(_MOST_DIGITS + 1):
        if bool((np.abs(np.round(some, digits) - some) <= 1e-9 * np.maximum(np.abs(some), 1.0)).all()):
            return float(10.0**-digits)
    return 0.0


def _category_noise(values: Values) -> CategoryNoise:
    gone = is_missing(values)
    tally = Counter(np.asarray(values)[~gone].tolist()).most_common(_MOST_NAMES)
    total = sum(number for _, number in tally)
    return CategoryNoise(
        names=tuple(name for name, _ in tally),
        shares=tuple(number / total for _, number in tally),
        missing=float(gone.mean()) if gone.size else 0.0,
    )


def _with_missing(values: Values, column: NumberNoise | CategoryNoise, generator: np.random.Generator) -> Values:
    gone = generator.random(len(values)) < column.missing
    if isinstance(column, NumberNoise):
        return np.where(gone, np.nan, as_numbers(values))
    names = np.asarray(values).astype(object)
    names[gone] = None
    return names


def _swapped(values: Values, column: CategoryNoise, generator: np.random.Generator) -> Values:
    names = np.asarray(values).astype(object)
    swapped = generator.random(names.size) < _SWAPPED
    drawn = generator.choice(len(column.names), size=int(np.count_nonzero(swapped)), p=column.shares)
    known = np.empty(len(column.names), dtype=object)
    known[:] = column.names
    names[swapped] = known[drawn]
    return names


def _moved(
    kind: NoiseKind, values: NDArray[np.float64], column: NumberNoise, generator: np.random.Generator
) -> NDArray[np.float64]:
    with np.errstate(all="ignore"):
        if kind == "shift":
            moved = values + float(generator.choice((-1.0, 1.0))) * max(_SHIFT * column.spread, column.unit)
        else:
            moved = values + generator.uniform(-1.0, 1.0, values.size) * max(column.unit, _JITTER * column.spread)
        return np.round(moved / column.unit) * column.unit if column.unit else moved
