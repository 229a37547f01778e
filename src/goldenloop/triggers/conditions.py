"""Reasons to train that a team has beside the loss: a metric beyond a bound, labels enough, a version too old, a date.

A metric's condition has two edges. It fires when the bound was crossed in so many windows in a row, and is armed again only when the
value came back by `clear`, so that a value that dances around the bound fires once. A window that says nothing changes nothing.
"""

from __future__ import annotations

import msgspec


class Crossing(msgspec.Struct, frozen=True, kw_only=True):
    """A bound on a metric: exactly one of `below` and `above`; `windows` in a row that must cross it; `clear` is the hysteresis."""

    below: float | None = None
    above: float | None = None
    windows: int = 1
    clear: float = 0.0

    def is_crossed(self, value: float) -> bool:
        """Whether the value is beyond the bound."""
        return value < self.below if self.below is not None else self.above is not None and value > self.above

    def is_cleared(self, value: float) -> bool:
        """Whether the value has come back far enough for the condition to be armed again."""
        if self.below is not None:
            return value >= self.below + self.clear
        return self.above is not None and value <= self.above - self.clear


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of a condition: how many windows in a row crossed it, and whether it has fired and not cleared since."""

    windows: int = 0
    fired: bool = False


def crossed(crossing: Crossing, held: Held, value: float | None) -> tuple[bool, Held]:
    """Whether this window's value makes the condition fire, and what is remembered of it.

    >>> crossing, held, fired = Crossing(below=0.8, windows=2, clear=0.05), Held(), []
    >>> for value in (0.7, 0.7, 0.7, 0.82, 0.7, 0.9, 0.7, 0.7):
    ...     fires, held = crossed(crossing, held, value)
    ...     fired.append(fires)
    >>> [place for place, fires in enumerate(fired) if fires]
    [1, 7]
    """
    if value is None or value != value:
        return False, held
    if held.fired:
        return False, Held() if crossing.is_cleared(value) else held
    if not crossing.is_crossed(value):
        return False, Held()
    windows = held.windows + 1
    if windows >= crossing.windows:
        return True, Held(fired=True)
    return False, Held(windows=windows)
