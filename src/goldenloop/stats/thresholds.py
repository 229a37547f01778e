"""Thresholds that a measurement learns from its own past.

- `conformal`: the rank among past values. Promise: at most the share `rate` of values outside, where values are
  exchangeable (no season, no trend). Needs 1 / rate - 1 past values.
- `tail`: a generalised Pareto tail fitted to the highest tenth of past values ("peaks over threshold"; as SPOT, Siffer
  et al., KDD 2017). Approximate, for rates that ranks cannot reach. Needs 50 past values.
- `seasonal`: a forecast by position in the hour of the day, the day of the week or the hour of the week, whichever
  foretold the past best (or none of them), with a band of ranked forecast errors. Promise: about the share `rate`, where
  errors are exchangeable. Needs 1 / rate - 1 past values, and two full cycles before a season is believed.

A threshold is judged first and updated after. Whether a value that lay outside is taken in is the caller's choice:
taking it in keeps the promise and lets a lasting change become normal; leaving it out keeps alarming.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.stats.measured import joined

Method: TypeAlias = Literal["conformal", "tail", "seasonal"]
Side: TypeAlias = Literal["high", "low", "both"]
Season: TypeAlias = Literal["none", "hour of day", "day of week", "hour of week"]

HISTORY = 500  # past values that are remembered; older ones are forgotten

_FEWEST_FOR_TAIL = 50
_TAIL_SHARE = 0.1
_FEWEST_EXCESSES = 10
_HOUR_US = 3_600_000_000
_CYCLES: tuple[tuple[Season, int, int], ...] = (  # name, microseconds of a position, positions
    ("hour of day", _HOUR_US, 24),
    ("day of week", 24 * _HOUR_US, 7),
    ("hour of week", _HOUR_US, 168),
)
_MONDAY_US = 3 * 24 * _HOUR_US  # the epoch was a Thursday; this makes weeks begin on a Monday
_GAIN = 0.9  # a season must bring the forecast error below this part of the error without it

_PROMISES: dict[Method, str] = {
    "conformal": "at most {rate:.3g} of values outside while values are exchangeable",
    "tail": "about {rate:.3g} of values outside while the tail stays as it was",
    "seasonal": "about {rate:.3g} of values outside while the season stays as it was",
}


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a value may be. `low` and `high` None: no limit on that side, or none yet (`needed` more past values).

    `outside`: whether the value that was judged lies beyond them; None where there are none yet, or it was no number.
    """

    low: float | None = None
    high: float | None = None
    outside: bool | None = None
    needed: int = 0
    season: Season = "none"
    promise: str = ""
    note: str = ""


