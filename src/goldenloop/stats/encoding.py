"""Mixed columns as a matrix of numbers that distances and trees can use, in the same way for ever.

Numbers: (value - median) / (interquartile range / 1.349), which is a normal's standard deviation, cut at ±1e6.
Categories: how rare the name is, ln(most frequent count / its count), 0 for the most frequent; a name that the
reference did not have counts as half a row. A missing number is 0, the median; a missing category is a name like others
where the reference had it: how often values are missing is a question of its own (`ranges.missing_change`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.stats.losses import Values, as_numbers, as_text
from goldenloop.stats.profiles import Kind

MOST_COLUMNS = 256  # encoded; of more, the first ones that vary, which the note of a scorer says

_FURTHEST = 1e6
_NORMAL_QUARTILES = 1.3489795003921634  # between the quartiles of a standard normal
_MOST_NAMES = 1_000
_MISSING = "\x00missing"


class NumberEncoding(msgspec.Struct, frozen=True, kw_only=True, tag="number"):
    """(value - centre) / scale."""

    centre: float
    scale: float


class CategoryEncoding(msgspec.Struct, frozen=True, kw_only=True, tag="category"):
    """The rarity of each name; `unknown` for a name that is not among them."""

    rarity: dict[str, float]
    unknown: float


class Encoding(msgspec.Struct, frozen=True, kw_only=True):
    """One encoding a column, in the order of the matrix. `left_out`: columns that did not vary, or were too many."""

    columns: dict[str, NumberEncoding | CategoryEncoding]
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(cls, columns: Mapping[str, Values], kinds: Mapping[str, Kind]) -> Encoding:
        """Learn from reference rows. A column of which no value differs from another is left out, and so are columns
        after the first 256 that vary. Cost: O(rows log rows) a column. Raises ValueError for a column that is missing
        or text in a number column.
        """
        found: dict[str, NumberEncoding | CategoryEncoding] = {}
        left_out = []
        for name, kind in kinds.items():
            if name not in columns:
                raise ValueError(f"the column {name!r} is missing")
            if len(found) >= MOST_COLUMNS:
                left_out.append(name)
                continue
            values = columns[name]
            encoding = _category(values) if kind == "category" else _number(as_numbers(values, what=name))
            if encoding is None:
                left_out.append(name)
            else:
                found[name] = encoding
        return cls(columns=found, left_out=tuple(left_out))

    def matrix(self, columns: Mapping[str, Values]) -> NDArray[np.float64]:
        """The rows as numbers, all finite. Cost: about 40 ns a cell. Raises ValueError for a column that is missing,
        unequal lengths, or text in a number column.
        """
        lengths = {len(columns[name]) for name in self.columns if name in columns}
        if len(lengths) > 1:
            raise ValueError(f"columns differ in length: {sorted(lengths)}")
        encoded = np.zeros((lengths.pop() if lengths else 0, len(self.columns)))
        for place, (name, encoding) in enumerate(self.columns.items()):
            if name not in columns:
                raise ValueError(f"the column {name!r} is missing")
            if isinstance(encoding, NumberEncoding):
                encoded[:, place] = _scaled(as_numbers(columns[name], what=name), encoding)
            else:
                encoded[:, place] = _rarities(columns[name], encoding)
        return encoded

    def row(self, values: Mapping[str, object]) -> list[float]:
        """One row as numbers; a value that is missing or cannot be read counts as missing. Cost: about 0.2 us a cell."""
        encoded = []
        for name, encoding in self.columns.items():
            value = values.get(name)
            if isinstance(encoding, CategoryEncoding):
                known = encoding.rarity.get(value if isinstance(value, str) else name_of(value))
                encoded.append(encoding.unknown if known is None else known)
            elif isinstance(value, (int, float)) and value == value:
                scaled = (float(value) - encoding.centre) / encoding.scale
                encoded.append(-_FURTHEST if scaled < -_FURTHEST else min(scaled, _FURTHEST))
            else:
                encoded.append(0.0)
        return encoded


def text_length(values: Values) -> NDArray[np.float64]:
    """The number of characters of each text, NaN where it is missing: free text as a number column.

    >>> text_length(np.array(["", "abc", None], dtype=object)).tolist()
    [0.0, 3.0, nan]
    """
    return np.array([math.nan if text is None else float(len(text)) for text in as_text(values).tolist()], dtype=float)


def embedding_columns(name: str, vectors: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """A matrix of embeddings as number columns "name[0]", "name[1]", … Raises ValueError for another shape."""
    matrix = np.asarray(vectors, dtype=np.float64)
    if matrix.ndim != 2:
        raise ValueError(f"embeddings of {name!r} must be rows by numbers, not an array of {matrix.ndim} dimensions")
    return {f"{name}[{place}]": matrix[:, place] for place in range(matrix.shape[1])}


def _number(values: NDArray[np.float64]) -> NumberEncoding | None:
    present = values[np.isfinite(values)]
    if present.size == 0 or float(present.min()) == float(present.max()):
        return None
    with np.errstate(all="ignore"):
        low, centre, high = np.quantile(present, (0.25, 0.5, 0.75))
        scale = float(high - low) / _NORMAL_QUARTILES or float(present.std())
    if not math.isfinite(scale) or scale == 0.0:
        return None
    return NumberEncoding(centre=float(centre), scale=scale)


def _category(values: Values) -> CategoryEncoding | None:
    names, numbers = np.unique(_texts(values), return_counts=True)
    if names.size < 2:
        return None
    largest = float(numbers.max())
    kept = np.argsort(-numbers, kind="stable")[:_MOST_NAMES].tolist()
    rarity = {str(names[place]): math.log(largest / float(numbers[place])) for place in kept}
    rarest = math.log(largest / float(numbers.min())) if names.size > _MOST_NAMES else math.log(2.0 * largest)
    return CategoryEncoding(rarity=rarity, unknown=rarest)


def _scaled(values: NDArray[np.float64], encoding: NumberEncoding) -> NDArray[np.float64]:
    with np.errstate(all="ignore"):
        scaled = (values - encoding.centre) / encoding.scale
        well = math.isfinite(float(scaled.sum()))
    if not well:  # one pass instead of three where all is
        scaled = np.nan_to_num(scaled, nan=0.0, posinf=_FURTHEST, neginf=-_FURTHEST)
    return np.clip(scaled, -_FURTHEST, _FURTHEST)


def _rarities(values: Values, encoding: CategoryEncoding) -> NDArray[np.float64]:
    rarity, unknown = encoding.rarity, encoding.unknown
    raw = np.asarray(values).tolist()
    try:
        return np.array([rarity.get(value, unknown) for value in map(name_of, raw)])
    except TypeError:  # something that cannot be a name, as a list
        return np.full(len(raw), unknown)


def _texts(values: Values) -> NDArray[np.str_]:
    return np.array([name_of(value) for value in np.asarray(values).tolist()], dtype=str)


def name_of(value: object) -> str:
    """A category as text, the way `losses.as_text` writes it."""
    if isinstance(value, str):
        return value
    if value is None or value != value:
        return _MISSING
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
