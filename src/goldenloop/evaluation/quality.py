"""Checks of what an answer is worth beside being right: probabilities that come true, and groups of people that are treated alike."""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import Verdict
from goldenloop.evaluation.checks import Columns, Finding, Subject, nothing
from goldenloop.standards.evaluation import CalibrationCheck, FairnessCheck
from goldenloop.stats.calibration import Calibration, calibration, top_label
from goldenloop.stats.fairness import Disparity, Metric, fairness
from goldenloop.stats.losses import as_text
from goldenloop.stats.measured import Measured, unmeasured
from goldenloop.stats.special import normal_quantile

FEWEST_ROWS = 100  # for a calibration error
_CHANCE = 0.01  # a test of calibration below this is not chance
_CONFIDENCE = 0.95
_METRICS: dict[Literal["equalizedOdds", "equalOpportunity", "demographicParity"], Metric] = {
    "equalizedOdds": "equalized_odds_difference",
    "equalOpportunity": "equal_opportunity_difference",
    "demographicParity": "demographic_parity_difference",
}


def check_calibration(subject: Subject, asked: CalibrationCheck) -> Finding:
    """Two classes: the probability of the last one. More: the probability of the class that was answered."""
    if subject.task == "regression":
        return nothing("values have no probabilities")
    probabilities = subject.challenger.probabilities
    if probabilities is None:
        return Finding(verdict=Verdict.INCONCLUSIVE, reason="the model gives no probabilities")
    if len(subject.classes) == 2:
        positive, scores = as_text(subject.labels) == subject.classes[1], np.asarray(probabilities)[:, 1]
    else:
        positive, scores = top_label(subject.labels, probabilities, subject.classes)
    found = calibration(np.asarray(positive, dtype=bool), np.asarray(scores, dtype=np.float64))
    evidence: JsonObject = {**msgspec.to_builtins(found), "maxError": asked.max_error}
    if found.rows < FEWEST_ROWS or found.error.value is None:
        why = (
            found.error.note
            if found.error.value is None
            else f"{found.rows} rows are too few; {FEWEST_ROWS} are needed"
        )
        return Finding(verdict=Verdict.INCONCLUSIVE, reason=why, evidence=evidence)
    return Finding(verdict=_calibrated(found, asked.max_error), reason=_calibration_text(found), evidence=evidence)


def _calibrated(found: Calibration, bound: float) -> Verdict:
    error, p = found.error, found.test.p_value
    assert error.value is not None
    if error.value <= bound:
        return Verdict.PASS
    is_certain = (error.low is not None and error.low > bound) or (p is not None and p < _CHANCE)
    return Verdict.FAIL if is_certain else Verdict.INCONCLUSIVE


def _calibration_text(found: Calibration) -> str:
    tested = f", Spiegelhalter's test p = {found.test.p_value:.2g}" if found.test.p_value is not None else ""
    return f"probabilities are off by {_text(found.error)} on average{tested}"


def check_fairness(subject: Subject, asked: FairnessCheck) -> Finding:
    """The largest gap of the metric over every protected column and every pair of them."""
    if not subject.protected:
        return nothing("no column is protected (spec.data.protected)")
    if subject.task == "regression":
        gaps = _loss_gaps(subject.protected, subject.losses, minimum=asked.min_rows)
        what, evidence = "mean loss", {"gaps": msgspec.to_builtins(gaps), "maxGap": asked.max_gap}
    else:
        favourable = asked.favourable if asked.favourable is not None else subject.classes[-1]
        if favourable not in subject.classes:
            raise InvalidSpecError(
                f"there is no class {favourable!r}",
                where="spec.evaluation.fairness.favourable",
                mend=f"There are {', '.join(subject.classes)}.",
            )
        found = fairness(
            subject.protected,
            np.asarray(as_text(subject.challenger.answers) == favourable, dtype=bool),
            np.asarray(as_text(subject.labels) == favourable, dtype=np.float64),
            minimum=asked.min_rows,
            confidence=_CONFIDENCE,
        )
        wanted = _METRICS[asked.metric]
        gaps = [each for each in found.disparities if each.metric == wanted]
        what = f"{wanted.replace('_', ' ')} of answering {favourable}"
        evidence = {**msgspec.to_builtins(found), "favourable": favourable, "metric": wanted, "maxGap": asked.max_gap}
    return _fair(gaps, asked.max_gap, what, evidence)


