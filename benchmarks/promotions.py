"""Whom a gate lets through, and how long it takes: ours beside what is customary. Writes `benchmarks/results/promotions.md`.

    python benchmarks/promotions.py [--rollouts 400]

Every gate sees the same rows: the differences of two 0/1 losses of which the labels are there. Looked at every `LOOK` labels, for at most
`MOST` labels.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from goldenloop.stats.betting import MeanEvidence
from goldenloop.stats.spending import ErrorBudget, alpha_share

ALPHA, LOOK, MOST = 0.05, 50, 4_000
RESULTS = Path(__file__).parent / "results" / "promotions.md"
Values = NDArray[np.float64]
Gate = Callable[[Values], int | None]  # the labels after which it promotes; None where it never does


def rows(generator: np.random.Generator, effect: float, disagreement: float, count: int = MOST) -> Values:
    uniform = generator.random(count)
    return np.where(uniform < (disagreement + effect) / 2, 1.0, np.where(uniform < disagreement, -1.0, 0.0))


def ours(values: Values, alpha: float = ALPHA) -> int | None:
    state = MeanEvidence.against(0.0, low=-1.0, high=1.0)
    for end in range(LOOK, values.size + 1, LOOK):
        state = state.update(values[end - LOOK : end])
        if state.log_evidence >= -math.log(alpha):
            return end
    return None


def z_test_at_the_end(values: Values, count: int = 1_000) -> int | None:
    """A test of a size that was fixed before, looked at once."""
    part = values[:count]
    return count if _z(part) >= 1.645 else None


def z_test_at_every_look(values: Values) -> int | None:
    return next((end for end in range(2 * LOOK, values.size + 1, LOOK) if _z(values[:end]) >= 1.645), None)


def mixture_sprt(values: Values, tau: float = 0.05) -> int | None:
    """mSPRT with a normal mixture and the variance as it is estimated so far: what A/B platforms use (Johari et al. 2022)."""
    for end in range(2 * LOOK, values.size + 1, LOOK):
        part = values[:end]
        variance = max(float(part.var()), 1e-9)
        mean = float(part.mean())
        ratio = 0.5 * math.log(variance / (variance + end * tau**2)) + end**2 * tau**2 * mean**2 / (
            2 * variance * (variance + end * tau**2)
        )
        if mean > 0 and ratio >= -math.log(2 * ALPHA):
            return end
    return None


def thresholds(values: Values, checks: int = 10, each: int = 100, failures: int = 3) -> int | None:
    """Ten checks of a hundred labels each, passed where the challenger's mean loss is no more than a point higher; three may fail."""
    failed = 0
    for check in range(checks):
        failed += float(values[check * each : (check + 1) * each].mean()) < -0.01
        if failed > failures:
            return None
    return checks * each


GATES: dict[str, Gate] = {
    "ours": ours,
    "z-test once, at 1,000 labels": z_test_at_the_end,
    "z-test at every look": z_test_at_every_look,
    "mSPRT": mixture_sprt,
    "thresholds, 10 checks, 3 may fail": thresholds,
}


def _z(part: Values) -> float:
    deviation = float(part.std())
    return 0.0 if deviation == 0 else float(part.mean()) / deviation * math.sqrt(part.size)


def measure(count: int) -> list[str]:
    """The lines of the report."""
    cells = [(0.0, 0.1), (-0.01, 0.1), (0.0, 0.02), (0.02, 0.1), (0.05, 0.1), (0.05, 0.2), (0.1, 0.2)]
    lines = [
        "| effect, disagreement | " + " | ".join(GATES) + " |",
        "|---" * (len(GATES) + 1) + "|",
    ]
    for effect, disagreement in cells:
        generator = np.random.default_rng(20)
        streams = [rows(generator, effect, disagreement) for _ in range(count)]
        shown = []
        for gate in GATES.values():
            ends = [gate(stream) for stream in streams]
            taken = [end for end in ends if end is not None]
            middle = sorted(math.inf if end is None else end for end in ends)[count // 2]
            when = "" if effect <= 0 else ", never" if math.isinf(middle) else f", {middle:,.0f}"
            shown.append(f"{100 * len(taken) / count:.1f} %{when}")
        lines.append(f"| {100 * effect:+.0f} points, {100 * disagreement:.0f} % | " + " | ".join(shown) + " |")
    return lines


def lives(count: int) -> list[str]:
    """Forty challengers a life, none better, and every fourth five points better: what each way to spend alpha gives."""
    lines = [
        "| forty rollouts of at most 600 labels | wrong promotions in a life | better ones taken | threshold at the 40th, median |",
        "|---|---|---|---|",
    ]
    for name in ("every rollout at alpha", "shares that never come back", "ours: shares that come back"):
        generator = np.random.default_rng(21)
        erred, taken, offered, last = 0, 0, 0, []
        for _ in range(count):
            budget, wrong = ErrorBudget.of(ALPHA), False
            for number in range(1, 41):
                better = number % 4 == 0
                alpha = {"every": ALPHA, "share": alpha_share(number, ALPHA)}.get(name[:5], budget.next_share)
                alpha = budget.next_share if name.startswith("ours") else alpha
                share, budget = budget.next_share, budget.begin()
                values = rows(generator, 0.05 if better else 0.0, 0.1, 600)
                state = MeanEvidence.against(0.0, low=-1.0, high=1.0)
                found = False
                for end in range(LOOK, 601, LOOK):
                    state = state.update(values[end - LOOK : end])
                    if state.log_evidence >= -math.log(alpha):
                        found = True
                        break
                budget = budget.end(share, evidence=state.evidence, found=found)
                wrong = wrong or (found and not better)
                taken += found and better
                offered += better
                last += [-math.log(alpha)] if number == 40 else []
            erred += wrong
        lines.append(
            f"| {name} | {100 * erred / count:.1f} % | {100 * taken / offered:.0f} % | e^{np.median(last):.1f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rollouts", type=int, default=400)
    count = parser.parse_args().rollouts
    report = [
        "# Promotions: ours beside what is customary",
        "",
        f"{count} rollouts a cell, alpha {ALPHA}, looked at every {LOOK} labels, at most {MOST:,}. Share promoted, and for a better",
        "challenger the median number of labels until it is.",
        "",
        *measure(count),
        "",
        f"A life of forty rollouts, {count // 4} lives:",
        "",
        *lives(count // 4),
        "",
    ]
    RESULTS.write_text("\n".join(report))
    print("\n".join(report))


if __name__ == "__main__":
    main()
