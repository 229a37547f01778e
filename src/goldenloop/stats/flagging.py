"""Which rows are stranger than rows of the reference are: conformal p-values against held-out scores.

A row's p-value is its rank among scores of reference rows that nothing was fitted on, so that of rows like the
reference at most the share `rate` is flagged on average (Bates, Candès, Lei, Romano & Sesia, "Testing for outliers with
conformal p-values", Annals of Statistics 51, 2023). It holds where rows are exchangeable with the reference; in a
drifted window many rows are strange.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.stats.intervals import wilson_interval
from goldenloop.stats.measured import Measured, counted, joined, measured, unmeasured
from goldenloop.stats.proportions import count_tails

MOST_FLAGGED = 50  # rows of a window that are named, the strangest


class FlaggedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A flagged row: its place in the window, its score and its conformal p-value."""

    row: int
    score: float
    p_value: float


class FlaggedRows(msgspec.Struct, frozen=True, kw_only=True):
    """The share of flagged rows of a window, with the p-value of "no more than the rate", and the strangest of them."""

    share: Measured
    threshold: float | None = None
    flagged: tuple[FlaggedRow, ...] = ()


def conformal_threshold(held_out: Sequence[float], rate: float) -> float | None:
    """Return the score above which at most the share `rate` of rows like the reference lies; None where the held-out
    scores (ascending) are too few for so small a rate: 1 / rate - 1 are needed.

    >>> held = [float(i) for i in range(99)]
    >>> conformal_threshold(held, 0.01), conformal_threshold(held, 0.02), conformal_threshold(held, 0.001)
    (98.0, 97.0, None)
    """
    allowed = _allowed(len(held_out), rate)
    return held_out[-allowed] if 1 <= allowed <= len(held_out) else None


def conformal_p_values(held_out: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (1 + held-out scores at least as high) / (1 + held-out scores) for each score; held-out ones ascending.

    >>> conformal_p_values(np.array([1.0, 2.0, 3.0]), np.array([2.0, 9.0])).tolist()
    [0.75, 0.25]
    """
    at_least = held_out.size - np.searchsorted(held_out, scores, side="left")
    p_values: NDArray[np.float64] = (1.0 + at_least.astype(np.float64)) / (1.0 + held_out.size)
    return p_values


def flag_rows(
    held_out: Sequence[float], scores: NDArray[np.float64], *, rate: float = 0.01, note: str = ""
) -> FlaggedRows:
    """Return the share of rows flagged at `rate`, with Wilson's interval, and the strangest 50 of them.

    The p-value is of "at most `rate` of the rows are as strange": beta-binomial, since all rows are compared with the
    same held-out ones. Rows must be independent. A score that is NaN is never flagged and does not count. Cost:
    O(rows). Raises ValueError for a rate outside (0, 1).
    """
    if not 0.0 < rate < 1.0:
        raise ValueError(f"a rate of flagged rows lies between 0 and 1, not {rate}")
    known = int(np.count_nonzero(~np.isnan(scores)))
    if known == 0:
        return FlaggedRows(share=unmeasured(joined("no row has a score", note)))
    held = len(held_out)
    threshold = conformal_threshold(held_out, rate)
    if threshold is None:
        needed = f"{math.ceil(1.0 / rate - 1e-9) - 1} are needed to flag {rate:g} of the rows"
        return FlaggedRows(share=unmeasured(joined(f"{counted(held, 'held-out row')}; {needed}", note), rows=known))
    with np.errstate(invalid="ignore"):
        places = np.flatnonzero(scores > threshold)
    _, upper = count_tails(int(places.size), known, reference_successes=_allowed(held, rate), reference_trials=held)
    strangest = places[np.argsort(-scores[places], kind="stable")][:MOST_FLAGGED]
    p_values = conformal_p_values(np.asarray(held_out), scores[strangest])
    return FlaggedRows(
        share=measured(wilson_interval(int(places.size), known), rows=known, p_value=upper, note=note),
        threshold=threshold,
        flagged=tuple(
            FlaggedRow(row=row, score=score, p_value=p_value)
            for row, score, p_value in zip(
                strangest.tolist(), scores[strangest].tolist(), p_values.tolist(), strict=True
            )
        ),
    )


def _allowed(held_out: int, rate: float) -> int:
    return math.floor(rate * (held_out + 1) + 1e-9)
