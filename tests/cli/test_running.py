"""`run`, `logs` and `cancel` as a person types them, and `--debug`, which needs no platform."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.platform import COMMAND, Platform, running, typed, wait_for

PIPELINE = """
from kfp import dsl

@dsl.component(base_image="python:3.11")
def first(waits: str, number: int) -> int:
    import os, time
    print("first begins", flush=True)
    while waits and not os.path.exists(waits):
        time.sleep(0.02)
    print("first ends")
    return number + 1

@dsl.component(base_image="python:3.11")
def second(number: int, note: str) -> int:
    import os
    with open(note, "a") as file:
        file.write("second\\n")
    if os.environ.get("GOLDENLOOP_TEST_BREAK"):
        breakpoint()
    if number == 13:
        raise ValueError("unlucky")
    return number * 2

@dsl.pipeline
def train(note: str, waits: str = "", number: int = 1) -> int:
    began = first(waits=waits, number=number)
    began.set_caching_options(False)
    ended = second(number=began.output, note=note)
    ended.set_caching_options(False)
    return ended.output
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("home"), workers=1) as platform:
        yield platform


@pytest.fixture
def asked(tmp_path: Path) -> list[str]:
    """The words that name a pipeline whose steps say when they run."""
    (tmp_path / "pipe.py").write_text(PIPELINE)
    return [str(tmp_path / "pipe.py:train"), "-p", f"note={tmp_path / 'note'}"]


def identity_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return str(json.loads(done.stdout)["id"])


@pytest.mark.process
def test_a_run_is_watched_and_its_logs_can_be_followed(platform: Platform, asked: list[str], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run = identity_of(typed("run", *asked, "-p", f"waits={gate}", "--no-wait", "-o", "json", home=platform.home))
    follower = subprocess.Popen(
        [*COMMAND, "logs", run, "--follow", "--home", str(platform.home)], stdout=subprocess.PIPE, text=True
    )
    assert follower.stdout is not None
    seen: list[str] = []
    for line in follower.stdout:
        seen.append(line.strip())
        if "first begins" in line:
            break
    assert follower.poll() is None, "it goes on while the run does"
    gate.touch()
    rest, _ = follower.communicate(timeout=30)
    assert follower.returncode == 0
    assert "first: first ends" in rest
    whole = typed("logs", run, "first", "--follow", "-o", "json", home=platform.home)
    lines = [json.loads(line) for line in whole.stdout.splitlines()]
    assert {line["step"] for line in lines} == {"first"}
    assert [line["line"] for line in lines if line["line"].startswith("first ")] == ["first begins", "first ends"]
    shown = typed("run", *asked, home=platform.home)
    assert shown.returncode == 0
    assert "SUCCEEDED" in shown.stdout.splitlines()[-1]


@pytest.mark.process
def test_a_finished_run_goes_on_from_a_step(platform: Platform, asked: list[str], tmp_path: Path) -> None:
    failed = typed("run", *asked, "-p", "number=12", "-o", "json", home=platform.home)
    assert failed.returncode == 1
    run = json.loads(failed.stdout)["id"]
    assert "unlucky" in json.loads(failed.stdout)["error"]
    note = tmp_path / "note"
    assert note.read_text() == "second\n"
    again = typed("run", run, "--from", "second", "-o", "json", home=platform.home)
    assert again.returncode == 1
    assert note.read_text() == "second\n" * 2
    attempts = [task["attempt"] for task in json.loads(again.stdout)["tasks"] if task["name"] == "second"]
    assert attempts[0] > 1
    good = json.loads(typed("run", *asked, "-o", "json", home=platform.home).stdout)["id"]
    done = typed("run", good, "--from", "second", home=platform.home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert note.read_text() == "second\n" * 4
    log = typed("logs", good, "first", home=platform.home).stdout
    assert log.count("first begins") == 1, "the step before it is not done again"
    wrong = typed("run", good, "--from", "third", home=platform.home)
    assert wrong.returncode == 1
    assert "third" in wrong.stderr


def _heed_interrupts() -> None:
    """Who runs the tests in the background of a shell has told all its children to ignore them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.process
def test_an_interrupted_watcher_leaves_the_run_and_cancel_ends_it(
    platform: Platform, asked: list[str], tmp_path: Path
) -> None:
    watcher = subprocess.Popen(
        [*COMMAND, "run", *asked, "-p", f"waits={tmp_path / 'never'}", "--home", str(platform.home)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_interrupts,
    )
    assert watcher.stdout is not None
    for line in watcher.stdout:
        if "RUNNING" in line:
            break
    watcher.send_signal(signal.SIGINT)
    _, said = watcher.communicate(timeout=30)
    assert watcher.returncode == 0
    assert "goes on" in said
    run = platform.rows("select id from runs where state = 'RUNNING'")[0]["id"]
    assert f"goldenloop cancel {run}" in said
    assert typed("cancel", run, home=platform.home).returncode == 0
    wait_for(lambda: platform.rows(f"select id from runs where id = '{run}' and state = 'CANCELED'"), "the end")
    second = json.loads(typed("cancel", run, "-o", "json", home=platform.home).stdout)
    assert second == {"run": run, "cancelled": False}


def test_wrong_use_is_said(tmp_path: Path, asked: list[str]) -> None:
    for words in (("loans", "--debug"), (asked[0], "--from", "second"), (asked[0], "--debug", "-p", "number")):
        done = typed("run", *words, home=tmp_path)
        assert done.returncode == 1
        assert "error:" in done.stderr


def debug(*words: str, answers: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "run", *words, "--debug"],
        input=answers,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )


def test_debugging_needs_no_platform_and_stops_at_a_breakpoint(asked: list[str], tmp_path: Path) -> None:
    done = debug(*asked, answers="p 'it is', number\nc\n", GOLDENLOOP_TEST_BREAK="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "('it is', 2)" in done.stdout
    assert (tmp_path / "note").read_text() == "second\n"
    left = debug(*asked, answers="q\n", GOLDENLOOP_TEST_BREAK="1")
    assert left.returncode == 1
    assert "step 'second' was cancelled" in left.stdout


def test_debugging_prints_one_document_as_json(asked: list[str]) -> None:
    done = debug(*asked, "-p", "number=4", "-o", "json")
    assert json.loads(done.stdout)["outputs"] == {"Output": 10}
    assert "first begins" in done.stderr
    failed = debug(*asked, "-p", "number=12", "-o", "json")
    assert failed.returncode == 1
    assert "unlucky" in json.loads(failed.stdout)["error"]
    assert "unlucky" in failed.stderr


def test_a_killed_debugger_leaves_no_folder(asked: list[str], tmp_path: Path) -> None:
    """What an interrupt ends is cleared away."""
    process = subprocess.Popen(
        [sys.executable, "-m", "goldenloop.cli.main", "run", *asked, "-p", f"waits={tmp_path / 'never'}", "--debug"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        preexec_fn=_heed_interrupts,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "first begins" in line:
            break
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert not list(tmp_path.glob("goldenloop-debug-*"))
