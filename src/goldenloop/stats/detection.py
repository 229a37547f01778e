"""Has something changed: windows with a score each, and a promise about false alarms.

A window is judged in four steps.
1. Its score loses its location and scale, which come from the first half of the reference and never from what it is
ranked among.
2. It loses what the window before predicts of it (an autoregression of lag one, estimated on the reference and leaned
towards too much correlation): windows that follow each other are alike, and ranks need exchangeable ones.
3. It bets that windows now lie above a level. Levels are order statistics of the reference, so that where nothing
changed the chance q to be above one is known from the counts alone; a bet with stake w pays w/q above and (1-w)/(1-q)
below, one on average.
4. A Shiryaev-Roberts e-detector adds the bets up over all moments at which a change may have begun.

Sources: Shin, Ramdas & Rinaldo, "E-detectors", New England Journal of Statistics in Data Science 2 (2023), for step 4
and its bound; Vovk, Gammerman & Shafer (2005) for sequential ranks; Gordon & Pollak, "An efficient sequential
nonparametric scheme for detecting a change", Annals of Statistics 22 (1994), for Shiryaev-Roberts on ranks. Why bets
on levels and not a p-to-e calibrator: with few reference windows p cannot be small, and changed windows soon stand in
the reference; counting them keeps the bets large. A change of 4 standard deviations after 24 reference windows at one
false alarm in 1,000 is seen after 5 windows, with p^-1/2 never.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.stats.conformal import conformal_p

PROMISE_WINDOWS = 24  # reference windows below which no promise is given: half of them must estimate, half must rank
REFERENCE_BOUND = 500  # windows that are ranked against; older ones are forgotten
_SHARES_ABOVE = (
    0.0,
    0.1,
    0.25,
    0.5,
)  # of the reference above each level; the first level is the reference's highest score
_STAKE = 0.9  # the part of the windows after a change that is bet to lie above a level
_LARGEST_CORRELATION = 0.9


class Detector(msgspec.Struct, frozen=True, kw_only=True):
    """A Shiryaev-Roberts e-detector: statistic_t = (statistic_(t-1) + 1) * e_t, alarm at `windows_per_false_alarm`.

    Promise: where E[e_t | past] <= 1, the mean number of updates until a false alarm is at least
    `windows_per_false_alarm`. It is about the mean run, not about a fixed time: the chance of an alarm within t
    updates is at most t / windows_per_false_alarm. It misleads where e-values are only marginally at most one, as
    with plug-in quantiles. Cost: O(1).

    >>> detector = Detector(windows_per_false_alarm=10.0)
    >>> for e in (0.5, 2.0, 3.0):
    ...     detector = detector.update(e)
    >>> detector.statistic, detector.alarm, detector.restart().statistic
    (12.0, True, 0.0)
    """

    windows_per_false_alarm: float
    statistic: float = 0.0

    def update(self, e_value: float) -> Detector:
        """The detector after one more e-value. Raises ValueError for a negative or NaN one."""
        if not e_value >= 0.0:
            raise ValueError(f"an e-value is at least 0, not {e_value}")
        return msgspec.structs.replace(self, statistic=min((self.statistic + 1.0) * e_value, 1e300))

    @property
    def alarm(self) -> bool:
        """Whether the statistic has reached the threshold."""
        return self.statistic >= self.windows_per_false_alarm

    def restart(self) -> Detector:
        """The detector as before its first value, as after an alarm."""
        return msgspec.structs.replace(self, statistic=0.0)


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What one window says.

    `p`: the conformal p-value of the window alone (a fast warning: at a threshold of 0.01 it warns falsely on one
    window in 100). `e`: the window's e-value. `alarm`: `statistic` has reached `threshold`, under the promise. Where
    `promise` is false there is no alarm, and `windows_needed` says how many more reference windows a promise takes.
    """

    score: float
    p: float
    e: float
    statistic: float
    threshold: float
    alarm: bool
    promise: bool
    windows_needed: int


