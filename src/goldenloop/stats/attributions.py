"""Which column made the answer what it is: Shapley values of one row, for any model that scores columns.

Sources: Shapley (1953); Strumbelj & Kononenko, "Explaining prediction models and individual predictions with feature
contributions", Knowledge and Information Systems 41 (2014); antithetic orders as in Mitchell, Cooper, Frank & Holmes,
JMLR 23 (2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.stats.losses import Values

Cell: TypeAlias = float | int | str | bool | None
Score: TypeAlias = Callable[[dict[str, Values]], NDArray[np.float64]]

_BATCH = 20_000  # most rows scored in one call


class Attribution(msgspec.Struct, frozen=True, kw_only=True):
    """One column's part of the answer: `value` as it came, `contribution` in the score's unit, `error` its standard
    error.
    """

    name: str
    value: Cell
    contribution: float
    error: float | None


def attribute(
    score: Score, row: Mapping[str, Cell], background: Mapping[str, Values], *, permutations: int = 4, seed: int = 0
) -> tuple[Attribution, ...]:
    """Return the Shapley value of each column of `row` against the `background` rows, in the row's order of columns.

    A column's value is the mean change of the score when the column goes from a background row's value to the row's,
    over all orders in which columns can go. Where all 2^k coalitions cost no more than sampling they are enumerated
    and `error` is 0; otherwise each background row is taken through `permutations` random orders and their reverses.
    Either way the contributions add up to score(row) - mean score(background), up to rounding. `error` is the
    sampling error for this background; another background gives other values. It misleads where columns hang
    together: rows are scored that cannot occur. Same seed, same result. Cost: at most background * (2 * permutations
    * (columns - 1) + 2) scored rows, in calls of at most 20,000 rows. Raises ValueError for no background rows,
    columns that differ, fewer than 1 permutation, or scores that are not finite.

    >>> score = lambda columns: 2.0 * columns["x"] + columns["x"] * columns["y"]
    >>> parts = attribute(score, {"x": 1.0, "y": 3.0}, {"x": np.zeros(2), "y": np.zeros(2)})
    >>> [(part.name, part.contribution) for part in parts]
    [('x', 3.5), ('y', 1.5)]
    """
    names = tuple(row)
    if set(names) != set(background):
        raise ValueError(f"row and background differ in columns: {sorted(set(names) ^ set(background))[:5]}")
    if not names:
        raise ValueError("a row without columns has nothing to attribute")
    if permutations < 1:
        raise ValueError(f"at least one permutation is needed, not {permutations}")
    size = len(background[names[0]])
    if size == 0 or any(len(background[name]) != size for name in names):
        raise ValueError("the background needs at least one row, and columns of equal length")
    scorer = _MaskedScore(score, row=row, background=background, names=names)
    if 2 ** len(names) <= 2 * permutations * (len(names) - 1) + 2:
        contributions, errors = _enumerate(scorer, size=size)
    else:
        contributions, errors = _sample(
            scorer, size=size, permutations=permutations, generator=np.random.default_rng(seed)
        )
    return tuple(
        Attribution(
            name=name,
            value=row[name],
            contribution=float(contribution),
            error=None if math.isnan(error) else float(error),
        )
        for name, contribution, error in zip(names, contributions, errors, strict=True)
    )


class _MaskedScore:
    """Scores background rows of which some columns are replaced by the row's."""

    def __init__(
        self, score: Score, *, row: Mapping[str, Cell], background: Mapping[str, Values], names: tuple[str, ...]
    ) -> None:
        self._score = score
        self.names = names
        self._background = {name: np.asarray(background[name]) for name in names}
        self._row = {name: _cell(row[name], self._background[name]) for name in names}

    def __call__(self, masks: NDArray[np.bool_], positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """The score of background row `positions[i]` with the columns of `masks[i]` taken from the row."""
        pieces = []
        for start in range(0, positions.size, _BATCH):
            part, chosen = masks[start : start + _BATCH], positions[start : start + _BATCH]
            mixed: dict[str, Values] = {
                name: np.where(part[:, place], self._row[name], self._background[name][chosen])
                for place, name in enumerate(self.names)
            }
            pieces.append(np.asarray(self._score(mixed), dtype=np.float64).reshape(-1))
        scores = np.concatenate(pieces)
        if scores.size != positions.size or not bool(np.isfinite(scores).all()):
            raise ValueError(
                f"the model must give one finite score a row; it gave {scores.size} for {positions.size} rows, or NaN"
            )
        return scores


def _cell(value: Cell, column: NDArray[np.generic]) -> NDArray[np.generic]:
    """The row's value as an array that does not narrow: text keeps its length, a missing number is NaN."""
    if column.dtype.kind in "fiu":
        return np.array(math.nan if value is None else value, dtype=np.float64)
    single = np.empty((), dtype=object)
    single[()] = value
    return single


def _enumerate(scorer: _MaskedScore, *, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    columns = len(scorer.names)
    coalitions = (np.arange(2**columns)[:, None] >> np.arange(columns)) & 1 == 1
    masks = np.repeat(coalitions, size, axis=0)
    worth = scorer(masks, np.tile(np.arange(size), len(coalitions))).reshape(-1, size).mean(axis=1)
    members = coalitions.sum(axis=1)
    weights = np.array([1.0 / (columns * math.comb(columns - 1, number)) for number in range(columns)])
    contributions = np.empty(columns)
    for column in range(columns):
        without = np.flatnonzero(~coalitions[:, column])
        contributions[column] = (weights[members[without]] * (worth[without | (1 << column)] - worth[without])).sum()
    return contributions, np.zeros(columns)


def _sample(
    scorer: _MaskedScore, *, size: int, permutations: int, generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    columns = len(scorer.names)
    orders = generator.permuted(np.tile(np.arange(columns), (size * permutations, 1)), axis=1)
    orders = np.concatenate([orders, orders[:, ::-1]])  # each order and its reverse
    positions = np.tile(np.repeat(np.arange(size), permutations), 2)
    # ranks[i, c]: when column c goes in order i. After s steps the columns with a rank below s have gone.
    ranks = np.argsort(orders, axis=1)
    start = scorer(np.zeros((size, columns), dtype=bool), np.arange(size))[positions]
    end = np.full(positions.size, scorer(np.ones((1, columns), dtype=bool), np.zeros(1, dtype=np.int64))[0])
    steps = [start, *(scorer(ranks < step, positions) for step in range(1, columns)), end]
    changes = np.empty((positions.size, columns))
    lines = np.arange(positions.size)
    for step, (before, after) in enumerate(pairwise(steps)):
        changes[lines, orders[:, step]] = after - before
    pairs = ((changes[: size * permutations] + changes[size * permutations :]) / 2.0).reshape(
        size, permutations, columns
    )
    if permutations > 1:
        variance = pairs.var(axis=1, ddof=1).mean(axis=0) / (size * permutations)
    else:  # one pair a row: the spread between rows is more than the sampling error, never less
        variance = pairs[:, 0].var(axis=0, ddof=1) / size if size > 1 else np.full(columns, math.nan)
    return pairs.mean(axis=(0, 1)), np.sqrt(variance)