def _fair(gaps: list[Disparity], bound: float, what: str, evidence: JsonObject) -> Finding:
    known = [each for each in gaps if each.gap.value is not None]
    if not known:
        why = "; ".join(dict.fromkeys(each.gap.note for each in gaps))
        return Finding(verdict=Verdict.INCONCLUSIVE, reason=why, evidence=evidence)
    worst = max(known, key=lambda each: each.gap.value or 0.0)
    certain = [each for each in known if each.gap.low is not None and each.gap.low > bound]
    if certain:
        verdict = Verdict.FAIL
        worst = max(certain, key=lambda each: each.gap.low or 0.0)
    else:
        verdict = Verdict.INCONCLUSIVE if (worst.gap.value or 0.0) > bound else Verdict.PASS
    between = f" between {worst.lowest} and {worst.highest}" if worst.lowest else ""
    unknown = [each.attributes for each in gaps if each.gap.value is None]
    note = f"; not measured for {', '.join(unknown)}: too few rows" if unknown else ""
    return Finding(
        verdict=verdict,
        reason=f"the largest gap in {what} is {_text(worst.gap)}{between}; at most {bound:g} is asked for{note}",
        evidence=evidence,
    )


def _loss_gaps(groups: Columns, losses: NDArray[np.float64], *, minimum: int) -> list[Disparity]:
    """Gaps of the mean loss: normal intervals, for all pairs of groups together (Bonferroni)."""
    found = []
    for attribute, values in groups.items():
        names = np.array([text or "(missing)" for text in as_text(values).tolist()], dtype=str)
        parts = {f"{attribute}={name}": losses[names == name] for name in np.unique(names).tolist()}
        large = {name: rows for name, rows in parts.items() if rows.size >= minimum}
        small = [name for name in parts if name not in large]
        note = f"fewer than {minimum} rows in {', '.join(small[:3])}" if small else ""
        if len(large) < 2:
            gap, lowest, highest = unmeasured(note or "there is only one group"), "", ""
        else:
            gap, lowest, highest = _widest(large, note)
        # The metric's name is that of classifiers; what is compared here is said in the check's reason.
        found.append(
            Disparity(
                metric="demographic_parity_difference", attributes=attribute, gap=gap, lowest=lowest, highest=highest
            )
        )
    return found


def _widest(parts: dict[str, NDArray[np.float64]], note: str) -> tuple[Measured, str, str]:
    pairs = list(combinations(sorted(parts, key=lambda name: float(parts[name].mean())), 2))
    z = normal_quantile(1.0 - (1.0 - _CONFIDENCE) / (2.0 * len(pairs)))
    intervals = []
    for low, high in pairs:
        gap = float(parts[high].mean() - parts[low].mean())
        half = z * float(np.sqrt(sum(parts[name].var(ddof=1) / parts[name].size for name in (low, high))))
        intervals.append((gap, max(0.0, gap - half), gap + half, low, high))
    gap, _, _, low, high = max(intervals)
    measured = Measured(
        value=gap,
        low=max(each[1] for each in intervals),
        high=max(each[2] for each in intervals),
        rows=sum(rows.size for rows in parts.values()),
        note=note,
    )
    return measured, low, high


def _text(measured: Measured) -> str:
    if measured.low is None or measured.high is None:
        return f"{measured.value:.3g}"
    return f"{measured.value:.3g} ({measured.low:.3g} to {measured.high:.3g})"
