"""Durations as people write them in resources: `30s`, `1d`, `8w`, `1h30m`."""

from __future__ import annotations

import re

from goldenloop.core.clock import DAY, HOUR, MINUTE, SECOND, WEEK
from goldenloop.core.errors import InvalidSpecError

_UNITS = {"w": WEEK, "d": DAY, "h": HOUR, "m": MINUTE, "s": SECOND, "ms": 1_000, "us": 1}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|w|d|h|m|s)")


def parse_duration(text: str, *, where: str = "") -> int:
    """Return the microseconds that the text names.

    >>> parse_duration("1h30m") == 90 * MINUTE
    True
    >>> parse_duration("0s")
    0
    """
    matched = _PART.findall(text)
    if not matched or "".join(number + unit for number, unit in matched) != text:
        raise InvalidSpecError(
            f"{text!r} is not a duration", where=where, mend="Write a number and a unit: 30s, 15m, 1h, 1d or 8w."
        )
    return sum(round(float(number) * _UNITS[unit]) for number, unit in matched)


def format_duration(length_us: int) -> str:
    """Return the shortest text that names the length.

    >>> format_duration(8 * WEEK), format_duration(90 * MINUTE), format_duration(0)
    ('8w', '1h30m', '0s')
    """
    if length_us == 0:
        return "0s"
    parts = []
    rest = length_us
    for unit, size in _UNITS.items():
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
