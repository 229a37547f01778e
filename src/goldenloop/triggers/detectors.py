"""Two classic detectors of change in a stream of errors, as rules to compare with: they promise nothing about windows.

`Adwin` is Bifet & Gavalda, "Learning from time-changing data with adaptive windowing" (SDM 2007): it keeps the longest recent stretch whose
parts do not differ in mean by more than chance allows at confidence `delta`. `PageHinkley` is Page, "Continuous inspection schemes"
(Biometrika 1954): the sum of what lies above the mean so far, held against a threshold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

_BUCKETS_A_LEVEL = 5
_LOOKS_EVERY = 32  # values; looking at each would cost 32 times as much and find a change some values sooner
_SHORTEST = 5  # values on each side of a cut
_BEFORE_LOOKING = 10


@dataclass(slots=True)
class Adwin:
    """Values in buckets of 1, 2, 4, … values, at most five of a size, newest last. Memory O(log n), amortised O(log n) a value."""

    delta: float = 0.002
    _levels: list[list[tuple[float, float]]] = field(
        default_factory=lambda: [[]]
    )  # (sum, squared deviations), newest last
    _seen: int = 0

    @property
    def width(self) -> int:
        """How many values are kept."""
        return sum(len(level) << size for size, level in enumerate(self._levels))

    @property
    def mean(self) -> float:
        """The mean of what is kept; 0 where nothing is."""
        return sum(each for level in self._levels for each, _ in level) / max(1, self.width)

    def update(self, value: float) -> bool:
        """Take in a value; whether the older part was dropped because it has another mean."""
        self._seen += 1
        self._levels[0].append((value, 0.0))
        self._merge()
        if self._seen % _LOOKS_EVERY or self.width <= _BEFORE_LOOKING:
            return False
        changed = False
        while self._cuts():
            self._drop_oldest()
            changed = True
        return changed

    def _merge(self) -> None:
        for size in range(len(self._levels)):
            if len(self._levels[size]) <= _BUCKETS_A_LEVEL:
                return
            if size + 1 == len(self._levels):
                self._levels.append([])
            (first, first_spread), (second, second_spread) = self._levels[size][:2]
            del self._levels[size][:2]
            half = 1 << size
            apart = (first - second) / half
            self._levels[size + 1].append((first + second, first_spread + second_spread + apart * apart * half / 2.0))

    def _oldest_first(self) -> list[tuple[int, float, float]]:
        return [(1 << size, *each) for size in range(len(self._levels) - 1, -1, -1) for each in self._levels[size]]

    def _cuts(self) -> bool:
        buckets = self._oldest_first()
        count = sum(size for size, _, _ in buckets)
        total = sum(each for _, each, _ in buckets)
        mean = total / count
        variance = sum(spread + size * (each / size - mean) ** 2 for size, each, spread in buckets) / count
        confidence = math.log(2.0 * math.log(count) / self.delta)
        older, older_sum = 0, 0.0
        for size, each, _ in buckets[:-1]:
            older, older_sum = older + size, older_sum + each
            newer = count - older
            if older < _SHORTEST or newer < _SHORTEST:
                continue
            parts = 1.0 / (older - _SHORTEST + 1) + 1.0 / (newer - _SHORTEST + 1)
            allowed = math.sqrt(2.0 * parts * variance * confidence) + 2.0 / 3.0 * confidence * parts
            if abs(older_sum / older - (total - older_sum) / newer) > allowed:
                return True
        return False

    def _drop_oldest(self) -> None:
        for level in reversed(self._levels):
            if level:
                del level[0]
                return


@dataclass(slots=True)
class PageHinkley:
    """The one-sided test for a rise: after `shortest` values, whether the sum stands more than `threshold` above its lowest point."""

    threshold: float = 50.0
    tolerance: float = 0.005
    forgetting: float = 0.9999
    shortest: int = 30
    _count: int = 0
    _mean: float = 0.0
    _sum: float = 0.0
    _lowest: float = math.inf

    def update(self, value: float) -> bool:
        """Take in a value; whether the mean has risen. After a rise it begins anew."""
        self._count += 1
        self._mean += (value - self._mean) / self._count
        self._sum = self.forgetting * self._sum + value - self._mean - self.tolerance
        self._lowest = min(self._lowest, self._sum)
        if self._count < self.shortest or self._sum - self._lowest <= self.threshold:
            return False
        self._count, self._mean, self._sum, self._lowest = 0, 0.0, 0.0, math.inf
        return True
