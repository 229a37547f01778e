"""Finding the parts of an evaluation set on which a model does worst: the slices that nobody thought of.

Rules. A slice is one condition on a column, or two on two columns: a category's value, a number's range between quartiles, or missing.
The rows are dealt into two halves by alternating blocks of time. The first half is searched: all single conditions, then pairs that begin
with one of the best `BEAM` (Chung et al., "Slice Finder", ICDE 2019, with a beam instead of a lattice). At most `MOST_SLICES` go on, and
only the second half, which had no part in the choice, decides on them: one-sided, Holm over those that went on. So the chance that a
challenger which is nowhere worse than its champion is refused for any of them is at most alpha, however many were looked at, where rows
are independent; halves of blocks leave little of the dependence that neighbours in time have.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.core.json import JsonObject
from goldenloop.core.phases import Verdict
from goldenloop.core.signatures import ColumnKind
from goldenloop.evaluation.checks import Finding, Subject, nothing
from goldenloop.evaluation.gate import worse_p
from goldenloop.standards.evaluation import SliceCheck
from goldenloop.stats.intervals import Interval, block_length, holm, mean_excess_p, mean_interval
from goldenloop.stats.losses import Values, as_numbers, as_text

BEAM = 12
MOST_SLICES = 5
MOST_CONDITIONS = 2_000  # the columns with the most are left out first
_MOST_VALUES = 20  # of a category, the commonest
_QUARTILES = (0.25, 0.5, 0.75)
_SAME = 0.8  # two slices that share so much of their rows are one


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """A column and what is asked of it, in words: `city is Oslo`, `age is 31 to 48`."""

    column: str
    value: str


class FoundSlice(msgspec.Struct, frozen=True, kw_only=True):
    """A slice that was found in one half, as the other half sees it.

    `gap` is the interval of challenger minus champion loss on the slice; without a champion, of its loss minus the mean loss elsewhere.
    """

    conditions: tuple[Condition, ...]
    rows: int
    loss: float
    champion_loss: float | None
    gap: Interval
    p: float
    worse: bool

    @property
    def text(self) -> str:
        """The slice in words."""
        return " and ".join(f"{each.column} is {each.value}" for each in self.conditions)


def search_slices(subject: Subject, asked: SliceCheck, *, margin: float) -> Finding:
    """The check: fails where the challenger is worse than the champion by more than `margin` on a slice that was found.

    Without a champion nothing can be worse than before: the worst slices stand in the evidence and the check passes.
    """
    fewest = 4 * asked.min_rows
    if subject.rows < fewest:
        return nothing(f"{subject.rows} labelled rows are too few to search for slices; {fewest} are needed")
    found = find_slices(
        subject.columns,
        subject.kinds,
        subject.losses,
        subject.champion_losses,
        margin=margin,
        min_rows=asked.min_rows,
        alpha=asked.alpha,
    )
    shown: JsonObject = {
        "slices": [{**msgspec.to_builtins(each), "text": each.text} for each in found],
        "alpha": asked.alpha,
    }
    worse = [each for each in found if each.worse]
    if subject.champion_losses is None:
        said = f"it does worst where {worse[0].text}: {_gap_text(worse[0])}" if worse else "no part stands out"
        return Finding(verdict=Verdict.PASS, reason=f"there is no champion to compare with; {said}", evidence=shown)
    if worse:
        return Finding(
            verdict=Verdict.FAIL,
            reason=f"it is worse than the champion where {worse[0].text}: {_gap_text(worse[0])}",
            evidence=shown,
        )
    return Finding(
        verdict=Verdict.PASS,
        reason=f"{len(found)} suspicious slices were found, and on none is it certainly worse than the champion"
        if found
        else "no slice was found on which it does worse than the champion",
        evidence=shown,
    )


def find_slices(
    columns: Mapping[str, Values],
    kinds: Mapping[str, ColumnKind],
    losses: NDArray[np.float64],
    champion_losses: NDArray[np.float64] | None,
    *,
    margin: float = 0.0,
    min_rows: int = 30,
    alpha: float = 0.01,
) -> tuple[FoundSlice, ...]:
    """Return the worst slices, the worst first; `worse` says on which of them the other half confirms it.

    A slice has at least `min_rows` rows in each half. Cost: O(conditions * rows * BEAM), about 0.1 s for 20 columns and
    10,000 rows.
    """
    differences = losses - champion_losses if champion_losses is not None else losses
    searched = _halves(losses.size)
    conditions, members = _conditions(columns, kinds, searched, min_rows)
    if not conditions:
        return ()
    chosen = _searched(members[:, searched], differences[searched], conditions, min_rows)
    kept: list[tuple[int, ...]] = []
    masks: list[NDArray[np.bool_]] = []
    for places in chosen:
        mask = np.logical_and.reduce(members[list(places)], axis=0)
        is_large = int(np.count_nonzero(mask & ~searched)) >= min_rows
        if is_large and not any(_is_same(mask, other) for other in masks):
            kept.append(places)
            masks.append(mask)
        if len(kept) == MOST_SLICES:
            break
    adjusted = holm(
        {str(number): _p(mask, ~searched, losses, champion_losses, margin=margin) for number, mask in enumerate(masks)}
    )
    found = []
    for number, (places, mask) in enumerate(zip(kept, masks, strict=True)):
        inside, elsewhere = mask & ~searched, ~mask & ~searched
        base = float(losses[elsewhere].mean()) if champion_losses is None and elsewhere.any() else 0.0
        found.append(
            FoundSlice(
                conditions=tuple(conditions[place] for place in places),
                rows=int(np.count_nonzero(inside)),
                loss=float(losses[inside].mean()),
                champion_loss=None if champion_losses is None else float(champion_losses[inside].mean()),
                gap=mean_interval(differences[inside] - base, replicates=500),
                p=adjusted[str(number)],
                worse=adjusted[str(number)] <= alpha,
            )
        )
    return tuple(sorted(found, key=lambda each: (not each.worse, -each.gap.estimate)))


def _p(
    mask: NDArray[np.bool_],
    confirming: NDArray[np.bool_],
    losses: NDArray[np.float64],
    champion_losses: NDArray[np.float64] | None,
    *,
    margin: float,
) -> float:
    """One-sided: the slice is no worse than the champion there, or without one, than the rows elsewhere."""
    inside, elsewhere = mask & confirming, ~mask & confirming
    if champion_losses is not None:
        return worse_p(losses[inside] - champion_losses[inside], margin)
    return mean_excess_p(losses[inside], float(losses[elsewhere].mean())) if elsewhere.any() else 1.0


def _halves(rows: int) -> NDArray[np.bool_]:
    """Which rows are searched: every other block of time."""
    searched: NDArray[np.bool_] = (np.arange(rows) // block_length(rows)) % 2 == 0
    return searched


def _conditions(
    columns: Mapping[str, Values], kinds: Mapping[str, ColumnKind], searched: NDArray[np.bool_], min_rows: int
) -> tuple[list[Condition], NDArray[np.bool_]]:
    """Every condition that holds on enough rows of the searched half, and on which rows each one holds."""
    made: list[tuple[Condition, NDArray[np.bool_]]] = []
    for name, kind in kinds.items():
        if name not in columns or len(made) >= MOST_CONDITIONS:
            continue
        cuts = _of_numbers(columns[name], searched, name) if kind == "number" else _of_texts(columns[name], searched)
        for value, holds in cuts:
            inside = int(np.count_nonzero(holds & searched))
            if min_rows <= inside <= np.count_nonzero(searched) - min_rows:
                made.append((Condition(column=name, value=value), holds))
    rows = np.array([holds for _, holds in made], dtype=bool).reshape(len(made), searched.size)
    return [condition for condition, _ in made], rows


def _of_texts(values: Values, searched: NDArray[np.bool_]) -> list[tuple[str, NDArray[np.bool_]]]:
    texts = np.array([text or "(missing)" for text in as_text(values).tolist()], dtype=str)
    distinct, counts = np.unique(texts[searched], return_counts=True)
    commonest = np.argsort(-counts, kind="stable")[:_MOST_VALUES]
    return [(str(distinct[place]), texts == distinct[place]) for place in commonest.tolist()]


def _of_numbers(values: Values, searched: NDArray[np.bool_], name: str) -> list[tuple[str, NDArray[np.bool_]]]:
    numbers = as_numbers(values, what=name)
    missing = ~np.isfinite(numbers)
    present = numbers[searched & ~missing]
    cuts: list[tuple[str, NDArray[np.bool_]]] = [("(missing)", missing)]
    if present.size == 0:
        return cuts
    distinct = np.unique(present)
    if distinct.size <= len(_QUARTILES) + 1:
        return [*cuts, *((f"{value:g}", numbers == value) for value in distinct.tolist())]
    limits = np.unique(np.quantile(present, _QUARTILES, method="inverted_cdf"))
    with np.errstate(invalid="ignore"):
        cuts.append((f"at most {limits[0]:g}", ~missing & (numbers <= limits[0])))
        for low, high in pairwise(limits.tolist()):
            cuts.append((f"above {low:g} to {high:g}", ~missing & (numbers > low) & (numbers <= high)))
        cuts.append((f"above {limits[-1]:g}", ~missing & (numbers > limits[-1])))
    return cuts


def _searched(
    members: NDArray[np.bool_], differences: NDArray[np.float64], conditions: list[Condition], min_rows: int
) -> list[tuple[int, ...]]:
    """Slices by how far they stand out in the searched half, the worst first; a pair has to be worse than both of its parts."""
    total = float(differences.mean())
    weights = members.astype(np.float32)  # a product of 0/1 matrices counts exactly up to 2^24 rows
    means, scores = _scored(weights @ differences, weights @ differences**2, weights.sum(axis=1), total)
    ranked: list[tuple[float, tuple[int, ...]]] = [(float(scores[i]), (i,)) for i in range(len(conditions))]
    for first in np.argsort(-scores, kind="stable")[:BEAM].tolist():
        inside = members[first]
        counts = weights[:, inside].sum(axis=1)
        both, standing = _scored(
            weights[:, inside] @ differences[inside], weights[:, inside] @ differences[inside] ** 2, counts, total
        )
        for second in np.flatnonzero(counts >= min_rows).tolist():
            if conditions[first].column == conditions[second].column:
                continue
            if both[second] > max(means[first], means[second]):
                ranked.append((float(standing[second]), (min(first, second), max(first, second))))
    ranked.sort(key=lambda each: (-each[0], each[1]))
    return list(dict.fromkeys(places for score, places in ranked if score > 0.0))[: 10 * MOST_SLICES]


def _scored(
    sums: NDArray[np.float64], squares: NDArray[np.float64], counts: NDArray[np.float32], total: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of each slice, and how many standard errors it lies above the mean of all; slices without spread are given a little."""
    rows = np.maximum(counts.astype(np.float64), 1.0)
    means = sums / rows
    variances = np.maximum(squares / rows - means**2, 0.25 / rows)
    return means, (means - total) / np.sqrt(variances / rows)


def _is_same(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    both, either = np.count_nonzero(one & other), np.count_nonzero(one | other)
    return bool(both > _SAME * either)


def _gap_text(found: FoundSlice) -> str:
    return (
        f"by {found.gap.estimate:.4g} of loss ({found.gap.low:.4g} to {found.gap.high:.4g}) on {found.rows} rows "
        f"that had no part in finding it (p = {found.p:.2g})"
    )