class WindowScorer(msgspec.Struct, frozen=True, kw_only=True):
    """Judges windows by their scores, high being strange, and promises at most one false alarm in
    `windows_per_false_alarm`.

    Until 24 reference windows are there it only collects. Then the first half gives location and scale, the second
    half and the windows after it are what new ones are ranked among; at most 500 of them. A window that alarms is not
    added, and the detector begins anew after it with levels of the present reference, so a lasting change alarms
    again while the reference has not taken it in.

    Rate, simulated (tests; 24, 42 and 112 reference windows, one promised in 50 or 365): 0.3-0.6 of the promise for
    independent windows of any distribution, 0.4-0.6 for autocorrelation 0.3, 0.4-0.7 for 0.5 and 0.3-0.7 for 0.7.
    Delay, median, at one promised in 1,000: 4 sd after 5, 4 and 3 windows; 2 sd after 14, 9 and 7; 1 sd mostly never,
    never and 26: a small lasting change is taken into a short reference before it is proved. A weekly cycle of 0.5 to
    2 sd keeps the promise (0.05-0.3 of it) and costs power. It breaks (3 times the promise for a cycle of 200 windows
    after 42) where the reference has seen only a part of a long season, for slow drift of the scores that is meant to
    be normal, and where the reference profile was made from the same windows that are ranked: make the profile from
    the first half (`split_reference`). Cost: O(reference) a window, about 50 microseconds.

    >>> generator = np.random.default_rng(1)
    >>> scorer = WindowScorer.of(generator.normal(size=40), windows_per_false_alarm=100)
    >>> for score in (6.0, 5.0, 7.0, 6.5):
    ...     judgement, scorer = scorer.judge(score)
    ...     print(judgement.alarm, round(judgement.statistic))
    False 8
    False 62
    True 390
    False 3
    """

    windows_per_false_alarm: float
    collected: tuple[float, ...] = ()  # raw scores, while there are too few of them
    calibrated: bool = False
    calibration_count: int = 0
    location: float = 0.0
    scale: float = 1.0
    correlation: float = 0.0
    reference: tuple[float, ...] = ()  # innovations: location, scale and the window before taken away; oldest first
    last: float = 0.0  # residual of the window before
    levels: tuple[float, ...] = ()
    detectors: tuple[Detector, ...] = ()

    @classmethod
    def of(cls, scores: Sequence[float] | NDArray[np.float64], *, windows_per_false_alarm: float) -> WindowScorer:
        """A scorer whose reference is these scores, oldest first. Raises ValueError for NaN, infinity, or a promise
        below 1.
        """
        if not windows_per_false_alarm >= 1.0:
            raise ValueError(
                f"at most one false alarm in {windows_per_false_alarm} windows cannot be promised; use 1 or more"
            )
        empty = cls(windows_per_false_alarm=float(windows_per_false_alarm))
        return empty._with_reference(tuple(_finite(score) for score in scores))

    def judge(self, score: float) -> tuple[Judgement, WindowScorer]:
        """What this window says, and the scorer that has taken it in. Raises ValueError for NaN and infinity."""
        score = _finite(score)
        if not self.calibrated:
            return self._collect(score)
        residual = (score - self.location) / self.scale
        innovation = residual - self.correlation * self.last
        reference = np.asarray(self.reference)
        values = _level_values(innovation, reference=reference, levels=self.levels)
        detectors = tuple(detector.update(e) for detector, e in zip(self.detectors, values, strict=True))
        statistic = sum(detector.statistic for detector in detectors) / len(detectors)
        judgement = Judgement(
            score=score,
            p=conformal_p(innovation, reference),
            e=sum(values) / len(values),
            statistic=statistic,
            threshold=self.windows_per_false_alarm,
            alarm=statistic >= self.windows_per_false_alarm,
            promise=True,
            windows_needed=0,
        )
        if judgement.alarm:
            return judgement, msgspec.structs.replace(self, last=residual).restart()
        grown = (*self.reference, innovation)[-REFERENCE_BOUND:]
        return judgement, msgspec.structs.replace(self, last=residual, reference=grown, detectors=detectors)

    def restart(self) -> WindowScorer:
        """The same reference, with no evidence gathered and levels taken from the reference as it is now."""
        if not self.calibrated:
            return self
        ranked = np.sort(np.asarray(self.reference))[::-1]
        return msgspec.structs.replace(
            self,
            levels=tuple(float(ranked[int(share * ranked.size)]) for share in _SHARES_ABOVE),
            detectors=(Detector(windows_per_false_alarm=self.windows_per_false_alarm),) * len(_SHARES_ABOVE),
        )

    def relocate(self, location: float) -> WindowScorer:
        """The scorer for a new champion: scores are now expected around `location`; how they scatter is remembered.

        Right where the new scores scatter as the old ones did; otherwise the promise is only approximate until
        windows of the new champion fill the reference. While still collecting, what was collected moves so that its
        mean is at `location`.
        """
        location = _finite(location)
        if not self.calibrated:
            shift = location - float(np.mean(self.collected)) if self.collected else 0.0
            return msgspec.structs.replace(self, collected=tuple(score + shift for score in self.collected))
        return msgspec.structs.replace(self, location=location, last=0.0).restart()

    @property
    def reference_windows(self) -> int:
        """How many reference windows have been used so far, those that calibrated included."""
        return len(self.collected) + self.calibration_count + len(self.reference)

    @property
    def windows_needed(self) -> int:
        """How many more reference windows it takes until there is a promise."""
        return 0 if self.calibrated else PROMISE_WINDOWS - len(self.collected)

    def _collect(self, score: float) -> tuple[Judgement, WindowScorer]:
        following = self._with_reference((*self.collected, score))
        judgement = Judgement(
            score=score,
            p=conformal_p(score, np.asarray(self.collected)),
            e=1.0,
            statistic=0.0,
            threshold=self.windows_per_false_alarm,
            alarm=False,
            promise=False,
            windows_needed=self.windows_needed,
        )
        return judgement, following

    def _with_reference(self, scores: tuple[float, ...]) -> WindowScorer:
        if len(scores) < PROMISE_WINDOWS:
            return msgspec.structs.replace(self, collected=scores)
        values = np.asarray(scores)
        first = split_reference(len(scores))
        location = float(values[:first].mean())
        scale = float(values[:first].std()) or 1.0
        residuals = (values - location) / scale
        correlation = _cautious_correlation(residuals)
        innovations = residuals[first:] - correlation * residuals[first - 1 : -1]
        return msgspec.structs.replace(
            self,
            collected=(),
            calibrated=True,
            calibration_count=first,
            location=location,
            scale=scale,
            correlation=correlation,
            reference=tuple(float(value) for value in innovations[-REFERENCE_BOUND:]),
            last=float(residuals[-1]),
        ).restart()


