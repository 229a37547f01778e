"""What comes in: the columns themselves, missing values, ranges and categories.

Rows that follow each other are alike, so a test that takes them as independent finds something on most windows of most streams. The
tests here therefore only name features; whether a window is told of is decided by how surprising it is beside windows before it: the
`surprise`, minus the logarithm (base 10) of the smallest p-value times the number of features, has a learned threshold. Until
enough past is there for it, a surprise of six fails.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from goldenloop.core.phases import Verdict
from goldenloop.monitors.catalogue.base import Asked, Known, Monitor, Past, Window, missing, strange, watched_inputs
from goldenloop.monitors.findings import Finding, Outcome
from goldenloop.stats.categories import Names, distinct_growth, new_names
from goldenloop.stats.measured import Measured
from goldenloop.stats.ranges import Range, missing_change, outside_share

MOST_UNREADABLE = 0.5  # of the values of a column, or of the rows; beyond it the schema is broken
_CHANCE = 1e-9  # that a column which is missing now and then is missing in every row of a window
_LARGEST_SURPRISE = 300.0  # what a p-value of nothing counts as
_SHOWN = 5
CERTAIN = 6.0  # a surprise of one in a million fails also where too little past is there to learn from


class Shares(msgspec.Struct, frozen=True, kw_only=True):
    """How many values of each input were missing among so many reference rows."""

    rows: int
    missing: dict[str, int]


class Ranges(msgspec.Struct, frozen=True, kw_only=True):
    """The range of each number."""

    columns: dict[str, Range]


class Vocabulary(msgspec.Struct, frozen=True, kw_only=True):
    """The names of each category."""

    columns: dict[str, Names]


class _Shares(Monitor[Shares]):
    """Monitors that know how often inputs are missing."""

    knows = Shares

    def fit(self, past: Past) -> Shares:
        columns = past.training.columns
        return Shares(
            rows=len(past.training), missing={name: int(missing(values).sum()) for name, values in columns.items()}
        )


class SchemaMonitor(_Shares):
    """Fails where an input is gone or mostly of another type: an alarm, and rows of that window are not trained on.

    Gone: no row has the column, or every value is missing although that is next to impossible (a chance below 1e-9) at the reference's
    rate. It rests on no chance that habit could bring about, so it takes no part of the promise about false alarms.
    """

    name = "schema"
    watches = "inputs that vanish, and values of another type; rows of such windows are not trained on"
    changed = "the schema"
    essential = True
    fewest_rows = 1

    def measure(self, window: Window, known: Shares | None, asked: Asked) -> Outcome:
        rows = len(window)
        gone = dict.fromkeys(window.absent, "no row has it")
        for name, values in window.columns.items():
            if name in gone or known is None or not missing(values).all() or window.unreadable.get(name):
                continue
            share = (known.missing.get(name, 0) + 1) / (known.rows + 2)
            if rows * math.log(share) < math.log(_CHANCE):
                gone[name] = f"every value is missing, of the reference's {share:.1%}"
        shares = {name: number / rows for name, number in window.unreadable.items()}
        limit = asked.settings.threshold if isinstance(asked.settings.threshold, int | float) else MOST_UNREADABLE
        turned = {
            name: f"{share:.0%} of the values are of another type" for name, share in shares.items() if share > limit
        }
        findings = [
            self.finding("missing_columns", len(gone), fails=bool(gone), note=", ".join(list(gone)[:_SHOWN])),
            self.finding(
                "unreadable_share", max(shares.values(), default=0.0), fails=bool(turned), threshold=float(limit)
            ),
        ]
        findings += [
            self.finding("missing_columns", 1, fails=True, feature=name, note=why) for name, why in gone.items()
        ]
        findings += [
            self.finding("unreadable_share", share, fails=name in turned, feature=name)
            for name, share in shares.items()
        ]
        wrong = gone | turned
        broken = "; ".join(f"{name}: {why}" for name, why in list(wrong.items())[:_SHOWN])
        return Outcome(findings=tuple(findings), broken=broken)


class MissingMonitor(_Shares):
    """How often inputs are missing, beside the reference (beta-binomial test)."""

    name = "missing"
    watches = "how often each input is missing, beside the reference"
    changed = "how often inputs are missing"
    essential = True

    def measure(self, window: Window, known: Shares | None, asked: Asked) -> Outcome:
        rows = len(window)
        columns = watched_inputs(window.columns, asked)
        absent = {name: int(missing(values).sum()) for name, values in columns.items()}
        tests: dict[str, Measured] = {}
        for name, number in absent.items():
            before = 0 if known is None else known.missing.get(name, 0)
            if known is not None and (number or before):
                tests[name] = missing_change(number, rows, reference_missing=before, reference_rows=known.rows)
        findings = [self.finding("share", sum(absent.values()) / (rows * max(len(absent), 1)))]
        for name, found in tests.items():
            assert known is not None
            note = f"{absent[name] / rows:.1%} are missing, {known.missing[name] / known.rows:.1%} of the reference"
            fails = strange(found, asked, among=len(absent))
            findings.append(self.finding("share", absent[name] / rows, fails=fails, feature=name, note=note))
        return Outcome(findings=(*findings, _surprise(self, tests, len(absent), asked)))


class RangesMonitor(Monitor[Ranges]):
    """How many numbers lie outside what the reference had (a tenth of an interquartile range is tolerated)."""

    name = "ranges"
    watches = "numbers outside the range that the reference had"
    changed = "numbers outside their range"
    knows = Ranges

    def choose(self, past: Past) -> tuple[bool, str]:
        numbers = sum(kind == "number" for kind in past.inputs.values())
        return bool(numbers), f"{numbers} inputs are numbers" if numbers else "no input is a number"

    def fit(self, past: Past) -> Ranges:
        columns = past.training.columns
        return Ranges(columns={name: Range.of(columns[name]) for name, kind in past.inputs.items() if kind == "number"})

    def measure(self, window: Window, known: Ranges | None, asked: Asked) -> Outcome:
        columns = watched_inputs(window.columns, asked)
        ranges = {} if known is None else {name: each for name, each in known.columns.items() if name in columns}
        tests = {name: outside_share(each, columns[name], tolerance=0.1) for name, each in ranges.items()}
        findings = [
            self.finding("outside_share", found, fails=strange(found, asked, among=len(tests)), feature=name)
            for name, found in tests.items()
            if found.value
        ]
        highest = max((found.value for found in tests.values() if found.value is not None), default=None)
        return Outcome(
            findings=(
                self.finding("outside_share", highest, note="" if ranges else "the reference has no numbers"),
                *findings,
                _surprise(self, tests, len(tests), asked),
            )
        )


class CategoriesMonitor(Monitor[Vocabulary]):
    """Categories that the reference did not have, and columns with more different ones than it had."""

    name = "categories"
    watches = "categories never seen before, and columns that have ever more of them"
    changed = "the categories"
    knows = Vocabulary

    def choose(self, past: Past) -> tuple[bool, str]:
        categories = sum(kind == "category" for kind in past.inputs.values())
        return bool(categories), f"{categories} inputs are categories" if categories else "no input is a category"

    def fit(self, past: Past) -> Vocabulary:
        columns = past.training.columns
        names = [name for name, kind in past.inputs.items() if kind == "category"]
        return Vocabulary(columns={name: Names.of(columns[name][columns[name] != ""]) for name in names})

    def measure(self, window: Window, known: Vocabulary | None, asked: Asked) -> Outcome:
        columns = watched_inputs(window.columns, asked)
        findings: list[Finding] = []
        tests: dict[str, Measured] = {}
        shares: list[float] = []
        kept = {} if known is None else {name: each for name, each in known.columns.items() if name in columns}
        for name, reference in kept.items():
            values = columns[name][columns[name] != ""]
            found = new_names(reference, values)
            growth = distinct_growth(reference, values)
            tests |= {name: found.share, f"{name} (distinct)": growth}
            shares.append(found.share.value or 0.0)
            if found.share.value:
                said = ", ".join(f"{each} ({number})" for each, number in found.names)
                fails = strange(found.share, asked, among=2 * len(kept))
                findings.append(self.finding("new_share", found.share, fails=fails, feature=name, note=f"new: {said}"))
            grown = strange(growth, asked, among=2 * len(kept))
            if growth.value is not None:
                findings.append(self.finding("distinct_growth", growth, fails=grown, feature=name))
        return Outcome(
            findings=(
                self.finding("new_share", max(shares, default=None), note="" if kept else "no input is a category"),
                *findings,
                _surprise(self, tests, len(tests), asked),
            )
        )


def _surprise(monitor: Monitor[Known], tests: Mapping[str, Measured], among: int, asked: Asked) -> Finding:
    """The finding on which the window is judged, naming the features that are least likely."""
    known = {name: found.p_value for name, found in tests.items() if found.p_value is not None}
    ranked = sorted(known, key=lambda name: known[name])
    smallest = min(1.0, known[ranked[0]] * max(among, 1)) if ranked else 1.0
    surprise = min(_LARGEST_SURPRISE, -math.log10(smallest)) if smallest > 0.0 else _LARGEST_SURPRISE
    named = [name for name in ranked[:_SHOWN] if known[name] * max(among, 1) <= asked.significance]
    found = monitor.finding("surprise", surprise + 0.0, asked=asked, leading="high", note=", ".join(named))
    if found.learned and surprise >= CERTAIN:
        return msgspec.structs.replace(found, verdict=Verdict.FAIL)  # until the past says otherwise
    return found
