"""The tables of phases: complete, and every path ends."""

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

TABLES: list[tuple[type[StrEnum], Mapping[StrEnum, frozenset[StrEnum]], StrEnum]] = [
    (RunState, RUN_TRANSITIONS, RunState.PENDING),
    (VersionState, VERSION_TRANSITIONS, VersionState.REGISTERED),
    (RolloutPhase, ROLLOUT_TRANSITIONS, RolloutPhase.SHADOW),
]


@pytest.mark.parametrize(("states", "table", "first"), TABLES)
def test_a_table_is_complete_reachable_and_ends(
    states: type[StrEnum], table: Mapping[StrEnum, frozenset[StrEnum]], first: StrEnum
) -> None:
    assert set(table) == set(states)
    reached, waiting = {first}, [first]
    while waiting:
        for following in table[waiting.pop()] - reached:
            reached.add(following)
            waiting.append(following)
    assert reached == set(states)
    ends = {state for state, following in table.items() if not following}
    assert ends
    can_end = set(ends)
    while grown := {state for state, following in table.items() if following & can_end} - can_end:
        can_end |= grown
    assert can_end == set(states)


def test_what_was_refused_or_rolled_back_never_answers_again() -> None:
    assert not VERSION_TRANSITIONS[VersionState.REFUSED]
    assert not VERSION_TRANSITIONS[VersionState.QUARANTINED]
    before_golden = {state for state, following in VERSION_TRANSITIONS.items() if VersionState.GOLDEN in following}
    assert VersionState.REGISTERED not in before_golden
