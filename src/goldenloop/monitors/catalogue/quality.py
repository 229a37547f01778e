"""What answers turn out to be worth, once labels are due: performance overall and by slice, calibration, fairness."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.core.phases import Verdict
from goldenloop.core.signatures import Signature
from goldenloop.monitors.catalogue.base import FEWEST_ROWS, Asked, Monitor, Past, Window, strange
from goldenloop.monitors.catalogue.cutting import Cuts
from goldenloop.monitors.findings import Finding, Outcome, could_not
from goldenloop.stats.calibration import calibration, top_label
from goldenloop.stats.fairness import Disparity, fairness
from goldenloop.stats.intervals import Interval, mean_interval, wilson_interval
from goldenloop.stats.losses import as_numbers, as_text, metrics
from goldenloop.stats.measured import Measured

LARGEST_GAP = 0.1  # between groups; a gap fails where its whole interval lies beyond
LEAST_RATIO = 0.8  # the "four fifths" of disparate impact
_REPLICATES = 400  # of a bootstrap of one slice


class Slices(msgspec.Struct, frozen=True, kw_only=True):
    """How performance is cut."""

    cuts: Cuts


class Groups(msgspec.Struct, frozen=True, kw_only=True):
    """How protected columns make groups, and which answer is favourable: a class, or a value above `above`."""

    cuts: Cuts
    absent: tuple[str, ...] = ()  # protected columns that the model is not given, so that no request has them
    above: float | None = None


class PerformanceMonitor(Monitor[Slices]):
    """Each metric of the task, and the task's first metric on slices, with intervals.

    They are of the answers that went out, also where a challenger gave them. Whether the loss is higher than expected is judged by the
    loop's detector of the loss, under the promise; nothing here fails by itself unless a threshold is given for the first metric.
    """

    name = "performance"
    watches = "the loss against what a fresh model is expected to lose; only this retrains"
    changed = "the loss"
    knows = Slices
    needs_labels = True
    promised = True
    essential = True
    fewest_rows = 0

    def fit(self, past: Past) -> Slices:
        return Slices(cuts=Cuts.of(past, past.protected, others=True))

    def measure(self, window: Window, known: Slices | None, asked: Asked) -> Outcome:
        if window.delivered:
            window = replace(window, answers=window.delivered)
        rows = np.flatnonzero(window.labelled)
        share = rows.size / len(window) if len(window) else None
        findings = [self.finding("labelled_share", share)]
        first = "accuracy" if window.signature.task == "classification" else "mae"
        if rows.size < FEWEST_ROWS:
            note = f"{rows.size} of {len(window)} rows have a label"
            return Outcome(findings=(*findings, self.finding(first, None, note=note)))
        table = window.probabilities
        probabilities = table[rows] if table is not None and not np.isnan(table[rows]).any() else None
        found = metrics(
            window.signature.task,
            window.truth[rows],
            window.said[rows],
            probabilities=probabilities,
            classes=window.signature.classes,
        )
        for name, value in found.items():
            # A person's threshold decides; without one the loss's detector does.
            given = isinstance(asked.settings.threshold, int | float) or asked.settings.threshold == "learned"
            side = ("low" if name == "accuracy" else "high") if name == first and given else ""
            measured = _first_metric(window, rows) if name == first else Measured(value=value)
            findings.append(self.finding(name, measured, asked=asked, leading=side))  # type: ignore[arg-type]
        if known is not None:
            findings += self._slices(window, rows, known, asked, first)
        return Outcome(findings=tuple(findings))

    def _slices(
        self, window: Window, rows: NDArray[np.int64], known: Slices, asked: Asked, metric: str
    ) -> list[Finding]:
        findings = []
        for name, groups in known.cuts.groups(window.columns, asked.settings.features).items():
            for group in sorted(set(groups[rows].tolist())):
                members = rows[groups[rows] == group]
                slice = f"{name}={group}"
                if members.size < asked.settings.minimum_group_size:
                    note = f"{members.size} labelled rows; fewer than {asked.settings.minimum_group_size} say nothing"
                    findings.append(self.finding(metric, None, slice=slice, note=note))
                else:
                    findings.append(self.finding(metric, _first_metric(window, members), slice=slice))
        return findings


class CalibrationMonitor(Monitor[None]):
    """Whether probabilities mean what they say: the expected calibration error, and Spiegelhalter's test of it."""

    name = "calibration"
    watches = "whether a probability of 0.8 is right in 80 of 100 rows"
    changed = "the calibration"
    needs_labels = True

    def choose(self, past: Past) -> tuple[bool, str]:
        has_any = past.training.probabilities is not None
        return has_any, "the model gives probabilities" if has_any else "the model gives no probabilities"

    def measure(self, window: Window, known: None, asked: Asked) -> Outcome:  # noqa: ARG002
        rows = np.flatnonzero(window.labelled)
        if window.probabilities is None:
            return could_not(self.name, "calibration_error", "the model gives no probabilities")
        if rows.size < FEWEST_ROWS:
            note = f"{rows.size} of {len(window)} rows have a label"
            return could_not(self.name, "calibration_error", note)
        right, sure = _positive(window, rows)
        found = calibration(right, sure)
        findings = [self.finding("calibration_error", found.error, asked=asked, leading="high")]
        for name, value in (
            ("brier", found.brier),
            ("reliability", found.reliability),
            ("resolution", found.resolution),
        ):
            findings.append(self.finding(name, value))
        findings.append(self.finding("spiegelhalter_z", found.test, fails=strange(found.test, asked)))
        return Outcome(findings=tuple(findings))


