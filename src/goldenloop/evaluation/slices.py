"""Parts of an evaluation set on which a model must not be worse: each column of few values is one way to cut it.

Columns that a person declares are always used, numbers by the quartiles of the evaluation set; others only when they
are categories with few values, since a number cut without a reason tells nobody anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.signatures import ColumnKind
from goldenloop.stats.losses import Values, as_numbers, as_text, is_missing

MOST_VALUES = 20
MISSING = "(missing)"


def slices_of(
    columns: Mapping[str, Values], kinds: Mapping[str, ColumnKind], *, declared: tuple[str, ...] = ()
) -> dict[str, NDArray[np.object_]]:
    """Return for each column to cut by the name of the slice that each row belongs to.

    A category column takes part when it has 2 to 20 values; a declared one also with more, its rarer values then
    pooled as `(other)`. Missing values are a slice of their own. Raises InvalidSpecError for a declared column that
    is not there.

    >>> cut = slices_of({"city": np.array(["a", "b", "a"])}, {"city": "category"})
    >>> cut["city"].tolist()
    ['a', 'b', 'a']
    """
    absent = [name for name in declared if name not in columns]
    if absent:
        raise InvalidSpecError(
            f"slices are declared by the column {absent[0]!r}, which the evaluation set does not have",
            where="spec.data.protected",
            mend=f"Its columns are: {', '.join(sorted(columns))}.",
        )
    found: dict[str, NDArray[np.object_]] = {}
    for name, kind in kinds.items():
        if name not in columns:
            continue
        if kind == "category":
            named = _by_value(columns[name], pool=name in declared)
        elif name in declared:
            named = _by_quartile(as_numbers(columns[name], what=name))
        else:
            continue
        if named is not None:
            found[name] = named
    for name in declared:
        if name not in kinds:
            named = _by_value(columns[name], pool=True)
            if named is not None:
                found[name] = named
    return found


def _by_value(values: Values, *, pool: bool) -> NDArray[np.object_] | None:
    """Each row's value as text; None where there is one value only, or too many."""
    named = as_text(values)
    named[is_missing(values)] = MISSING
    distinct, inverse, counts = np.unique(named.astype(str), return_inverse=True, return_counts=True)
    if distinct.size < 2 or (distinct.size > MOST_VALUES and not pool):
        return None
    if distinct.size > MOST_VALUES:
        rare = np.argsort(-counts, kind="stable")[MOST_VALUES - 1 :]
        distinct = distinct.astype(object)
        distinct[rare] = "(other)"
    return distinct.astype(object)[inverse]


def _by_quartile(numbers: NDArray[np.float64]) -> NDArray[np.object_] | None:
    """Each row's quartile, named by its limits; None where the column is constant or has no numbers."""
    present = numbers[np.isfinite(numbers)]
    if present.size == 0 or float(np.ptp(present)) == 0.0:
        return None
    limits = np.unique(np.quantile(present, (0.25, 0.5, 0.75), method="inverted_cdf"))
    names = [f"<= {limits[0]:g}", *(f"{low:g} to {high:g}" for low, high in pairwise(limits))]
    names.append(f"> {limits[-1]:g}")
    named = np.array([*names, MISSING], dtype=object)
    places = np.searchsorted(limits, numbers, side="left")
    return named[np.where(np.isnan(numbers), len(names), places)]
