"""Promise P2 on a grid of streams, through the functions that the ring calls: wrong promotions are at most alpha in every cell.

Everyday a few rollouts a cell; in the soak 2,000. What "wrong" means under drift is what the promise says: promoted at a moment at which
the challenger's true mean loss over the rollout's own requests so far was no lower than the champion's.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from rollout_streams import DAYS, End, Stream, constant, ends, roll_out, wrong

from goldenloop.stats.spending import ErrorBudget

ALPHA = 0.05
NULLS: dict[str, Stream] = {
    "equal": Stream(effect=constant(0.0)),
    "equal, few differ": Stream(effect=constant(0.0), disagreement=0.02),
    "half a point worse": Stream(effect=constant(-0.005)),
    "better, then worse": Stream(effect=lambda at: np.where(at < 600, 0.03, -0.03)),
    "worse, then better": Stream(effect=lambda at: np.where(at < 1_200, -0.02, 0.02)),
    "up and down": Stream(effect=lambda at: 0.04 * np.sin(at / 150.0)),
    "labels missing at random": Stream(effect=constant(0.0), missing=0.3),
    "labels missing where it lost": Stream(effect=constant(-0.01), missing=0.4, missing_if_won=0.1),
    "five slices": Stream(effect=constant(0.0), slices=5),
    "dealt out": Stream(effect=constant(0.0), split=True, rows_per_look=150),
    "dealt out, the level wanders": Stream(
        effect=constant(0.0), base=lambda at: 0.3 + 0.2 * np.sin(at / 400.0), split=True, rows_per_look=150
    ),
    "dealt out, labels missing": Stream(effect=constant(0.0), split=True, rows_per_look=150, missing=0.3),
}


def most_expected(count: int, rate: float = ALPHA) -> float:
    """The promised part of so many rollouts, and three standard errors."""
    return count * rate + 3 * math.sqrt(count * rate * (1 - rate))


@pytest.mark.parametrize("name", NULLS)
def test_wrong_promotions_are_rare(name: str) -> None:
    found = ends(NULLS[name], 6, seed=5)
    assert wrong(found) <= most_expected(6)


@pytest.mark.soak
@pytest.mark.parametrize("name", [*NULLS, "twenty slices"])
def test_wrong_promotions_are_at_most_alpha_on_the_grid(name: str) -> None:
    stream = NULLS.get(name, Stream(effect=constant(0.0), slices=20))
    count = 2_000
    assert wrong(ends(stream, count, seed=6)) <= most_expected(count)


@pytest.mark.soak
@pytest.mark.parametrize("slices", [1, 5, 20])
def test_slices_roll_back_an_equal_challenger_at_most_as_often_as_promised(slices: int) -> None:
    count = 2_000
    found = ends(Stream(effect=constant(0.0), slices=slices), count, seed=7)
    assert sum(end.how == "rolled back" for end in found) <= most_expected(count, 0.05)


@pytest.mark.soak
def test_a_year_of_forty_rollouts_errs_at_most_as_often_as_one() -> None:
    lives, erred = 300, 0
    generator = np.random.default_rng(8)
    for _ in range(lives):
        budget = ErrorBudget.of(ALPHA)
        for number in range(40):
            share, budget = budget.next_share, budget.begin()
            stream = Stream(effect=constant(0.05 if number % 5 == 4 else 0.0), looks=10)
            end = roll_out(stream, generator, alpha=share)
            if wrong([end]):
                erred += 1
                break
            budget = budget.end(share, evidence=end.evidence, found=end.how == "promoted")
    assert erred <= most_expected(lives)


def test_better_challengers_get_through_and_bad_ones_do_not() -> None:
    better = ends(Stream(effect=constant(0.08), missing=0.3), 12, seed=9)
    assert [end.how for end in better].count("promoted") >= 11
    failing = ends(Stream(effect=constant(0.08), failing=0.4), 12, seed=10)
    assert {end.how for end in failing} == {"rolled back"}
    assert max(end.looks for end in failing) <= 2
    dealt = ends(Stream(effect=constant(0.15), split=True, rows_per_look=300, shares=(25.0, 50.0, 100.0)), 6, seed=11)
    assert [end.how for end in dealt].count("promoted") >= 5


def slow(effect: float, rule: str = "auto") -> Stream:
    """Fifty requests a day, of which thirty in a hundred never get a label; labels that are a week late move all of it by a week."""
    return Stream(
        effect=constant(effect),
        rows_per_look=50 * 4 // 24,
        looks=7 * DAYS,
        patience=56 * DAYS,
        missing=0.3,
        missing_rule=rule,
    )


def test_a_gate_with_few_late_labels_decides() -> None:
    """Where missing labels count against the challenger it never does; where they are seen to be missing at random it does."""
    found = ends(slow(0.1), 6, seed=12)
    assert all(end.how == "promoted" for end in found)
    assert float(np.median([end.looks / DAYS for end in found])) < 28
    against = ends(slow(0.1, "againstChallenger"), 6, seed=12)
    assert sum(end.how == "promoted" for end in against) < 6


def summary(found: list[End]) -> dict[str, float]:
    count = len(found)
    return {how: sum(end.how == how for end in found) / count for how in ("promoted", "rolled back", "given up")}


@pytest.mark.soak
def test_a_year_gated_is_better_than_never_retraining() -> None:
    never, ungated, gated = year(np.random.default_rng(13))
    assert gated < never
    assert gated < ungated + 0.02


def year(generator: np.random.Generator) -> tuple[float, float, float]:
    """Mean losses of a year of never retraining, of taking every challenger at once, and of the gate.

    A version loses .15 when it is fresh and .06 more for each hundred days; each fourth training goes wrong, by .08. Every four weeks
    there is a challenger.
    """
    days, each, fresh, ageing, slip = 364, 28, 0.15, 0.0006, 0.08
    slips = generator.random(days // each) < 0.25
    never = fresh + ageing * (days - 1) / 2
    at_once = np.mean([fresh + slip * slips[day // each] + ageing * (day % each) for day in range(days)])
    level, born, total, day = fresh, 0, 0.0, 0
    budget = ErrorBudget.of(ALPHA)
    while day < days:
        challenger = fresh + slip * slips[day // each]
        effect = level + ageing * (day - born) - challenger
        share, budget = budget.next_share, budget.begin()
        end = roll_out(slow(effect), generator, alpha=share)
        budget = budget.end(share, evidence=end.evidence, found=end.how == "promoted")
        until = min(days, day + end.looks // DAYS + 7)
        total += sum(level + ageing * (each_day - born) for each_day in range(day, until))
        if end.how == "promoted":
            level, born = challenger, day
        following = max(until, (until + each - 1) // each * each)
        total += sum(level + ageing * (each_day - born) for each_day in range(until, min(days, following)))
        day = following
    return never, float(at_once), total / days
