"""A baseline beside a canary: as large, at the other end, for good; and what the log keeps for the comparison."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from test_dataplane import Room, model

from goldenloop.core.routing import Route
from goldenloop.payloads.log import PayloadReader
from goldenloop.payloads.records import Prediction
from goldenloop.serving.scorers import Scorer

__all__ = ["model"]


@pytest.fixture
def room(tmp_path: Path, model: Scorer) -> Room:
    return Room(tmp_path, model)


def test_nobody_changes_sides_while_both_groups_grow(room: Room) -> None:
    keys = [f"customer {number}" for number in range(2_000)]

    def groups(percent: float) -> tuple[set[str], set[str]]:
        deployed = room.take(routes=(Route(version="2", percent=percent),), baseline=percent)
        chosen = {key: deployed.choose(asked=None, identity="", route_key=key) for key in keys}
        canary = {key for key, (version, _) in chosen.items() if version == "2"}
        baseline = {key for key, (version, reason) in chosen.items() if (version, reason) == ("1", "baseline")}
        return canary, baseline

    small, large = groups(5), groups(50)
    assert small[0] < large[0]
    assert small[1] < large[1]
    assert not large[0] & large[1]
    assert large[0] | large[1] == set(keys)
    assert 60 < len(small[0]) < 140
    assert 60 < len(small[1]) < 140


def test_the_log_says_by_what_a_request_was_dealt_out_and_how_long_each_version_took(room: Room) -> None:
    room.take(routes=(Route(version="2", percent=50),), baseline=50.0, loop="elec", replay=False)

    async def scenario() -> None:
        for key in ("anna", "bert", "anna"):
            await room.ask(key=key)
        await room.ask()

    asyncio.run(scenario())
    records = [record for record in PayloadReader(room.folder).read() if isinstance(record, Prediction)]
    units = [record.unit for record in records]
    assert units[0] == units[2] != units[1]
    assert units[3] == ""
    assert "anna" not in units[0]
    assert all(record.reason in ("sticky", "canary", "baseline") for record in records)
    assert all(set(record.scored_us) == {"1", "2"} for record in records)


def test_without_a_second_version_nothing_is_measured(room: Room) -> None:
    room.take(replay=False)
    asyncio.run(room.ask(key="anna"))
    (record,) = PayloadReader(room.folder).read()
    assert isinstance(record, Prediction)
    assert (record.unit, record.scored_us) == ("", {})
