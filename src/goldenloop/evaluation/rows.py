"""Equal rows, found by codes: a whole number for each distinct row."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from goldenloop.stats.losses import Values, as_text

Codes = NDArray[np.int64]


def row_codes(columns: Mapping[str, Values]) -> Codes:
    """Return a code for each row: two rows have the same one where all their values are equal, missing ones included.

    Cost: O(columns * rows log rows). Raises ValueError for columns of different lengths, or none.

    >>> row_codes({"x": np.array([1.0, 2.0, 1.0]), "c": np.array(["a", "a", "a"])}).tolist()
    [0, 1, 0]
    """
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise ValueError(f"columns of {sorted(lengths)} rows are not one table")
    codes: Codes = np.zeros(lengths.pop(), dtype=np.int64)
    for values in columns.values():
        of_column = _codes(values)
        # Coded anew after each column, so that numbers stay below rows^2.
        _, codes = np.unique(codes * (int(of_column.max(initial=0)) + 1) + of_column, return_inverse=True)
    return codes


def _codes(values: Values) -> Codes:
    array = np.asarray(values)
    if array.dtype.kind in "fiub":
        _, codes = np.unique(array.astype(np.float64), return_inverse=True, equal_nan=True)
    else:
        texts = ["" if text is None else text for text in as_text(array).tolist()]
        _, codes = np.unique(np.array(texts, dtype=str), return_inverse=True)
    return codes.astype(np.int64)
