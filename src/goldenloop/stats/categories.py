"""Names a column did not have before, and how many different ones it has.

A category that no row of the reference had is to be expected now and then: about as often as names occurred a single
time in the reference (Good & Turing). A growing number of distinct names (ids that leak into a column, a new product
line, free text) is judged against how many distinct names as many rows of the reference would have had.
"""

from __future__ import annotations

import math
from collections import Counter

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.stats.intervals import wilson_interval
from goldenloop.stats.losses import Values, as_text
from goldenloop.stats.measured import Measured, measured, unmeasured
from goldenloop.stats.proportions import count_tails
from goldenloop.stats.special import normal_tail

_MOST_NAMES = 10_000  # remembered of a reference; with more it is open-ended and no name is called new
_SHOWN = 5


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """The names of a reference column, and how many of them occurred how often.

    `open_ended`: there were more than 10,000 names; `known` is then empty, and no name can be called new.
    """

    rows: int
    known: frozenset[str]
    repeats: tuple[tuple[int, int], ...]  # (times, how many names occurred so often), by times
    open_ended: bool = False

    @classmethod
    def of(cls, values: Values) -> Names:
        """The names of these rows; missing values are no name.

        >>> Names.of(np.array(["a", "b", "a", None], dtype=object)).repeats
        ((1, 1), (2, 1))
        """
        tally = _tally(values)
        repeats = Counter(tally.values())
        many = len(tally) > _MOST_NAMES
        return cls(
            rows=sum(tally.values()),
            known=frozenset() if many else frozenset(tally),
            repeats=tuple(sorted(repeats.items())),
            open_ended=many,
        )

    @property
    def distinct(self) -> int:
        """How many names the reference had."""
        return sum(names for _, names in self.repeats)

    @property
    def once(self) -> int:
        """How many names occurred a single time."""
        return self.repeats[0][1] if self.repeats and self.repeats[0][0] == 1 else 0


class NewNames(msgspec.Struct, frozen=True, kw_only=True):
    """The share of rows with a name that the reference did not have, and the most frequent of these names."""

    share: Measured
    names: tuple[tuple[str, int], ...] = ()


def new_names(reference: Names, values: Values) -> NewNames:
    """Return the share of rows (missing ones left out) whose name is new, with Wilson's interval.

    The p-value is of "new names come as often as the reference lets expect": beta-binomial with as many successes as
    the reference has names that occurred once. It assumes independent rows; a new name that comes in a burst is one
    event, not many. Cost: O(rows).

    >>> reference = Names.of(np.array(["a", "b"] * 500))
    >>> found = new_names(reference, np.array(["a"] * 9 + ["c"]))
    >>> found.share.value, found.names, found.share.p_value < 0.01
    (0.1, (('c', 1),), True)
    """
    tally = _tally(values)
    rows = sum(tally.values())
    if rows == 0:
        return NewNames(share=unmeasured("no row has a value"))
    if reference.open_ended:
        return NewNames(share=unmeasured("the reference has too many names to call one new", rows=rows))
    if reference.rows == 0:
        return NewNames(share=unmeasured("the reference has no names", rows=rows))
    strange = {name: number for name, number in tally.items() if name not in reference.known}
    successes = sum(strange.values())
    _, upper = count_tails(
        successes, rows, reference_successes=min(reference.once, reference.rows), reference_trials=reference.rows
    )
    ranked = sorted(strange.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN]
    return NewNames(share=measured(wilson_interval(successes, rows), rows=rows, p_value=upper), names=tuple(ranked))


def distinct_growth(reference: Names, values: Values) -> Measured:
    """Return the number of distinct names over the number that as many rows of the reference would have.

    Expected number: rarefaction (Hurlbert, Ecology 52, 1971), the sum over names of 1 - P(a draw of n of the N rows
    misses the name). Where the window has more rows than the reference, Chao's estimate extrapolates (Chao 1984; Colwell
    et al. 2012). The p-value is of growth: a normal with the variance of the number of distinct names, names taken as
    independent, which is a little too wide. Cost: O(rows + distinct counts of the reference).

    >>> reference = Names.of(np.array(list("abcd") * 100))
    >>> round(distinct_growth(reference, np.array(list("abcd") * 5)).value, 2)
    1.0
    >>> distinct_growth(reference, np.array([f"id{i}" for i in range(40)])).value > 9.9
    True
    """
    tally = _tally(values)
    rows = sum(tally.values())
    if rows == 0:
        return unmeasured("no row has a value")
    if reference.rows == 0:
        return unmeasured("the reference has no names", rows=rows)
    expected, variance = _expected_distinct(reference, rows)
    excess = len(tally) - expected
    # Half a name for continuity; a variance of 0 means that every name was certain to come.
    deviation = math.sqrt(max(variance, 1e-12))
    p_value = normal_tail((excess - 0.5) / deviation) if excess > 0.0 else 1.0 - normal_tail(-excess / deviation) / 2.0
    return Measured(value=len(tally) / expected, p_value=min(max(p_value, 0.0), 1.0), rows=rows)


def _expected_distinct(reference: Names, rows: int) -> tuple[float, float]:
    """Mean and variance of the number of distinct names among so many rows of the reference's kind."""
    times = np.array([number for number, _ in reference.repeats], dtype=np.float64)
    names = np.array([number for _, number in reference.repeats], dtype=np.float64)
    if rows <= reference.rows:
        absent = np.exp(_log_missed(times, reference.rows, rows))
        return float(names @ (1.0 - absent)), float(names @ (absent * (1.0 - absent)))
    twice = dict(reference.repeats).get(2, 0)
    unseen = reference.once * (reference.once - 1) / (2.0 * (twice + 1))
    seen = float(names.sum())
    if unseen == 0.0:
        return seen, 0.0
    more = rows - reference.rows
    chance = -math.expm1(more * math.log1p(-min(reference.once / (reference.rows * unseen), 1.0 - 1e-12)))
    return seen + unseen * chance, unseen * chance * (1.0 - chance) + reference.once


def _log_missed(times: NDArray[np.float64], total: int, drawn: int) -> NDArray[np.float64]:
    """ln of the chance that a name with so many of the `total` rows is in none of `drawn`: C(total - times, drawn) /
    C(total, drawn).
    """
    logs = np.full(times.shape, -np.inf)
    for place, number in enumerate(times.tolist()):
        rest = total - int(number)
        if rest >= drawn:
            logs[place] = (
                math.lgamma(rest + 1)
                - math.lgamma(rest - drawn + 1)
                - math.lgamma(total + 1)
                + math.lgamma(total - drawn + 1)
            )
    capped: NDArray[np.float64] = np.minimum(logs, 0.0)
    return capped


def _tally(values: Values) -> Counter[str]:
    """How often each name occurs; as in profiles, text by value and anything else as it is written."""
    array = np.asarray(values)
    raw = Counter(array.tolist())
    if all(isinstance(value, str) for value in raw):
        return raw
    return Counter(text for text in as_text(array).tolist() if text is not None)
