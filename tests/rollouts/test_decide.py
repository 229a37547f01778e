"""When a challenger gets a share, the traffic, or nothing."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.core.clock import DAY
from goldenloop.core.phases import RolloutPhase
from goldenloop.rollouts.decide import (
    Advance,
    GiveUp,
    Promote,
    RollBack,
    Terms,
    Wait,
    decide,
    earned_steps,
    phase_of,
)
from goldenloop.rollouts.evidence import RolloutState
from goldenloop.stats.betting import MeanEvidence

TERMS = Terms(shares=(5.0, 25.0, 50.0, 100.0), alpha=0.02, harm_alpha=0.05, max_duration_us=7 * DAY)
START = MeanEvidence.against(0.0, low=-1.0, high=1.0)


def state(differences: list[float], *, step: int = 0) -> RolloutState:
    values = np.array(differences)
    return RolloutState(
        champion="1",
        challenger="2",
        started_us=0,
        counted_until_us=0,
        step=step,
        benefit=START.update(values),
        harm=START.update(-values),
        labelled=len(differences),
    )


def benefit_of(log_evidence: float) -> MeanEvidence:
    """Evidence of just this size."""
    return msgspec.structs.replace(START, log_wealths=(log_evidence,) * len(START.log_wealths))


def with_benefit(log_evidence: float, *, step: int) -> RolloutState:
    return msgspec.structs.replace(state([], step=step), benefit=benefit_of(log_evidence))


def test_no_labels_means_waiting_and_in_the_end_the_champion() -> None:
    assert isinstance(decide(state([]), TERMS, now_us=7 * DAY - 1), Wait)
    given_up = decide(state([]), TERMS, now_us=7 * DAY)
    assert isinstance(given_up, GiveUp)
    assert "the champion stays" in given_up.reason


def test_shares_are_earned_one_after_the_other() -> None:
    whole = TERMS.threshold
    assert whole == pytest.approx(-math.log(0.02))
    for step, share in enumerate(TERMS.shares[:-1]):
        need = whole * (step + 1) / 4
        assert isinstance(decide(with_benefit(need * 0.99, step=step), TERMS, now_us=1), Wait)
        advance = decide(with_benefit(need * 1.01, step=step), TERMS, now_us=1)
        assert isinstance(advance, Advance)
        assert (advance.step, advance.share) == (step + 1, share)
    assert isinstance(decide(with_benefit(whole * 0.999, step=3), TERMS, now_us=1), Wait)
    assert isinstance(decide(with_benefit(whole, step=3), TERMS, now_us=1), Promote)


def test_overwhelming_evidence_still_takes_one_step_at_a_time() -> None:
    better = state([1.0] * 60)
    seen = []
    for _ in range(4):
        decision = decide(better, TERMS, now_us=1)
        seen.append(type(decision))
        if isinstance(decision, Advance):
            better = msgspec.structs.replace(better, step=decision.step)
    assert seen == [Advance, Advance, Advance, Promote]


def test_harm_rolls_back_at_any_step_and_goes_first() -> None:
    for step in range(4):
        worse = state([-1.0] * 60, step=step)
        assert isinstance(decide(worse, TERMS, now_us=1), RollBack)
        both = msgspec.structs.replace(worse, benefit=benefit_of(100.0))
        assert isinstance(decide(both, TERMS, now_us=100 * DAY), RollBack)


@pytest.mark.parametrize("shares", [(), (100.0,)])
def test_without_shares_between_the_whole_evidence_is_asked_for(shares: tuple[float, ...]) -> None:
    terms = Terms(shares=shares, alpha=0.02, harm_alpha=0.05, max_duration_us=DAY)
    assert isinstance(decide(with_benefit(terms.threshold * 0.99, step=0), terms, now_us=1), Wait)
    assert isinstance(decide(with_benefit(terms.threshold, step=0), terms, now_us=1), Promote)


@given(
    values=st.lists(st.sampled_from([-1.0, 0.0, 1.0]), max_size=200),
    step=st.integers(0, 4),
    now=st.integers(0, 10 * DAY),
)
def test_no_decision_goes_beyond_its_evidence(values: list[float], step: int, now: int) -> None:
    rollout = state(values, step=step)
    decision = decide(rollout, TERMS, now_us=now)
    benefit = rollout.benefit.log_evidence
    if isinstance(decision, Promote):
        assert benefit >= TERMS.threshold
        assert step >= 3
    if isinstance(decision, Advance):
        assert decision.step == step + 1 <= earned_steps(benefit, TERMS)
    if isinstance(decision, Wait):
        assert now < TERMS.max_duration_us
    assert 0 <= earned_steps(benefit, TERMS) <= 4


def test_the_phase_follows_the_step() -> None:
    assert phase_of(state([])) is RolloutPhase.SHADOW
    assert phase_of(state([], step=1)) is RolloutPhase.CANARY
