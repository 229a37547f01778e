"""Monitors in the whole ring: an input that vanishes alarms once, and however much is lost meanwhile, it starts no run."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import ring_worlds
from ring_worlds import ORIGIN_US, SIGNATURE, Rule, Scenario, Simulation
from sqlalchemy import select

from goldenloop.control.memory import MonitorMemory
from goldenloop.control.progress import MONITORS
from goldenloop.control.replaying import Replayed, ReplayRow
from goldenloop.core.clock import HOUR
from goldenloop.monitors.catalogue.inputs import Shares
from goldenloop.monitors.reference import Reference
from goldenloop.store import memories
from goldenloop.store.tables import measurements

GONE = range(10, 15)  # windows in which x is never there, and the rule is wrong in half of the rows


@pytest.fixture
def knows_its_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """References that know that no input was ever missing."""
    plain = ring_worlds._reference

    def fitted(expected: float, rows: int) -> bytes:
        reference = msgspec.json.decode(plain(expected, rows), type=Reference)
        known = Shares(rows=1_000, missing=dict.fromkeys(SIGNATURE.names, 0))
        kept = {name: msgspec.to_builtins(known) for name in ("schema", "missing")}
        return msgspec.json.encode(msgspec.structs.replace(reference, fitted=kept))

    monkeypatch.setattr(ring_worlds, "_reference", fitted)


def go(folder: Path, *, vanishes: bool) -> tuple[Simulation, Replayed]:
    def train(_number: int, _regime: int) -> Rule:
        return Rule(errors=(0.0, 0.5), salt=0.0)

    scenario = Scenario(train=train, windows=20, regime=lambda window: float(window in GONE))
    rows: list[ReplayRow] = scenario.rows(3)
    for row in rows if vanishes else ():
        if (row.event_us - ORIGIN_US) // HOUR in GONE:
            row.features["x"] = None
    world = Simulation(folder, scenario)
    return world, world.go(rows)


@pytest.mark.usefixtures("knows_its_inputs")
def test_a_broken_schema_alarms_once_and_starts_nothing(tmp_path: Path) -> None:
    _, whole = go(tmp_path / "whole", vanishes=False)
    assert whole.runs > 1, "such a loss starts a run where the inputs are whole"
    world, result = go(tmp_path / "gone", vanishes=True)
    assert result.runs == 1
    facts = [line["facts"] for line in result.timeline if line["kind"] == "Alarm"]
    schema = [each for each in facts if isinstance(each, dict) and each["monitor"] == "schema"]
    assert [(each["window"], each["features"]) for each in schema] == [(10, ["x"])]
    with world.world.database.read() as transaction:
        memory = memories.recall(transaction, "default", "sim", MONITORS, MonitorMemory)
        query = select(measurements).where(measurements.c.monitor == "schema", measurements.c.feature == "x")
        failed = [row["window"] for row in transaction.execute(query).mappings() if row["verdict"] == "fail"]
    assert failed == list(GONE)
    assert memory is not None
    assert memory.broken == ((ORIGIN_US + 10 * HOUR, ORIGIN_US + 15 * HOUR),)
