"""Promise P2 on rollouts by the thousand: the probability that a worse challenger ever takes the traffic is at most alpha.

Whole worlds take a second each, so these rollouts run the same `counted` and `decide` that the ring does, check by check, without it.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from goldenloop.control.counting import counted
from goldenloop.core.clock import DAY, HOUR
from goldenloop.monitors.comparing import ComparedFacts
from goldenloop.rollouts.decide import Advance, GiveUp, Promote, RollBack, Terms, decide
from goldenloop.rollouts.evidence import RolloutState
from goldenloop.stats.betting import MeanEvidence
from goldenloop.stats.spending import alpha_share

ALPHA = 0.05
CHECK_US = 4 * HOUR


def roll_out(generator: np.random.Generator, terms: Terms, *, champion: float, challenger: float, rows: int) -> str:
    """One rollout of two versions with these error rates; how it ended."""
    bet = {"low": -1.0, "high": 1.0}
    state = RolloutState(
        champion="1",
        challenger="2",
        started_us=0,
        counted_until_us=0,
        step=0,
        benefit=MeanEvidence.against(0.0, **bet),
        harm=MeanEvidence.against(0.0, **bet),
    )
    now_us = 0
    while True:
        now_us += CHECK_US
        losses = (generator.random((2, rows)) < np.array([[champion], [challenger]])).astype(float)
        differences = tuple((losses[0] - losses[1]).tolist())
        facts = ComparedFacts(differences=differences, bounded=differences, labelled=rows)
        state = counted(state, facts, until_us=now_us, at_us=now_us)
        match decide(state, terms, now_us=now_us):
            case Advance(step, _, _):
                state = RolloutState(**{**{f: getattr(state, f) for f in state.__struct_fields__}, "step": step})
            case Promote():
                return "promoted"
            case RollBack():
                return "rolled back"
            case GiveUp():
                return "given up"
            case _:
                pass


def terms_of(alpha: float) -> Terms:
    return Terms(shares=(5.0, 25.0, 50.0, 100.0), alpha=alpha, harm_alpha=ALPHA, max_duration_us=5 * DAY)


def wrong_promotions(count: int, *, champion: float, challenger: float, seed: int) -> int:
    generator = np.random.default_rng(seed)
    ends = [
        roll_out(generator, terms_of(ALPHA), champion=champion, challenger=challenger, rows=60) for _ in range(count)
    ]
    return ends.count("promoted")


def most_expected(count: int) -> float:
    """Alpha's part of so many rollouts, and three standard errors."""
    return count * ALPHA + 3 * math.sqrt(count * ALPHA * (1 - ALPHA))


@pytest.mark.parametrize(("champion", "challenger"), [(0.2, 0.2), (0.1, 0.11)])
def test_a_challenger_that_is_no_better_is_seldom_promoted(champion: float, challenger: float) -> None:
    count = 80
    found = wrong_promotions(count, champion=champion, challenger=challenger, seed=8)
    assert found <= most_expected(count)


@pytest.mark.soak
@pytest.mark.parametrize("champion", [0.02, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("worse_by", [0.0, 0.005, 0.02, 0.05])
def test_a_challenger_that_is_no_better_is_seldom_promoted_on_a_grid(champion: float, worse_by: float) -> None:
    count = 4_000
    found = wrong_promotions(count, champion=champion, challenger=champion + worse_by, seed=9)
    assert found <= most_expected(count)


def test_a_better_challenger_is_promoted_and_a_much_worse_one_rolled_back() -> None:
    generator = np.random.default_rng(3)
    better = [roll_out(generator, terms_of(ALPHA), champion=0.3, challenger=0.15, rows=60) for _ in range(30)]
    worse = [roll_out(generator, terms_of(ALPHA), champion=0.15, challenger=0.3, rows=60) for _ in range(30)]
    assert better.count("promoted") >= 28
    assert worse.count("rolled back") >= 28


@pytest.mark.soak
def test_a_life_of_rollouts_errs_at_most_as_often_as_one() -> None:
    """Twelve challengers one after the other, none of them better: the alphas are spent, not repeated."""
    generator = np.random.default_rng(21)
    lives = 200
    wrong = 0
    for _ in range(lives):
        ends = (
            roll_out(generator, terms_of(alpha_share(number, ALPHA)), champion=0.2, challenger=0.2, rows=60)
            for number in range(1, 13)
        )
        wrong += "promoted" in ends
    assert wrong <= most_expected(lives)
