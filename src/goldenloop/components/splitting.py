"""Dividing a data set into what a model learns from, what it is judged on, and, where asked, what is kept for a last test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.ids import digest_text
from goldenloop.features.schema import texts
from goldenloop.features.times import parse_times

Method = Literal["random", "time", "group"]
_BUCKETS = 1 << 52


@dataclass(frozen=True, slots=True)
class Split:
    """The parts; the order of rows is kept within each, by time it is that of time. `test` is empty where its share is 0."""

    training: pa.Table
    evaluation: pa.Table
    test: pa.Table


def divide(
    table: pa.Table,
    *,
    by: Method,
    column: str = "",
    evaluation_share: float = 0.2,
    test_share: float = 0.0,
    seed: int = 0,
) -> Split:
    """Divide the rows.

    `random`: each row by chance; right only where rows do not depend on each other. `time`: the latest rows of `column` are judged
    on, the very latest are the test; rows of one moment stay together. `group`: all rows with one value of `column` go the same way,
    also when the data is divided again with more rows, because a digest of the value and the seed decides; shares hold on average
    over groups. Rows of no group are one group.

    The same data, shares and seed give the same parts. Raises InvalidSpecError for shares or columns that cannot be, and where the
    training or the evaluation part would be empty.
    """
    if not (0.0 < evaluation_share < 1.0 and 0.0 <= test_share < 1.0 and evaluation_share + test_share < 1.0):
        raise InvalidSpecError(
            f"{evaluation_share} to evaluate and {test_share} to test leave nothing to train on",
            where="evaluation_share, test_share",
            mend="Give shares between 0 and 1 that sum to less than 1.",
        )
    if by not in ("random", "time", "group"):
        raise InvalidSpecError(f"{by!r} is no way to divide", where="by", mend="Give random, time or group.")
    if by != "random" and column not in table.column_names:
        raise InvalidSpecError(
            f"there is no column {column!r} to divide by", where="column", mend=f"The data has {_listed(table)}."
        )
    if by == "time":
        parts = _by_time(table, column, evaluation_share, test_share)
    else:
        if by == "random":
            places = np.random.default_rng(seed).random(table.num_rows)
            places = (np.argsort(np.argsort(places, kind="stable"), kind="stable") + 0.5) / max(table.num_rows, 1)
        else:
            places = _places_of_groups(texts(table.column(column)), seed)
        tested, judged = places < test_share, (places >= test_share) & (places < test_share + evaluation_share)
        parts = Split(*(table.filter(pa.array(rows)) for rows in (~tested & ~judged, judged, tested)))
    for name, part in (("training", parts.training), ("evaluation", parts.evaluation)):
        if part.num_rows == 0:
            raise InvalidSpecError(
                f"the {name} part has no rows", where="data", mend="Give more rows, other shares, or another seed."
            )
    return parts


def _by_time(table: pa.Table, column: str, evaluation_share: float, test_share: float) -> Split:
    times, _ = parse_times(table.column(column), name=column)
    order = np.argsort(times, kind="stable")
    ordered, rows = times[order], len(order)
    if rows == 0:
        return Split(table, table, table)
    test_from = _start(ordered, rows - round(rows * test_share))
    judged_from = min(_start(ordered, rows - round(rows * (test_share + evaluation_share))), test_from)
    sorted_table = table.take(pa.array(order))
    return Split(
        sorted_table.slice(0, judged_from),
        sorted_table.slice(judged_from, test_from - judged_from),
        sorted_table.slice(test_from),
    )


def _start(ordered: npt.NDArray[np.int64], place: int) -> int:
    """The first row of the moment that holds the row at this place, so that no moment is torn apart."""
    return place if place >= len(ordered) else int(np.searchsorted(ordered, ordered[place], side="left"))


def _places_of_groups(groups: npt.NDArray[np.generic], seed: int) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each row, the same for all of a group."""
    distinct, inverse = np.unique(groups.astype(str), return_inverse=True)
    places = [int(digest_text(str(seed), str(name))[:13], 16) / _BUCKETS for name in distinct.tolist()]
    return np.array(places, dtype=np.float64)[inverse]


def _listed(table: pa.Table) -> str:
    return ", ".join(table.column_names[:20])
