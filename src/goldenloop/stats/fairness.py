"""Are groups of people treated alike: rates by group, and the largest gap between groups, each with its interval.

A group is the rows that share a value of a protected attribute, or of several at once (an intersection). A rate whose
denominator is below the minimum takes no part in a comparison: a gap between a thousand rows and two is noise, and a
verdict on it would be luck. Such groups are named in the note, and where fewer than two remain there is no value.

The largest gap over many groups is large by chance alone, so intervals hold for all pairs together (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.stats.intervals import Interval, wilson_interval
from goldenloop.stats.losses import Values, as_text
from goldenloop.stats.measured import Measured, counted, joined, measured, unmeasured
from goldenloop.stats.proportions import difference_interval, ratio_interval

Metric: TypeAlias = Literal[
    "demographic_parity_difference",
    "disparate_impact_ratio",
    "equal_opportunity_difference",
    "false_positive_difference",
    "equalized_odds_difference",
]

MINIMUM_ROWS = 30
_MOST_GROUPS = 32  # of one attribute or intersection, the largest; bounds the pairs
_MISSING = "(missing)"

_Counts: TypeAlias = tuple[int, int]  # successes, trials
_Pair: TypeAlias = Callable[[_Counts, _Counts, float], Interval | None]


class GroupRates(msgspec.Struct, frozen=True, kw_only=True):
    """One group: `group` is "sex=female" or "sex=female,age_band=old". Rates with Wilson's intervals; those that need
    labels count labelled rows only.
    """

    group: str
    rows: int
    selection_rate: Measured
    true_positive_rate: Measured
    false_positive_rate: Measured


class Disparity(msgspec.Struct, frozen=True, kw_only=True):
    """The largest gap of one metric between groups of `attributes` ("sex", or "sex,age_band").

    `lowest` and `highest` are the groups between which it is. A difference of 0 and a ratio of 1 mean alike.
    """

    metric: Metric
    attributes: str
    gap: Measured
    lowest: str = ""
    highest: str = ""


class Fairness(msgspec.Struct, frozen=True, kw_only=True):
    """Every group, and every metric for each attribute and each pair of attributes."""

    groups: tuple[GroupRates, ...]
    disparities: tuple[Disparity, ...]


def fairness(
    groups: Mapping[str, Values],
    selected: NDArray[np.bool_],
    actual: NDArray[np.float64] | None = None,
    *,
    minimum: int = MINIMUM_ROWS,
    confidence: float = 0.95,
) -> Fairness:
    """Return rates and gaps between the groups that the protected columns in `groups` form.

    `selected`: the answer was the favourable one. `actual`: the label was the favourable one (1), was not (0), or is
    not known yet (NaN); without it only what needs no labels is measured. With s, t, f the groups' shares of selected
    rows, of selected rows among those whose label is favourable, and among the others:

    - demographic_parity_difference: max s - min s. disparate_impact_ratio: min s / max s ("four fifths" is 0.8).
    - equal_opportunity_difference: max t - min t. false_positive_difference: max f - min f.
    - equalized_odds_difference: the larger of the last two (Hardt, Price & Srebro, 2016).

    They cannot all be small at once where base rates differ, and none of them says why groups differ. Intervals:
    Newcombe's for differences, Katz's for ratios, each at a confidence raised for the number of pairs, so that the
    interval of the largest gap runs from the largest lower to the largest upper bound; with two groups it is the plain
    interval. Rows must be independent. At most the 32 largest groups of each attribute are compared. Cost: O(rows *
    attributes^2 + groups^2). Raises ValueError for unequal lengths or a minimum below 1.

    >>> sex = np.array(["f"] * 100 + ["m"] * 100)
    >>> selected = np.arange(200) % 100 < np.where(sex == "f", 40, 60)
    >>> gap = fairness({"sex": sex}, selected).disparities[0]
    >>> gap.metric, round(gap.gap.value, 2), gap.lowest, gap.highest
    ('demographic_parity_difference', 0.2, 'sex=f', 'sex=m')
    """
    chosen = np.asarray(selected, dtype=bool)
    truth = np.full(chosen.shape, np.nan) if actual is None else np.asarray(actual, dtype=np.float64)
    if minimum < 1:
        raise ValueError(f"a group has at least one row, so a minimum of {minimum} has no meaning")
    lengths = {name: len(values) for name, values in groups.items()}
    if any(length != chosen.size for length in lengths.values()) or truth.shape != chosen.shape:
        raise ValueError(
            f"{chosen.size} answers, {truth.size} labels and groups of {lengths} rows do not belong together"
        )
    found_groups: list[GroupRates] = []
    disparities: list[Disparity] = []
    for attributes, names, member in _partitions(groups):
        tables = _tables(member, len(names), chosen, truth)
        largest = np.argsort(-np.array([trials for _, trials in tables[0]]), kind="stable")[:_MOST_GROUPS].tolist()
        found_groups += [
            _rates(names[place], [table[place] for table in tables], confidence=confidence) for place in largest
        ]
        disparities += _disparities(
            attributes,
            {names[place]: [table[place] for table in tables] for place in largest},
            minimum=minimum,
            confidence=confidence,
            more=len(names) - len(largest),
        )
    return Fairness(groups=tuple(found_groups), disparities=tuple(disparities))


def _partitions(groups: Mapping[str, Values]) -> Iterator[tuple[str, list[str], NDArray[np.int64]]]:
    """Each attribute, then each pair of them: its name, the groups' names, and which group each row is in."""
    single: dict[str, tuple[list[str], NDArray[np.int64]]] = {}
    for attribute, values in groups.items():
        texts = np.array([_MISSING if text is None else text for text in as_text(values).tolist()], dtype=str)
        distinct, member = np.unique(texts, return_inverse=True)
        single[attribute] = ([f"{attribute}={value}" for value in distinct.tolist()], member.astype(np.int64))
        yield attribute, *single[attribute]
    for first, second in combinations(single, 2):
        (names, member), (other_names, other_member) = single[first], single[second]
        present, both = np.unique(member * max(len(other_names), 1) + other_member, return_inverse=True)
        joint = [
            f"{names[code // len(other_names)]},{other_names[code % len(other_names)]}" for code in present.tolist()
        ]
        yield f"{first},{second}", joint, both.astype(np.int64)


