"""Inputs that were made to fool a model: their answers hang on details that do not matter to honest inputs.

- Tables: `perturbation_scores` puts the data's own noise on each row; an adversarial row, which sits just across a
  boundary, changes its answer more than reference rows do.
- Images: `squeezing_scores`, feature squeezing (Xu, Evans & Qi, NDSS 2018): fewer bits of colour and a median filter
  leave honest images' answers as they are.

Both flag rows that are *fragile*; honest rows near a boundary are fragile too, and an attacker who knows the detector
can evade it (Carlini & Wagner, 2017). Thresholds come from reference rows by conformal ranks (`flagging`), so the rate of
flagged honest rows is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.stats.flagging import FlaggedRows, flag_rows
from goldenloop.stats.losses import Values
from goldenloop.stats.noise import Noise, Predict, answers_and_levels
from goldenloop.stats.robustness import level_changes

_MOST_HELD_OUT = 1_000


class Fragility(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of honest reference rows, ascending: at most 1,000 of them."""

    held_out: tuple[float, ...]

    @classmethod
    def of(cls, scores: NDArray[np.float64]) -> Fragility:
        """From the scores of reference rows; NaN is left out, and of more than 1,000 they are thinned evenly.

        >>> Fragility.of(np.array([0.3, np.nan, 0.1])).held_out
        (0.1, 0.3)
        """
        known = np.sort(np.asarray(scores, dtype=np.float64)[np.isfinite(scores)])
        if known.size > _MOST_HELD_OUT:
            known = known[np.linspace(0, known.size - 1, _MOST_HELD_OUT).round().astype(np.intp)]
        return cls(held_out=tuple(known.tolist()))

    def judge(self, scores: NDArray[np.float64], *, rate: float = 0.01) -> FlaggedRows:
        """The share of rows more fragile than all but `rate` of honest ones, and the most fragile of them."""
        return flag_rows(self.held_out, np.asarray(scores, dtype=np.float64), rate=rate)


def perturbation_scores(
    predict: Predict, columns: Mapping[str, Values], noise: Noise, *, repeats: int = 8, seed: int = 0
) -> NDArray[np.float64]:
    """Return, for each row, the mean change of its answer under jitter and swaps: half the sum of absolute differences
    of probabilities, or differences of numbers in standard deviations. NaN where there is no answer, and for answers
    that are only names.

    The spread of numbers is the window's, so compare windows of many rows. Same seed, same scores. Cost: repeats + 1
    calls of `predict`. Raises ValueError for repeats below 1 and answers that change their shape.
    """
    if repeats < 1:
        raise ValueError(f"noise must be put on at least once, not {repeats} times")
    rows = len(next(iter(columns.values()))) if columns else 0
    if rows == 0:
        return np.zeros(0)
    _, levels = answers_and_levels(predict(dict(columns)))
    if levels is None:
        return np.full(rows, math.nan)
    generator = np.random.default_rng(seed)
    total = np.zeros(rows)
    for _ in range(repeats):
        noisy = noise.apply("swap", noise.apply("jitter", columns, generator), generator)
        moved = answers_and_levels(predict(noisy))[1]
        if moved is None:
            raise ValueError("the model answered with names after it had answered with numbers")
        total += level_changes(levels, moved)
    return total / repeats


def squeezing_scores(
    predict: Callable[[NDArray[np.float64]], NDArray[np.generic]],
    images: NDArray[np.float64],
    *,
    bits: int = 4,
    window: int = 3,
) -> NDArray[np.float64]:
    """Return, for each image, the largest L1 distance of its probabilities before and after each squeezer, 0..2.

    `images`: values in [0, 1], rows x height x width or rows x height x width x channels. Squeezers: colours of so many
    bits, and a median filter of window x window pixels. Infinite and missing pixels count as 0. Cost: three calls of
    `predict`, and O(pixels * window^2). Raises ValueError for other shapes, bits outside 1..8, an even window, or a
    model that does not answer with probabilities.
    """
    pixels = np.nan_to_num(np.asarray(images, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    if pixels.ndim not in (3, 4):
        raise ValueError(f"images must be rows by height by width (by channels), not {pixels.ndim} dimensions")
    if pixels.shape[0] == 0:
        return np.zeros(0)
    before = np.asarray(predict(pixels), dtype=np.float64)
    if before.ndim != 2 or before.shape[0] != pixels.shape[0]:
        raise ValueError(f"the model must answer with probabilities, rows by classes, not {before.shape}")
    distances = []
    for squeezed in (reduce_depth(pixels, bits), median_filter(pixels, window)):
        after = np.asarray(predict(squeezed), dtype=np.float64)
        if after.shape != before.shape:
            raise ValueError(f"a model answered with {after.shape} after {before.shape}")
        with np.errstate(invalid="ignore"):
            distances.append(np.abs(before - after).sum(axis=1))
    largest: NDArray[np.float64] = np.maximum(*distances)
    return largest


def reduce_depth(images: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    """Return the images with 2^bits colours: round(x * (2^bits - 1)) / (2^bits - 1).

    >>> reduce_depth(np.array([0.0, 0.4, 0.6, 1.0]), 1).tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    if not 1 <= bits <= 8:
        raise ValueError(f"a colour has 1 to 8 bits, not {bits}")
    steps = float(2**bits - 1)
    return np.round(np.clip(images, 0.0, 1.0) * steps) / steps


def median_filter(images: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return each pixel's median over window x window pixels of its channel; the border is mirrored.

    The same as scipy.ndimage.median_filter with mode "reflect". Raises ValueError for a window that is even or larger
    than the image.
    """
    if window < 1 or window % 2 == 0 or window > min(images.shape[1:3]):
        raise ValueError(f"a median filter needs an odd window within the image, not {window}")
    margin = window // 2
    around = [(0, 0), (margin, margin), (margin, margin)] + [(0, 0)] * (images.ndim - 3)
    padded = np.pad(images, around, mode="symmetric")
    views = np.lib.stride_tricks.sliding_window_view(padded, (window, window), axis=(1, 2))
    middle: NDArray[np.float64] = np.median(views, axis=(-2, -1))
    return middle
