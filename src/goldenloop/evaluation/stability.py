"""Robustness: how many answers change by noise that the data itself has (`goldenloop.stats.noise`).

Jitter, missing values and swapped categories decide; a shift of all numbers at once is measured and shown, since a model may well have to
follow it. Models change for good reasons where the noise crosses a real border, so a share, not a single row, decides.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.core.phases import Verdict
from goldenloop.evaluation.checks import Finding, Subject, nothing
from goldenloop.standards.evaluation import RobustnessCheck
from goldenloop.stats.losses import Values, as_numbers
from goldenloop.stats.noise import Noise
from goldenloop.stats.robustness import stability

FEWEST_ROWS = 30
_DECIDING = ("jitter", "missing", "swap")


def check_robustness(subject: Subject, asked: RobustnessCheck) -> Finding:
    """The check: fails where the interval of the worst kind lies above the bound, inconclusive where only its estimate does."""
    if subject.rows < FEWEST_ROWS:
        return Finding(
            verdict=Verdict.INCONCLUSIVE, reason=f"{subject.rows} rows are too few; {FEWEST_ROWS} are needed"
        )

    def said(columns: dict[str, Values]) -> NDArray[np.generic]:
        answers = subject.predict(columns).answers
        return as_numbers(answers) if subject.task == "regression" else np.asarray(answers)

    measured = stability(said, subject.columns, Noise.of(subject.columns, subject.kinds))
    known = {each.noise: each.flips for each in measured if each.flips.value is not None}
    deciding = [flips for kind, flips in known.items() if kind in _DECIDING]
    evidence = {"effects": msgspec.to_builtins(measured), "maxChanged": asked.max_changed}
    if not deciding:
        return nothing("no column has noise that could be tried")
    if any(flips.low is not None and flips.low > asked.max_changed for flips in deciding):
        verdict = Verdict.FAIL
    else:
        is_above = any((flips.value or 0.0) > asked.max_changed for flips in deciding)
        verdict = Verdict.INCONCLUSIVE if is_above else Verdict.PASS
    shares = ", ".join(f"{flips.value:.1%} change by {kind}" for kind, flips in known.items())
    return Finding(
        verdict=verdict,
        reason=f"of the answers {shares}; at most {asked.max_changed:.1%} by {', '.join(_DECIDING)} is asked for",
        evidence=evidence,
    )
