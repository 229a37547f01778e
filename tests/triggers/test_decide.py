"""What holds a trigger back is said; nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.core.clock import DAY, HOUR
from goldenloop.triggers.decide import LONGEST_BACK_OFF, Fire, Hold, Policy, Situation, back_off, decide

POLICY = Policy(cooldown_us=HOUR, max_runs_per_day=2, min_new_labels=100, back_off_us=2 * HOUR)
NOW = 100 * DAY


def situation(**changed: object) -> Situation:
    usual: dict[str, object] = {
        "now_us": NOW,
        "busy_with": "",
        "new_labels": 100,
        "fired_us": (),
        "refused_us": None,
    }
    return Situation(**{**usual, **changed})  # type: ignore[arg-type]


def test_a_cause_that_nothing_holds_back_fires_with_its_own_words() -> None:
    assert decide(POLICY, situation(), "the loss rose") == Fire("the loss rose")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"suspended": True}, "suspended"),
        ({"busy_with": "the rollout of version 3"}, "the rollout of version 3 is under way"),
        ({"fired_us": (NOW - HOUR + 1,)}, "cooldown"),
        ({"fired_us": (NOW - DAY + 1, NOW - 2 * HOUR)}, "2 runs were triggered within a day"),
        ({"refused_us": NOW - 2 * HOUR + 1}, "back-off"),
        ({"refused_us": NOW - 3 * HOUR, "setbacks": 2}, "back-off"),
        ({"new_labels": 99}, "only 99 new labels"),
        ({"dry_run": True}, "dry run"),
    ],
)
def test_each_thing_that_holds_it_back_is_said(changed: dict[str, object], reason: str) -> None:
    decision = decide(POLICY, situation(**changed), "the loss rose")
    assert isinstance(decision, Hold)
    assert reason in decision.reason


@pytest.mark.parametrize(
    "changed",
    [
        {"fired_us": (NOW - HOUR,)},
        {"fired_us": (NOW - DAY, NOW - 2 * HOUR)},
        {"refused_us": NOW - 2 * HOUR, "setbacks": 1},
        {"refused_us": NOW - 4 * HOUR, "setbacks": 2},
    ],
)
def test_at_the_bound_it_fires(changed: dict[str, object]) -> None:
    assert isinstance(decide(POLICY, situation(**changed), "the loss rose"), Fire)


def test_the_back_off_doubles_and_is_bounded() -> None:
    waits = [back_off(POLICY, setbacks) for setbacks in range(12)]
    assert waits[:4] == [2 * HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR]
    assert max(waits) == 2 * HOUR * 2**LONGEST_BACK_OFF == waits[-1]


@given(
    fired=st.lists(st.integers(0, 3 * DAY), max_size=6),
    refused=st.one_of(st.none(), st.integers(0, 3 * DAY)),
    labels=st.integers(0, 300),
    setbacks=st.integers(0, 20),
)
def test_what_fires_is_allowed_by_every_single_rule(
    fired: list[int], refused: int | None, labels: int, setbacks: int
) -> None:
    moments = tuple(sorted(NOW - ago for ago in fired))
    refused_us = None if refused is None else NOW - refused
    decision = decide(
        POLICY,
        situation(fired_us=moments, refused_us=refused_us, new_labels=labels, setbacks=setbacks),
        "cause",
    )
    allowed = (
        all(ago >= HOUR for ago in fired)
        and sum(ago < DAY for ago in fired) < 2
        and (refused is None or refused >= back_off(POLICY, setbacks))
        and labels >= 100
    )
    assert isinstance(decision, Fire) == allowed
