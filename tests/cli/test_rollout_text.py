"""How a rollout is described to a person."""

from __future__ import annotations

import pytest

from goldenloop.cli.rollout_text import describe_rollout, labels_line, sparkline
from goldenloop.core.json import JsonObject

STATUS: JsonObject = {
    "phase": "Canary",
    "champion": "3",
    "challenger": "4",
    "share": 25.0,
    "baselineShare": 25.0,
    "comparison": "split",
    "labelled": 412,
    "missing": 9,
    "evidence": {"benefit": 2.5, "harm": -1.0, "threshold": 5.0, "harmThreshold": 3.7},
    "history": [{"benefit": each / 40, "harm": -each / 100} for each in range(101)],
    "guards": [
        {
            "name": "errors",
            "verdict": "pass",
            "worseBy": 0.001,
            "tolerated": 0.01,
            "rows": 900,
            "harm": -2.0,
            "threshold": 5.1,
        },
        {
            "name": "sex=f",
            "verdict": "held",
            "worseBy": None,
            "tolerated": 0.05,
            "rows": 0,
            "harm": 0.0,
            "threshold": 6.0,
        },
    ],
    "analyses": [{"name": "rate", "phase": "Running", "message": "0.97 is successful", "metrics": {}}],
    "reason": "evidence e^2.5 of e^5.0 after 412 labelled requests",
    "waitsFor": "person",
    "labelsUntilDecision": 380,
    "secondsUntilDecision": 604_800,
    "outcomes": {"promote": "version 4 becomes golden", "inconclusive": "version 3 stays"},
}


def test_a_rollout_is_shown_as_a_line_towards_its_threshold(capsys: pytest.CaptureFixture[str]) -> None:
    describe_rollout({"metadata": {"name": "loan-4"}, "status": STATUS})
    shown = capsys.readouterr().out
    for said in (
        "rollout loan-4  Canary",
        "version 4 against version 3, on requests dealt out between them (baseline 25 %); 25 % of the traffic",
        "e^2.5 of e^5.0",
        "412 labels counted, 9 missing; about 380 labels until a decision, about 1w at the present rate",
        "waits for a person: goldenloop promote, or goldenloop rollback",
        "sex=f",
        "analysis rate: Running 0.97 is successful",
        "inconclusive: version 3 stays",
    ):
        assert said in shown
    assert any(block in shown for block in "▃▄▅")


def test_a_rollout_that_nothing_acts_on_has_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    describe_rollout({"metadata": {"name": "by-hand"}})
    assert "not acted on" in capsys.readouterr().out


def test_the_line_has_a_bound_and_both_ends() -> None:
    assert len(sparkline([0.0] * 500, 3.0)) == 48
    assert sparkline([-4.0, 9.0], 3.0) == "▁█"


def test_no_decision_in_sight_is_said() -> None:
    line = labels_line(
        {"labelled": 3, "missing": 0, "phase": "Shadow", "labelsUntilDecision": None, "latestEnd": "2026-01-08"}
    )
    assert line == "3 labels counted, 0 missing; no decision is in sight, and it ends at 2026-01-08 at the latest"
    assert labels_line({"labelled": 3, "missing": 0, "phase": "Promoted"}) == "3 labels counted, 0 missing"