def _tables(
    member: NDArray[np.int64], groups: int, chosen: NDArray[np.bool_], truth: NDArray[np.float64]
) -> list[list[_Counts]]:
    """Successes and trials of each group: among all rows, among favourable labels, among the other labels."""
    tables = []
    for rows in (np.ones(chosen.shape, dtype=bool), truth == 1.0, truth == 0.0):
        trials = np.bincount(member[rows], minlength=groups)
        successes = np.bincount(member[rows & chosen], minlength=groups)
        tables.append(list(zip(successes.tolist(), trials.tolist(), strict=True)))
    return tables


def _rates(name: str, counts: list[_Counts], *, confidence: float) -> GroupRates:
    def rate(successes: int, trials: int, what: str) -> Measured:
        if trials == 0:
            return unmeasured(f"no {what}")
        return measured(wilson_interval(successes, trials, confidence=confidence), rows=trials)

    return GroupRates(
        group=name,
        rows=counts[0][1],
        selection_rate=rate(*counts[0], "rows"),
        true_positive_rate=rate(*counts[1], "rows whose label is favourable"),
        false_positive_rate=rate(*counts[2], "rows whose label is unfavourable"),
    )


def _disparities(
    attributes: str, tables: Mapping[str, list[_Counts]], *, minimum: int, confidence: float, more: int
) -> list[Disparity]:
    def gap(metric: Metric, table: int, pair: _Pair, *, ratio: bool = False) -> Disparity:
        counts = {name: rows[table] for name, rows in tables.items()}
        return _gap(metric, attributes, counts, pair, minimum=minimum, confidence=confidence, ratio=ratio, more=more)

    opportunity = gap("equal_opportunity_difference", 1, _difference)
    false_positives = gap("false_positive_difference", 2, _difference)
    return [
        gap("demographic_parity_difference", 0, _difference),
        gap("disparate_impact_ratio", 0, _ratio, ratio=True),
        opportunity,
        false_positives,
        _equalized_odds(attributes, opportunity, false_positives),
    ]


def _gap(
    metric: Metric,
    attributes: str,
    counts: Mapping[str, _Counts],
    pair: _Pair,
    *,
    minimum: int,
    confidence: float,
    ratio: bool,
    more: int,
) -> Disparity:
    large = {name: count for name, count in counts.items() if count[1] >= minimum}
    small = [name for name in counts if name not in large]
    named = ", ".join(small[:3]) + (f" and {len(small) - 3} more" if len(small) > 3 else "")
    note = joined(
        f"fewer than {minimum} rows that count in {named}" if small else "",
        f"{counted(more, 'small group')} not looked at" if more else "",
    )
    if len(large) < 2:
        return Disparity(
            metric=metric,
            attributes=attributes,
            gap=unmeasured(joined("fewer than two groups are large enough to compare", note)),
        )
    ranked = sorted(large, key=lambda name: (large[name][0] / large[name][1], name))
    lowest, highest = ranked[0], ranked[-1]
    pairs = len(ranked) * (len(ranked) - 1) // 2
    level = 1.0 - (1.0 - confidence) / pairs
    intervals = [
        interval
        for place, low in enumerate(ranked)
        for high in ranked[place + 1 :]
        if (interval := pair(large[low], large[high], level)) is not None
    ]
    rows = sum(trials for _, trials in large.values())
    extreme = pair(large[lowest], large[highest], level)
    if extreme is None:
        return Disparity(
            metric=metric,
            attributes=attributes,
            gap=unmeasured(joined("no group has a favourable answer", note), rows=rows),
            lowest=lowest,
            highest=highest,
        )
    pick = min if ratio else max
    found = Measured(
        value=extreme.estimate,
        low=max(pick(interval.low for interval in intervals), 0.0),
        high=min(pick(interval.high for interval in intervals), 1.0),
        rows=rows,
        note=note,
    )
    return Disparity(metric=metric, attributes=attributes, gap=found, lowest=lowest, highest=highest)


def _equalized_odds(attributes: str, opportunity: Disparity, false_positives: Disparity) -> Disparity:
    """The larger of both gaps, unknown where either is. Its interval errs at most twice as often as theirs."""
    one, two = opportunity.gap, false_positives.gap
    if one.value is None or two.value is None:
        missing = opportunity if one.value is None else false_positives
        gap = unmeasured(f"{missing.metric} could not be measured: {missing.gap.note}")
        return Disparity(metric="equalized_odds_difference", attributes=attributes, gap=gap)
    larger = opportunity if one.value >= two.value else false_positives
    gap = msgspec.structs.replace(
        larger.gap,
        low=max(one.low or 0.0, two.low or 0.0),
        high=max(one.high or 0.0, two.high or 0.0),
        note=joined(*dict.fromkeys((one.note, two.note))),
    )
    return msgspec.structs.replace(larger, metric="equalized_odds_difference", gap=gap)


def _difference(low: _Counts, high: _Counts, confidence: float) -> Interval | None:
    return difference_interval(*high, *low, confidence=confidence)


def _ratio(low: _Counts, high: _Counts, confidence: float) -> Interval | None:
    return ratio_interval(*low, *high, confidence=confidence)
