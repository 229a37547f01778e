"""Do answers stay as they are under the noise that the data really has.

A model whose answers flip with the last digit of a number, or with one missing value in a hundred, will flip in use.
The measure is about the model and the rows together: rows near a decision boundary flip, and should.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.stats.intervals import mean_interval, wilson_interval
from goldenloop.stats.losses import Values, as_text
from goldenloop.stats.measured import Measured, joined, measured, unmeasured
from goldenloop.stats.noise import NOISES, Noise, NoiseKind, Predict, answers_and_levels

_MOST_ROWS = 500
_REPLICATES = 300


class Stability(msgspec.Struct, frozen=True, kw_only=True):
    """What one kind of noise does.

    `flips`: the share of rows whose answer changed; for numbers, by more than `tolerance` of the answers' spread.
    `change`: the mean change; for probabilities half the sum of absolute differences (0..1), for numbers the absolute
    difference in units of the answers' standard deviation. None for answers that are only names.
    """

    noise: NoiseKind
    flips: Measured
    change: Measured


def stability(
    predict: Predict,
    columns: Mapping[str, Values],
    noise: Noise,
    *,
    repeats: int = 3,
    tolerance: float = 0.1,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[Stability, ...]:
    """Return how stable the answers are under each kind of noise.

    At most 500 rows, drawn by the seed, are looked at, each noisy `repeats` times. Intervals hold over rows: Wilson's
    for flips (of a row's mean over repeats, rounded to whole rows), a bootstrap for the change. Rows must be
    independent. Same seed, same result. Cost: 4 * repeats + 1 calls of `predict` with at most 500 rows. Raises
    ValueError for repeats below 1, or a model that answers with another number of rows; what `predict` raises passes.
    """
    if repeats < 1:
        raise ValueError(f"noise must be put on at least once, not {repeats} times")
    rows = len(next(iter(columns.values()))) if columns else 0
    if rows == 0:
        nothing = unmeasured("the window is empty")
        return tuple(Stability(noise=kind, flips=nothing, change=nothing) for kind in NOISES)
    generator = np.random.default_rng(seed)
    some = np.sort(generator.permutation(rows)[:_MOST_ROWS])
    sample: dict[str, Values] = {name: np.asarray(values)[some] for name, values in columns.items()}
    before, levels = answers_and_levels(_said(predict, sample))
    found = []
    for kind in NOISES:
        if not noise.suffered(kind):
            nothing = unmeasured(f"no column has noise of the kind {kind}", rows=some.size)
            found.append(Stability(noise=kind, flips=nothing, change=nothing))
            continue
        flips, changes = np.zeros(some.size), np.zeros(some.size)
        for _ in range(repeats):
            after, moved = answers_and_levels(_said(predict, noise.apply(kind, sample, generator)))
            flips += flipped(before, after, tolerance=tolerance)
            if levels is not None and moved is not None:
                changes += level_changes(levels, moved)
        share = wilson_interval(round(float(flips.sum()) / repeats), some.size, confidence=confidence)
        exact = float(flips.mean()) / repeats
        found.append(
            Stability(
                noise=kind,
                flips=Measured(value=exact, low=min(share.low, exact), high=max(share.high, exact), rows=some.size),
                change=_mean_change(changes / repeats, known=levels is not None, confidence=confidence, seed=seed),
            )
        )
    return tuple(found)


def flipped(before: NDArray[np.generic], after: NDArray[np.generic], *, tolerance: float) -> NDArray[np.bool_]:
    """Which answers changed; numbers by more than `tolerance` standard deviations of the answers before. An answer that
    was there and is not any more has changed.
    """
    if before.dtype.kind == "f":
        one, two = before.astype(np.float64), after.astype(np.float64)
        spread = _spread(one)
        with np.errstate(invalid="ignore"):
            moved: NDArray[np.bool_] = np.abs(one - two) > tolerance * spread
        moved |= np.isfinite(one) != np.isfinite(two)
        return moved
    changed: NDArray[np.bool_] = as_text(before) != as_text(after)
    return changed


def level_changes(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half the sum of absolute differences of each row's probabilities, or the difference of numbers in standard
    deviations of those before; NaN where either is missing.
    """
    if before.shape != after.shape:
        raise ValueError(f"a model answered with {after.shape} after {before.shape}")
    with np.errstate(invalid="ignore"):
        differences: NDArray[np.float64] = np.abs(before - after)
    if before.shape[1] > 1:
        halves: NDArray[np.float64] = differences.sum(axis=1) / 2.0
        return halves
    return differences[:, 0] / (_spread(before[:, 0]) or 1.0)


def _spread(values: NDArray[np.float64]) -> float:
    present = values[np.isfinite(values)]
    return float(present.std()) if present.size else 0.0


def _mean_change(changes: NDArray[np.float64], *, known: bool, confidence: float, seed: int) -> Measured:
    usable = changes[np.isfinite(changes)]
    if not known:
        return unmeasured("answers are names, which have no distance", rows=changes.size)
    if usable.size == 0:
        return unmeasured("no row was answered with a number", rows=changes.size)
    missing = changes.size - usable.size
    return measured(
        mean_interval(usable, confidence=confidence, replicates=_REPLICATES, seed=seed),
        rows=usable.size,
        note=joined(f"{missing} rows without an answer left out" if missing else ""),
    )


def _said(predict: Predict, columns: dict[str, Values]) -> NDArray[np.generic]:
    said = np.asarray(predict(columns))
    rows = len(next(iter(columns.values())))
    if said.ndim == 0 or said.shape[0] != rows:
        raise ValueError(f"the model answered {said.shape} for {rows} rows")
    return said
