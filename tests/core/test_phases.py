"""The tables of phases are complete, and every path in them ends or can go on."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import pytest

from goldenloop.core.phases import (
    ROLLOUT_TRANSITIONS,
    RUN_TRANSITIONS,
    VERSION_TRANSITIONS,
    RolloutPhase,
    RunState,
    VersionState,
)

Table = Mapping[StrEnum, frozenset[StrEnum]]
TABLES = pytest.mark.parametrize(
    ("states", "table", "first"),
    [
        (RunState, RUN_TRANSITIONS, RunState.PENDING),
        (VersionState, VERSION_TRANSITIONS, VersionState.REGISTERED),
        (RolloutPhase, ROLLOUT_TRANSITIONS, RolloutPhase.SHADOW),
    ],
    ids=["run", "version", "rollout"],
)


def reachable(table: Table, first: StrEnum) -> set[StrEnum]:
    found = {first}
    while True:
        further = {following for state in found for following in table[state]} - found
        if not further:
            return found
        found |= further


@TABLES
def test_every_state_stands_in_the_table(states: type[StrEnum], table: Table, first: StrEnum) -> None:
    assert set(table) == set(states)
    assert first in states


@TABLES
def test_every_state_can_be_reached(states: type[StrEnum], table: Table, first: StrEnum) -> None:
    assert reachable(table, first) == set(states)


@TABLES
def test_from_every_state_an_end_can_be_reached(states: type[StrEnum], table: Table, first: StrEnum) -> None:
    ends = {state for state in states if not table[state]}
    assert ends
    assert first not in ends
    for state in states:
        assert reachable(table, state) & ends, f"{state} never ends"


def test_a_version_that_was_not_judged_or_was_refused_never_answers() -> None:
    assert VersionState.GOLDEN not in VERSION_TRANSITIONS[VersionState.REGISTERED]
    assert VersionState.GOLDEN not in reachable(VERSION_TRANSITIONS, VersionState.REFUSED)
    assert VersionState.GOLDEN not in reachable(VERSION_TRANSITIONS, VersionState.QUARANTINED)


def test_a_rollout_that_ended_stays_ended() -> None:
    for phase in (RolloutPhase.PROMOTED, RolloutPhase.ROLLED_BACK, RolloutPhase.INCONCLUSIVE):
        assert ROLLOUT_TRANSITIONS[phase] == frozenset()
