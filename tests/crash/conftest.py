"""The loop that the crash tests kill, and how it goes when nobody does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.platform import Platform, loop_file, running, typed, wait_for
from tests.support.streams import Row, Sender, make_rows, write_history

from goldenloop.core.json import JsonObject

LOOP = "heat"
SPEC: JsonObject = {
    "data": {"source": "history.csv", "label": "label", "timestamp": "at", "window": "5d"},
    "labels": {"delay": "7h"},
    "windows": {"size": "1d"},
    "replay": True,
    "retrain": {"falseAlarmWindows": 100, "cooldown": "1d", "minNewLabels": 90},
    "rollout": {"canary": [50, 100], "maxDuration": "14d"},
}
DECISIONS = ("Trigger", "Promoted", "Refused", "RolledBack", "Inconclusive", "RunFailed")


@dataclass(frozen=True, slots=True)
class Course:
    """What became of a loop."""

    decisions: list[tuple[str, int]]
    tasks: int
    artifacts: int


def course_of(platform: Platform) -> Course:
    """What became of the loop."""
    return Course(
        decisions=platform.timeline(*DECISIONS),
        tasks=len(platform.rows("select id from tasks")),
        artifacts=len(platform.rows("select id from artifacts")),
    )


def settle(platform: Platform) -> None:
    """Wait until nothing is under way, and nothing more is decided."""

    def is_still() -> bool:
        waiting = platform.rows("select id from decisions where fired and not settled")
        going = platform.rows("select id from runs where not settled")
        return not waiting and not going and bool(platform.rows("select number from versions"))

    wait_for(is_still, "the end of what is under way")
    before: list[tuple[str, int]] = []
    while (now := platform.timeline()) != before:
        before = now
        typed("get", "loops", home=platform.home)  # time enough for a look, and a sign that control answers
    assert is_still()


@pytest.fixture(scope="session")
def stream(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Row]]:
    """The folder of the loop's file and history, and the rows to send."""
    folder = tmp_path_factory.mktemp("heat")
    past, rows = make_rows(1, history=2_000, before=900, after=1_600)
    write_history(folder / "history.csv", past)
    loop_file(folder, LOOP, SPEC)
    return folder, rows


@pytest.fixture(scope="session")
def undisturbed(stream: tuple[Path, list[Row]], tmp_path_factory: pytest.TempPathFactory) -> Course:
    """The course of the loop when nothing is killed."""
    folder, rows = stream
    with running(tmp_path_factory.mktemp("undisturbed") / "home") as platform:
        applied = typed("apply", "-f", str(folder / f"{LOOP}.yaml"), "--wait", home=platform.home)
        assert applied.returncode == 0, applied.stderr
        Sender(platform.inference, LOOP).send(rows)
        settle(platform)
        course = course_of(platform)
    kinds = [kind for kind, _ in course.decisions]
    assert "Trigger" in kinds, course
    assert {"Promoted", "Refused"} & set(kinds), course
    return course
