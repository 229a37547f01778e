"""Two times. Wall time is what the machine's clock says; event time is when a thing happened in the world.

Both are integers of microseconds since the Unix epoch (suffix `_us`), UTC: exact, ordered, and what Parquet stores.
Rooms never read the clock; whoever composes them hands one in.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

MICROSECOND = 1
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY


class Clock(Protocol):
    """Tells the wall time."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_us(self) -> int:
        return time.time_ns() // 1_000


class VirtualClock:
    """A clock that stands still until it is told to go on.

    >>> clock = VirtualClock(5)
    >>> clock.advance(10)
    >>> clock.now_us()
    15
    """

    def __init__(self, start_us: int = 0) -> None:
        self._now_us = start_us

    def now_us(self) -> int:
        return self._now_us

    def advance(self, by_us: int) -> None:
        self._now_us += by_us


def to_text(moment_us: int) -> str:
    """Return the moment as RFC 3339 in UTC, to the second unless it has a fraction.

    >>> to_text(0)
    '1970-01-01T00:00:00Z'
    """
    moment = datetime.fromtimestamp(moment_us // SECOND, UTC)
    fraction = moment_us % SECOND
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + (f".{fraction:06d}".rstrip("0") if fraction else "") + "Z"


def from_text(text: str) -> int:
    """Return the moment that an ISO 8601 text names; a text without an offset is taken as UTC. Raises ValueError.

    >>> from_text("1970-01-02") == DAY
    True
    >>> from_text("1970-01-01T01:00:00+01:00")
    0
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    whole = int(moment.replace(microsecond=0).timestamp())
    return whole * SECOND + moment.microsecond