class FairnessMonitor(Monitor[Groups]):
    """Gaps between groups of the protected columns and of their pairs, with intervals (goldenloop.stats.fairness).

    A gap fails where its whole interval lies beyond 0.1 (or the threshold given), a ratio where it lies below 0.8. Groups with fewer rows
    than `minimumGroupSize` are not compared; where fewer than two groups are left, the verdict is inconclusive.
    """

    name = "fairness"
    watches = "gaps between groups of the protected columns"
    changed = "the gap between groups"
    knows = Groups
    needs_labels = True

    def choose(self, past: Past) -> tuple[bool, str]:
        if not past.protected:
            return False, "data.protected names no column"
        if past.training.signature.task == "classification" and len(past.training.signature.classes) != 2:
            return False, "there are more than two classes: say with `favourable` which one is"
        return True, f"{', '.join(past.protected)} {'is' if len(past.protected) == 1 else 'are'} protected"

    def fit(self, past: Past) -> Groups:
        above = None
        if past.training.signature.task == "regression":
            values = as_numbers(past.training.said)
            above = float(np.nanmedian(values)) if np.isfinite(values).any() else None
        return Groups(
            cuts=Cuts.of(past, past.protected, others=False),
            absent=tuple(name for name in past.protected if name not in past.inputs),
            above=above,
        )

    def measure(self, window: Window, known: Groups | None, asked: Asked) -> Outcome:
        groups = {} if known is None else known.cuts.groups(window.columns, asked.settings.features)
        absent = "" if known is None or not known.absent else f"{', '.join(known.absent)}: not among the model's inputs"
        if known is None or not groups:
            return could_not(self.name, "gap", absent or "no protected column is among the model's inputs")
        favourable = _favourable(window.signature, asked)
        if window.signature.task == "classification" and not favourable:
            return could_not(self.name, "gap", "there are more than two classes: say with `favourable` which one is")
        selected, actual = self._favoured(window, known, favourable)
        found = fairness(groups, selected, actual, minimum=asked.settings.minimum_group_size)
        findings: list[Finding] = []
        for group in found.groups:
            enough = group.rows >= asked.settings.minimum_group_size
            note = "" if enough else f"{group.rows} rows; fewer than {asked.settings.minimum_group_size} say nothing"
            findings.append(
                self.finding("selection_rate", group.selection_rate if enough else None, slice=group.group, note=note)
            )
        gaps = [self._gap(each, asked) for each in found.disparities]
        differences = [each for each in gaps if each.metric.endswith("difference") and each.value is not None]
        widest = max(differences, key=lambda each: each.value or 0.0, default=None)
        overall = self.finding(
            "gap",
            None if widest is None else Measured(value=widest.value, low=widest.low, high=widest.high),
            asked=asked,
            leading="high",
            fails=any(each.verdict is Verdict.FAIL for each in gaps),
            note="no two groups are large enough" if widest is None else f"{widest.metric}: {widest.note}",
        )
        # A person's threshold is passed by the evidence, as the usual one is, not by the estimate alone.
        if isinstance(asked.settings.threshold, int | float) and widest is not None:
            fails = (widest.low or 0.0) > float(asked.settings.threshold)
            overall = msgspec.structs.replace(overall, verdict=Verdict.FAIL if fails else Verdict.PASS)
        return Outcome(findings=(overall, *gaps, *findings))

    def _favoured(
        self, window: Window, known: Groups, favourable: str
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        actual = np.full(len(window), np.nan)
        if window.signature.task == "regression":
            above = known.above if known.above is not None else 0.0
            selected = np.nan_to_num(as_numbers(window.said), nan=-np.inf) > above
            truth = as_numbers(window.truth[window.labelled])
            actual[window.labelled] = np.where(np.isnan(truth), np.nan, truth > above)
            return selected, actual
        selected = np.asarray(as_text(window.said) == favourable, dtype=bool)
        actual[window.labelled] = (as_text(window.truth[window.labelled]) == favourable).astype(np.float64)
        return selected, actual

    def _gap(self, found: Disparity, asked: Asked) -> Finding:
        given = asked.settings.threshold
        largest = float(given) if isinstance(given, int | float) else LARGEST_GAP
        low, high = found.gap.low, found.gap.high
        is_ratio = found.metric.endswith("ratio")
        fails = high is not None and high < LEAST_RATIO if is_ratio else low is not None and low > largest
        return self.finding(
            found.metric,
            found.gap,
            fails=fails,
            threshold=LEAST_RATIO if is_ratio else largest,
            feature=found.attributes,
            note=found.gap.note or f"from {found.lowest} to {found.highest}",
        )


def _first_metric(window: Window, rows: NDArray[np.int64]) -> Measured:
    """Accuracy with Wilson's interval, or the mean absolute error with a bootstrap interval, of labelled rows."""
    if window.signature.task == "classification":
        right = int(np.count_nonzero(window.losses[rows] == 0.0))
        return _of(wilson_interval(right, int(rows.size)), rows)
    errors = np.abs(as_numbers(window.said[rows]) - as_numbers(window.truth[rows]))
    errors = errors[np.isfinite(errors)]
    if errors.size == 0:
        return Measured(value=None, note="nobody answered these rows")
    return _of(mean_interval(errors, replicates=_REPLICATES), rows)


def _of(interval: Interval, rows: NDArray[np.int64]) -> Measured:
    return Measured(value=interval.estimate, low=interval.low, high=interval.high, rows=int(rows.size))


def _positive(window: Window, rows: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Whether the second of two classes was true and its probability; with more classes, of the most probable one."""
    table = window.probabilities
    assert table is not None
    classes = window.signature.classes
    if len(classes) == 2:
        return np.asarray(as_text(window.truth[rows]) == classes[1], dtype=bool), table[rows, 1]
    return top_label(window.truth[rows], table[rows], classes)


def _favourable(signature: Signature, asked: Asked) -> str:
    """The favourable class: the one that is named, or the second of two."""
    if asked.settings.favourable:
        return asked.settings.favourable
    return signature.classes[1] if len(signature.classes) == 2 else ""
