"""Watching a run: what is drawn, what is printed, and what Ctrl-C does."""

from __future__ import annotations

import sys

import pytest
from rich.console import Console

from goldenloop.cli import progress
from goldenloop.cli.output import Output
from goldenloop.core.json import JsonObject

BEGAN = "2026-01-01T00:00:00Z"


def task(name: str, state: str, **more: object) -> JsonObject:
    made: JsonObject = {"name": name, "state": state, "attempt": 0, "cached": False, "started": None, "finished": None}
    return {**made, **more}  # type: ignore[dict-item]


def run(state: str, *tasks: JsonObject) -> JsonObject:
    return {"id": "r", "state": state, "error": None, "started": BEGAN, "finished": None, "tasks": list(tasks)}


class Server:
    """Says one state after the other; an exception among them is raised."""

    def __init__(self, *states: JsonObject | BaseException) -> None:
        self.states = list(states)
        self.cancelled: list[str] = []

    def run(self, _run: str) -> JsonObject:
        state = self.states.pop(0)
        if isinstance(state, BaseException):
            raise state
        return state

    def cancel_run(self, run: str) -> bool:
        self.cancelled.append(run)
        return True


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SHORTEST_PAUSE_SECONDS", 0.0)


def answers(monkeypatch: pytest.MonkeyPatch, answer: str | BaseException) -> None:
    def say(*_words: object, **_options: object) -> str:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress.errors, "input", say)


def test_each_change_is_a_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "console", Console(highlight=False, soft_wrap=True))
    done = task("a", "SUCCEEDED", started=BEGAN, finished="2026-01-01T00:00:02Z")
    server = Server(
        run("RUNNING", task("a", "RUNNING")),
        run("RUNNING", task("a", "RUNNING")),
        run("SUCCEEDED", done, task("b", "SUCCEEDED", cached=True)),
    )
    ended = progress.watch(server, "r", output=Output.TEXT)  # type: ignore[arg-type]
    assert ended is not None
    assert ended["state"] == "SUCCEEDED"
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == ["a RUNNING", "a SUCCEEDED 2.0 s", "b SUCCEEDED (from cache)"]


def test_json_is_not_disturbed(capsys: pytest.CaptureFixture[str]) -> None:
    assert progress.watch(Server(run("FAILED", task("a", "FAILED"))), "r", output=Output.JSON)  # type: ignore[arg-type]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("answer", "cancelled"), [("c", ["r"]), ("w", []), ("cancel", ["r"])])
def test_an_interrupted_person_may_cancel_or_watch_on(
    monkeypatch: pytest.MonkeyPatch, answer: str, cancelled: list[str]
) -> None:
    answers(monkeypatch, answer)
    server = Server(run("RUNNING"), KeyboardInterrupt(), run("CANCELED"))
    assert progress.watch(server, "r", output=Output.JSON)  # type: ignore[arg-type]
    assert server.cancelled == cancelled


@pytest.mark.parametrize("answer", ["", "l", "what?", KeyboardInterrupt(), EOFError()])
def test_in_doubt_the_run_goes_on(monkeypatch: pytest.MonkeyPatch, answer: str | BaseException) -> None:
    answers(monkeypatch, answer)
    server = Server(run("RUNNING"), KeyboardInterrupt())
    assert progress.watch(server, "r", output=Output.JSON) is None  # type: ignore[arg-type]
    assert server.cancelled == []


def test_where_nobody_can_be_asked_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert progress.watch(Server(KeyboardInterrupt()), "r", output=Output.JSON) is None  # type: ignore[arg-type]


def test_many_steps_fit_a_small_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Console(width=60, height=10, force_terminal=True, color_system=None, record=True)
    monkeypatch.setattr(progress, "console", small)
    tasks = [task(f"s{number}", "SUCCEEDED") for number in range(40)]
    tasks[17] = task("s17", "FAILED")
    tasks[30] = task("s30", "RUNNING", attempt=1)
    small.print(progress._draw(run("RUNNING", *tasks)))
    lines = small.export_text().splitlines()
    assert len(lines) < 10
    assert any("s17" in line and "failed" in line for line in lines)
    assert any("s30" in line and "attempt 2" in line for line in lines)
    assert "40 steps: 38 succeeded, 1 failed, 1 running" in lines[-1]
