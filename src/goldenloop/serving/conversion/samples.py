"""Rows to compare two forms of a model on when nobody gives any: around what the model itself says matters.

Numbers lie near the places where the answer changes (a split, a mean), on both sides of each, and beyond them; categories are those that
the encoders know, and one that they do not. A model that takes missing values gets some. The rows are the same each time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from goldenloop.serving.conversion.hints import Hints

if TYPE_CHECKING:
    import pyarrow

ROWS = 3_000
_SEED = 23
_MISSING_SHARE = 0.04  # of the cells
_UNKNOWN_SHARE = 0.02
_DISTANCES = (1e-3, 3e-2, 0.5)  # from a point, in spreads: next to it, near it, and beyond the next ones
_UNKNOWN = "a category that nobody knows"


def samples_of(hints: Mapping[str, Hints]) -> Iterator[pyarrow.Table]:
    """Tables to try: with missing and unknown values, then without what the model may not take."""
    import pyarrow

    has_categories = any(_is_text(column) for column in hints.values())
    for missing, unknown in ((True, True), (False, True), (True, False), (False, False)):
        if unknown and not has_categories and not missing:
            continue  # the same as without
        generator = np.random.default_rng(_SEED)
        columns = {
            name: _texts(generator, column, missing=missing, unknown=unknown)
            if _is_text(column)
            else _numbers(generator, column, missing=missing)
            for name, column in hints.items()
        }
        yield pyarrow.table(columns)


def _is_text(column: Hints) -> bool:
    return any(isinstance(value, str | bool) for value in column.values)


def _numbers(generator: np.random.Generator, column: Hints, *, missing: bool) -> NDArray[np.float64]:
    """NaN stands for a missing number, as a data frame has it."""
    known = [float(value) for value in column.values if isinstance(value, int | float)]
    if known:
        numbers = generator.choice(np.array(known), ROWS)
    elif column.points:
        points = np.unique(np.array(column.points))
        spread = max(column.spreads, default=0.0) or float(np.ptp(points)) or float(np.abs(points).max()) or 1.0
        distance = generator.choice(np.array(_DISTANCES), ROWS) * generator.uniform(0.2, 1.0, ROWS)
        numbers = generator.choice(points, ROWS) + spread * distance * generator.choice(np.array([-1.0, 1.0]), ROWS)
    else:
        numbers = generator.normal(size=ROWS) * generator.choice(np.array([1.0, 10.0, 100.0]), ROWS)
    if missing:
        numbers[generator.random(ROWS) < _MISSING_SHARE] = np.nan
    return numbers


def _texts(generator: np.random.Generator, column: Hints, *, missing: bool, unknown: bool) -> pyarrow.Array:
    import pyarrow

    values: list[object] = sorted({value for value in column.values if value is not None}, key=str)
    are_truths = all(isinstance(value, bool) for value in values)
    chosen: list[object] = [values[place] for place in generator.integers(0, len(values), ROWS)]
    for place, draw in enumerate(generator.random(ROWS).tolist()):
        if missing and draw < _MISSING_SHARE and None in column.values:
            chosen[place] = None
        elif unknown and not are_truths and draw > 1 - _UNKNOWN_SHARE:
            chosen[place] = _UNKNOWN
    return pyarrow.array(chosen)