def split_reference(count: int) -> int:
    """How many of so many reference windows, the first ones, may be used to fit anything; the others only rank.

    >>> split_reference(25)
    12
    """
    return count // 2


def _level_values(innovation: float, *, reference: NDArray[np.float64], levels: tuple[float, ...]) -> list[float]:
    """The e-value of each level's bet. Ties count as not above, which can only lower the mean."""
    values = []
    for level in levels:
        chance = (int(np.count_nonzero(reference > level)) + 1) / (reference.size + 1)
        if chance >= _STAKE:
            values.append(1.0)  # nothing left to bet on
        else:
            values.append(_STAKE / chance if innovation > level else (1.0 - _STAKE) / (1.0 - chance))
    return values


def _cautious_correlation(residuals: NDArray[np.float64]) -> float:
    """The lag-one autocorrelation, its small-sample bias (Kendall) taken off and half a standard error added, within
    [0, 0.9].

    Too much makes windows look anti-correlated, which is safe; too little breaks the promise.
    """
    centred = residuals - residuals.mean()
    energy = float(centred @ centred)
    if energy == 0.0:
        return 0.0
    raw = float(centred[1:] @ centred[:-1]) / energy
    cautious = raw + (1.0 + 4.0 * raw) / residuals.size + 0.5 / math.sqrt(residuals.size)
    return min(max(cautious, 0.0), _LARGEST_CORRELATION)


def _finite(value: float) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"a window's score must be a finite number, not {number}; leave out windows that have none")
    return number
