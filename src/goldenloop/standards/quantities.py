"""Kubernetes quantities: `100m` processors, `1.5Gi` of memory, `2`, `1e3`."""

from __future__ import annotations

import math
import re

from goldenloop.core.errors import InvalidSpecError

_SUFFIXES = {
    "n": 1e-9,
    "u": 1e-6,
    "m": 1e-3,
    "": 1.0,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "P": 1e15,
    "E": 1e18,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
    "Pi": 2.0**50,
    "Ei": 2.0**60,
}
_QUANTITY = re.compile(r"(\+?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?)([numkMGTPE]?|[KMGTPE]i)", re.ASCII)


def parse_quantity(value: str | float, *, where: str = "") -> float:
    """Return the number that a quantity names. Raises InvalidSpecError, also for one below zero.

    >>> parse_quantity("100m"), parse_quantity("1.5Gi") == 1.5 * 2**30, parse_quantity("1e3"), parse_quantity(2)
    (0.1, True, 1000.0, 2.0)
    """
    found = _QUANTITY.fullmatch(str(value))
    number = float(found[1]) * _SUFFIXES[found[2]] if found else math.nan
    if not math.isfinite(number):
        raise InvalidSpecError(f"{value!r} is not a quantity", where=where, mend="Write it as 500m, 2, 512Mi or 1Gi.")
    return number
