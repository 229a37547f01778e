"""What holds a trigger back, and what it does then."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.core.clock import DAY, HOUR, MINUTE
from goldenloop.standards.trigger import Concurrency
from goldenloop.triggers.admission import Decision, Drop, Policy, Situation, Start, Wait, decide

NOW = 100 * DAY

policies = st.builds(
    Policy,
    concurrency=st.sampled_from(get_args(Concurrency)),
    cooldown_us=st.integers(0, 2 * DAY),
    max_runs_per_day=st.integers(1, 5),
    dry_run=st.booleans(),
    suspended=st.booleans(),
)
situations = st.builds(
    Situation,
    now_us=st.just(NOW),
    going_on=st.lists(st.sampled_from(["a", "b", "c"]), unique=True, max_size=3).map(tuple),
    started_us=st.lists(st.integers(NOW - 3 * DAY, NOW + DAY), max_size=8).map(tuple),
)


def situation(*, going_on: tuple[str, ...] = (), ago: tuple[int, ...] = ()) -> Situation:
    return Situation(now_us=NOW, going_on=going_on, started_us=tuple(NOW - each for each in ago))


def policy(concurrency: Concurrency = "skip", **given: object) -> Policy:
    return Policy(**{"concurrency": concurrency, "cooldown_us": 0, "max_runs_per_day": 10, **given})


@given(policies, situations)
def test_every_decision_keeps_the_bounds(policy: Policy, situation: Situation) -> None:
    decision = decide(policy, situation, "a cause")
    assert decision.reason
    if isinstance(decision, Start):
        assert not policy.dry_run
        assert not policy.suspended
        within_a_day = [moment for moment in situation.started_us if NOW - moment < DAY]
        assert len(within_a_day) < policy.max_runs_per_day
        assert not situation.going_on or policy.concurrency == "replace"
        assert decision.replaces == (situation.going_on if policy.concurrency == "replace" else ())
    if isinstance(decision, Wait):
        assert policy.concurrency == "queue"


@given(policies, situations)
def test_a_cause_that_nothing_holds_back_starts_a_run(policy: Policy, situation: Situation) -> None:
    if policy.dry_run or policy.suspended or situation.going_on or situation.started_us:
        return
    assert decide(policy, situation, "a cause") == Start("a cause")


@pytest.mark.parametrize(
    ("concurrency", "expected"),
    [
        ("skip", Drop("run r is going on")),
        ("queue", Wait("run r is going on")),
        ("replace", Start("a cause, in the place of run r", ("r",))),
    ],
)
def test_what_becomes_of_a_cause_while_a_run_goes_on(concurrency: Concurrency, expected: Decision) -> None:
    assert decide(policy(concurrency), situation(going_on=("r",)), "a cause") == expected


def test_the_cooldown_is_counted_from_the_last_start() -> None:
    held = policy(cooldown_us=HOUR)
    assert decide(held, situation(ago=(59 * MINUTE,)), "x") == Drop(
        "cooldown: the last run was started less than 1h ago"
    )
    assert decide(held, situation(ago=(DAY, HOUR)), "x") == Start("x")
    # A start in the future is one of a clock that was wrong.
    assert decide(held, situation(ago=(-DAY,)), "x") == Start("x")


def test_a_day_has_a_bound() -> None:
    bounded = policy("queue", max_runs_per_day=2)
    decision = decide(bounded, situation(ago=(HOUR, 2 * HOUR)), "x")
    assert decision == Wait("2 runs were started within a day; the bound is 2")
    assert decide(bounded, situation(ago=(HOUR, DAY)), "x") == Start("x")


def test_a_dry_run_says_what_would_have_been() -> None:
    assert decide(policy(dry_run=True), situation(), "x") == Drop("dry run: x would have started a run")
    assert decide(policy(dry_run=True), situation(going_on=("r",)), "x") == Drop("run r is going on")
    assert decide(policy(suspended=True), situation(), "x") == Drop("the trigger is suspended")
