"""Two groups that were dealt out at random, compared row by row in the order in which they came.

Each row falls into either group with the same chance, drawn anew for each unit (a request, or the first one of a key).
With s = +1 for the baseline and -1 for the challenger, and any centre c that was fixed before the row came,
s * (loss - c) has the conditional mean (baseline's mean loss - challenger's mean loss) / 2 at that very moment. So the
level of the loss may drift and the size of both groups may change at any time: only what came at the same time, with the
same chance, is compared. A centre near the mean loss takes the common noise out; the running mean of what came before is
one. (Horvitz & Thompson 1952 with a control variate; the bets on it are those of `goldenloop.stats.betting`.)
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray


class Centre(msgspec.Struct, frozen=True, kw_only=True):
    """The running mean of the losses so far; one half before the first."""

    count: int = 0
    total: float = 0.0

    @property
    def value(self) -> float:
        return (self.total + 0.5) / (self.count + 1)


def signed_losses(
    losses: NDArray[np.float64], is_challenger: NDArray[np.bool_], centre: Centre
) -> tuple[NDArray[np.float64], Centre]:
    """Return s * (loss - centre) for each row, in [-1, 1], and the centre after them. The centre of a row is fixed by the
    rows before it.

    It needs equal chances: where a group is twice as large its rows must not all be given. Cost: O(rows). Raises
    ValueError for unequal lengths and losses outside [0, 1].

    >>> values, after = signed_losses(np.array([1.0, 0.0]), np.array([False, True]), Centre())
    >>> values.tolist(), after.count
    ([0.5, 0.75], 2)
    """
    if losses.shape != is_challenger.shape:
        raise ValueError(f"{losses.shape} losses of {is_challenger.shape} rows")
    if losses.size == 0:
        return losses, centre
    if not bool(np.all((losses >= 0.0) & (losses <= 1.0))):
        raise ValueError("a loss lies between 0 and 1")
    before = np.concatenate([[0.0], np.cumsum(losses)[:-1]]) + centre.total
    counts = centre.count + np.arange(losses.size)
    centres = (before + 0.5) / (counts + 1)
    signs = np.where(is_challenger, -1.0, 1.0)
    after = Centre(count=centre.count + int(losses.size), total=centre.total + float(losses.sum()))
    return signs * (losses - centres), after


def paired_by_turns(directions: NDArray[np.bool_], outcomes: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return outcome differences, in {-1, 0, 1}, of rows of one direction less rows of the other, each with its neighbour.

    The n-th row of the one direction is paired with the n-th of the other; what has no partner is left out. Where the
    outcome does not depend on the direction the mean is zero.

    >>> paired_by_turns(np.array([True, False, True]), np.array([True, False, False])).tolist()
    [1.0]
    """
    first, second = outcomes[directions].astype(np.float64), outcomes[~directions].astype(np.float64)
    pairs = min(first.size, second.size)
    return first[:pairs] - second[:pairs]