class LearnedThreshold(msgspec.Struct, frozen=True, kw_only=True):
    """A measurement's past, and limits from it. Cost of `judge`: O(past values), under 0.5 ms. State: at most 500 pairs.

    >>> threshold = LearnedThreshold(rate=0.1)
    >>> for hour, value in enumerate([1.0, 2.0, 3.0] * 5):
    ...     threshold = threshold.update(value, at_us=hour * 3_600_000_000)
    >>> threshold.judge(9.0, at_us=0).outside, threshold.judge(2.0, at_us=0).outside
    (True, False)
    >>> LearnedThreshold(rate=0.1).judge(9.0, at_us=0).note
    'learning, 9 more needed'
    """

    method: Method = "conformal"
    rate: float = 0.01  # the share of values that may be outside while nothing has changed
    side: Side = "high"
    values: tuple[float, ...] = ()  # oldest first
    times_us: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0.0 < self.rate < 0.5:
            raise ValueError(f"the rate of values outside lies between 0 and 0.5, not {self.rate}")
        if len(self.values) != len(self.times_us):
            raise ValueError(f"{len(self.values)} values do not go with {len(self.times_us)} times")

    def update(self, value: float, *, at_us: int) -> LearnedThreshold:
        """The threshold that has seen one more value; NaN and infinities are not taken in."""
        if not math.isfinite(value):
            return self
        return msgspec.structs.replace(
            self,
            values=(*self.values, float(value))[-HISTORY:],
            times_us=(*self.times_us, int(at_us))[-HISTORY:],
        )

    def judge(self, value: float, *, at_us: int) -> Limits:
        """The limits at this time, and whether the value is beyond them. The value is not taken in."""
        if self.needed:
            return Limits(needed=self.needed, note=joined(f"learning, {self.needed} more needed", _spoilt(value)))
        with np.errstate(all="ignore"):  # values near the largest float
            return self._judged(value, at_us=at_us)

    def _judged(self, value: float, *, at_us: int) -> Limits:
        past, forecast = np.asarray(self.values), 0.0
        season: Season = "none"
        if self.method == "seasonal":
            past, season, forecast = self._errors(at_us)
        high = low = None
        if self.side != "low":
            high = forecast + self._upper(past)
        if self.side != "high":
            low = forecast - self._upper(-past)
        outside = None
        if math.isfinite(value):
            outside = (high is not None and value > high) or (low is not None and value < low)
        return Limits(
            low=low,
            high=high,
            outside=outside,
            season=season,
            promise=_PROMISES[self.method].format(rate=self.rate),
            note=_spoilt(value),
        )

    @property
    def needed(self) -> int:
        """How many more past values it takes until there are limits."""
        enough = _FEWEST_FOR_TAIL if self.method == "tail" else math.ceil(1.0 / self._rate_of_side - 1e-9) - 1
        return max(0, min(enough, HISTORY) - len(self.values))

    @property
    def _rate_of_side(self) -> float:
        return self.rate / 2.0 if self.side == "both" else self.rate

    def _upper(self, past: NDArray[np.float64]) -> float:
        if self.method == "tail":
            return tail_quantile(past, self._rate_of_side)
        allowed = max(1, math.floor(self._rate_of_side * (past.size + 1) + 1e-9))
        return float(np.partition(past, past.size - allowed)[past.size - allowed])

    def _errors(self, at_us: int) -> tuple[NDArray[np.float64], Season, float]:
        """Errors with which each past value was foretold by the others, the season, and the forecast for this time."""
        values, times = np.asarray(self.values), np.asarray(self.times_us, dtype=np.int64)
        chosen: Season = "none"
        positions = np.zeros(values.size, dtype=np.int64)
        now = 0
        errors = _left_out_errors(values, positions)
        least = float(np.abs(errors).mean()) * _GAIN
        for season, width, count in _CYCLES:
            if values.size == 0 or int(times.max() - times.min()) < 2 * width * count - width:
                continue
            at = ((times + _MONDAY_US) // width) % count
            if np.unique(at).size < 2 or values.size < 2 * np.unique(at).size:
                continue
            candidate = _left_out_errors(values, at)
            if float(np.abs(candidate).mean()) < least:
                chosen, positions, errors = season, at, candidate
                least = float(np.abs(candidate).mean())
                now = ((at_us + _MONDAY_US) // width) % count
        return errors, chosen, _forecast(values, values[positions == now])


def tail_quantile(values: NDArray[np.float64], rate: float) -> float:
    """Return the value that a new one exceeds with chance `rate`, from a generalised Pareto tail.

    The highest tenth (at least 10) of the values are excesses y over u; shape and scale by probability-weighted moments
    (Hosking & Wallis, Technometrics 29, 1987), the shape kept within [-0.5, 0.5]. Then u + scale / shape * ((rate * n /
    excesses)^-shape - 1). For a rate above a tenth it is the plain quantile. With 50 values and a rate of 0.001 it is
    off by a factor of about 3 either way; values must be independent. Cost: O(n log n). Raises ValueError for fewer
    than 20 values or NaN.

    >>> values = np.random.default_rng(0).exponential(size=2_000)
    >>> 5.5 < tail_quantile(values, 0.001) < 8.5  # ln 1000 is 6.9
    True
    """
    array = np.sort(np.asarray(values, dtype=np.float64))
    if array.size < 2 * _FEWEST_EXCESSES or not bool(np.isfinite(array).all()):
        raise ValueError(f"a tail needs {2 * _FEWEST_EXCESSES} finite values")
    count = max(_FEWEST_EXCESSES, math.ceil(_TAIL_SHARE * array.size))
    if rate * array.size >= count:
        return float(np.quantile(array, 1.0 - rate))
    bound = float(array[-count - 1])
    excesses = array[-count:] - bound
    shape, scale = pareto_moments(excesses)
    ratio = rate * array.size / count
    stretch = -math.log(ratio) if abs(shape) < 1e-9 else (ratio**-shape - 1.0) / shape
    return bound + scale * stretch


def pareto_moments(excesses: NDArray[np.float64]) -> tuple[float, float]:
    """Shape and scale of a generalised Pareto distribution by probability-weighted moments (Hosking & Wallis, 1987).

    Excesses ascending and not negative. A shape above 0 is a heavy tail. Where all are equal the scale is 0.
    """
    count = excesses.size
    mean = float(excesses.mean())
    ranks = (np.arange(1, count + 1) - 0.35) / count
    weighted = float((excesses * (1.0 - ranks)).mean())
    if not mean > 0.0 or float(np.ptp(excesses)) == 0.0:
        return 0.0, mean
    shape = min(max(2.0 - mean / max(mean - 2.0 * weighted, 1e-300), -0.5), 0.5)
    return shape, mean * (1.0 - shape)


def _left_out_errors(values: NDArray[np.float64], positions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each value minus the mean of the others at its position, leaned towards the mean of all by one value's weight."""
    sums = np.bincount(positions, weights=values)[positions] - values
    numbers = np.bincount(positions)[positions] - 1.0
    overall = (values.sum() - values) / max(values.size - 1, 1)
    errors: NDArray[np.float64] = values - (sums + overall) / (numbers + 1.0)
    return errors


def _forecast(values: NDArray[np.float64], alike: NDArray[np.float64]) -> float:
    return (float(alike.sum()) + float(values.mean())) / (alike.size + 1.0)


def _spoilt(value: float) -> str:
    return "" if math.isfinite(value) else "the value is no number"
