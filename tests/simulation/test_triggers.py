"""Triggers that a person wrote into a Loop, in the whole ring: each fires for its own reason, and a dry run starts nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from ring_worlds import Rule, Scenario, simulate

from goldenloop.core.json import JsonObject

USUAL: JsonObject = {"falseAlarmWindows": 50, "cooldown": "1h", "maxRunsPerDay": 8, "minNewLabels": 20, "reasons": []}


def told_of(folder: Path, retrain: JsonObject) -> list[tuple[str, str]]:
    def train(_number: int, _regime: int) -> Rule:
        return Rule(errors=(0.1, 0.5), salt=0.0)

    scenario = Scenario(
        train=train,
        regime=lambda window: 0.0 if window < 3 else 1.0,
        windows=7,
        rows_per_window=30,
        spec={"retrain": {**USUAL, **retrain}},
    )
    result, _ = simulate(folder / "world", scenario, 1)
    return [(str(line["kind"]), str(line["text"])) for line in result.timeline]


@pytest.mark.parametrize(
    ("trigger", "said"),
    [
        ({"metric": "accuracy", "below": 0.8, "for": 2}, "below 0.8 for 2 windows"),
        ({"labels": 60}, "labels came since the last training"),
        ({"staleness": "3h"}, "more than 3h ago"),
        ({"schedule": "0 19 * * *"}, "the schedule '0 19 * * *' says so"),
    ],
    ids=["metric", "labels", "staleness", "schedule"],
)
def test_each_trigger_fires_for_its_own_reason(tmp_path: Path, trigger: JsonObject, said: str) -> None:
    triggered = [text for kind, text in told_of(tmp_path, {"triggers": [trigger]}) if kind == "Trigger"]
    assert triggered
    assert said in triggered[0]


def test_without_a_reason_nothing_starts_and_a_dry_run_says_what_would(tmp_path: Path) -> None:
    told = told_of(tmp_path, {"reasons": ["cost"], "dryRun": True})
    assert [text for kind, text in told if kind == "Trigger"] == []
    assert any(kind == "NotTriggered" and "dry run" in text for kind, text in told)
