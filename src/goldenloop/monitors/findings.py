"""What a monitor says of one window: values with a verdict each, and rows that stand out."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from goldenloop.core.phases import Verdict

FEATURES_KEPT = 100  # findings of single features that one monitor may give for one window, the highest values first
FLAGGED_KEPT = 50  # rows that one monitor may flag in one window, the strangest first


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One measured value of one window, with its verdict.

    `feature` and `slice` say of what ("" is all of them); a slice is written `sex=female` or `sex=female,age_band=old`. `low` and `high`
    are the interval of the value. `learned`: which side of the value is strange; control then judges it by the value's own past.
    """

    monitor: str  # MonitorType
    metric: str
    value: float | None
    threshold: float | None = None
    verdict: Verdict
    feature: str = ""
    slice: str = ""
    low: float | None = None
    high: float | None = None
    note: str = ""
    learned: Literal["", "high", "low", "both"] = ""


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """Whether `auto` takes a monitor, and why."""

    monitor: str
    chosen: bool
    why: str


class Flag(msgspec.Struct, frozen=True, kw_only=True):
    """A row of a logged prediction that a monitor found strange."""

    monitor: str
    prediction: str
    row: int
    score: float
    threshold: float | None = None
    note: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """All that one monitor says of one window.

    `score`: what its promised detector is fed with, high being strange; None where it has none. `broken`: why rows of this window must
    not be trained on; "" where they may.
    """

    monitor: str = ""
    findings: tuple[Finding, ...] = ()
    score: float | None = None
    flags: tuple[Flag, ...] = ()
    broken: str = ""


def could_not(monitor: str, metric: str, note: str, *, verdict: Verdict = Verdict.INCONCLUSIVE) -> Outcome:
    """The outcome of a monitor that could not measure, with the reason."""
    return Outcome(findings=(Finding(monitor=monitor, metric=metric, value=None, verdict=verdict, note=note),))


def bounded(outcome: Outcome) -> Outcome:
    """The outcome with what is kept of many features and rows: those that fail first, then the highest values.

    Values that are no finite numbers become none, with a note: a database and JSON have no word for them.
    """
    whole = [each for each in outcome.findings if not each.feature]
    single = sorted(
        (each for each in outcome.findings if each.feature),
        key=lambda each: (each.verdict is not Verdict.FAIL, -(each.value if each.value is not None else -math.inf)),
    )
    flags = sorted(outcome.flags, key=lambda flag: -flag.score)[:FLAGGED_KEPT]
    return msgspec.structs.replace(
        outcome, findings=tuple(map(_finite, (*whole, *single[:FEATURES_KEPT]))), flags=tuple(flags)
    )


def _finite(finding: Finding) -> Finding:
    numbers = {name: getattr(finding, name) for name in ("value", "threshold", "low", "high")}
    wrong = {name: None for name, value in numbers.items() if value is not None and not math.isfinite(value)}
    if not wrong:
        return finding
    note = finding.note or f"{', '.join(wrong)}: no finite number"
    verdict = Verdict.INCONCLUSIVE if "value" in wrong else finding.verdict
    return msgspec.structs.replace(finding, **wrong, verdict=verdict, note=note)
