"""Burn-rate alerts over two times each (Beyer et al., "The Site Reliability Workbook", 2018, chapter 5), each proved able to fire.

An alert fires where the share of failures exceeds factor * (1 - target) both over a long time, so that it matters, and over a short one,
so that it is still going on. A share of failures cannot exceed 1: a factor of 14.4 can never fire for a target below 93.1 %. Nor can an
alert fire whose short time is shorter than the time between two occurrences. Both are refused where a person wrote them, and never chosen.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from goldenloop.core.clock import DAY, HOUR, MINUTE
from goldenloop.core.durations import format_duration
from goldenloop.core.errors import InvalidSpecError
from goldenloop.stats.budgets import greatest_burn_rate, reachable_factor

_MONTH = 30 * DAY
_WEEK = 7 * DAY
# Share of the budget that is gone when it fires, over which long time of a month, and how urgent that is.
_CUSTOMARY: tuple[tuple[float, int, Literal["page", "ticket"]], ...] = (
    (0.02, HOUR, "page"),
    (0.05, 6 * HOUR, "page"),
    (0.10, DAY, "ticket"),
    (0.10, 3 * DAY, "ticket"),
)
_SHORT_PART = 12  # the short time is this part of the long one
_SHORTEST = 5 * MINUTE


class BurnAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that fires where the budget goes more than `factor` times faster than evenly, over both times."""

    factor: float
    long_us: int
    short_us: int
    severity: Literal["page", "ticket"]

    def failing_share(self, target: float) -> float:
        """The share of failures above which it fires; below 1 for every alert that was checked."""
        return self.factor * (1.0 - target)

    def fires(self, long_burn: float | None, short_burn: float | None) -> bool:
        """Whether it fires at these burn rates; where nothing was counted it does not."""
        return long_burn is not None and short_burn is not None and min(long_burn, short_burn) > self.factor

    def fitted(self, cadence_us: int | None, window_us: int) -> BurnAlert:
        """The same alert where occurrences come once in `cadence_us`: its times hold one and two of them at least."""
        if cadence_us is None or self.short_us >= cadence_us:
            return self
        short_us = min(cadence_us, window_us)
        return msgspec.structs.replace(self, short_us=short_us, long_us=min(max(self.long_us, 2 * short_us), window_us))

    def text(self, target: float) -> str:
        """When it fires, for a person."""
        times = f"{format_duration(self.long_us)} and {format_duration(self.short_us)}"
        return f"fires where more than {100 * self.failing_share(target):.3g} % fail over {times}"


def default_alerts(target: float, *, window_us: int, cadence_us: int | None = None) -> tuple[BurnAlert, ...]:
    """The customary alerts for this target and window, changed where they could not fire.

    Windows shorter than a week shorten the times as well; a factor beyond total failure gives way to the one midway between an even burn
    and that; where occurrences come once in `cadence_us`, the times hold one and two of them at least.
    """
    scale = 1.0 if window_us >= _WEEK else window_us / _MONTH
    made: list[BurnAlert] = []
    for spent, month_long, severity in _CUSTOMARY:
        long_us = max(2 * _SHORTEST, _whole_minutes(month_long * scale))
        short_us = max(_SHORTEST, _whole_minutes(long_us / _SHORT_PART))
        if cadence_us is not None:
            short_us = max(short_us, cadence_us)
            long_us = max(long_us, 2 * short_us)
        long_us, short_us = min(long_us, window_us), min(short_us, window_us)
        factor = reachable_factor(max(1.0, spent * window_us / long_us), target)
        alert = BurnAlert(factor=round(factor, 4), long_us=long_us, short_us=short_us, severity=severity)
        if alert.factor < greatest_burn_rate(target) and alert not in made:
            made.append(alert)
    return tuple(made)


def check_alert(
    alert: BurnAlert, target: float, *, window_us: int, cadence_us: int | None = None, where: str = ""
) -> None:
    """Raise InvalidSpecError, with the reason, for an alert that can never fire."""
    greatest = greatest_burn_rate(target)
    if alert.factor >= greatest:
        needed = 1.0 - 1.0 / alert.factor
        raise InvalidSpecError(
            f"the alert can never fire: with a target of {100 * target:g} % total failure burns {greatest:.3g} times as fast as"
            f" evenly, which does not exceed {alert.factor:g}",
            where=where,
            mend=f"Take a factor below {greatest:.3g}, or a target above {100 * needed:.4g} %.",
        )
    for name, length in (("long", alert.long_us), ("short", alert.short_us)):
        if length <= 0:
            raise InvalidSpecError(
                f"the alert can never fire: its {name} time is none", where=where, mend="Write 1h, for example."
            )
    if alert.short_us > alert.long_us:
        raise InvalidSpecError(
            f"the short time ({format_duration(alert.short_us)}) is longer than the long one ({format_duration(alert.long_us)})",
            where=where,
            mend="Swap them.",
        )
    if alert.long_us > window_us:
        raise InvalidSpecError(
            f"it looks back {format_duration(alert.long_us)}, longer than the window of {format_duration(window_us)}",
            where=where,
            mend="Shorten it.",
        )
    if cadence_us is not None and alert.short_us < cadence_us:
        raise InvalidSpecError(
            f"the alert can hardly ever fire: windows of {format_duration(cadence_us)} are counted as they close, and the last"
            f" {format_duration(alert.short_us)} mostly hold none",
            where=where,
            mend=f"Let it look back {format_duration(cadence_us)} at least.",
        )


def _whole_minutes(length_us: float) -> int:
    return round(length_us / MINUTE) * MINUTE
