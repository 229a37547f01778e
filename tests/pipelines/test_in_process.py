"""Steps in this process, for a person who debugs."""

from __future__ import annotations

import os
import pdb
import sys
from pathlib import Path

import msgspec
import pytest
from kfp import dsl
from small_pipelines import request_of

from goldenloop.pipelines.executor import Outcome, StepRequest, StepResult
from goldenloop.pipelines.in_process import InProcessExecutor
from goldenloop.testing.executors import shell


@dsl.component(base_image="python:3.11")
def notes():  # type: ignore[no-untyped-def]  # kfp reads annotations, and these are texts here
    import os
    import sys

    sys.noted_by_a_step = (os.getpid(), os.getcwd(), os.environ["COLOUR"])


@dsl.component(base_image="python:3.11")
def fails():  # type: ignore[no-untyped-def]
    cause = "the cause"
    raise ValueError(cause)


@dsl.component(base_image="python:3.11")
def ends():  # type: ignore[no-untyped-def]
    raise SystemExit(3)


def run(request: StepRequest) -> StepResult:
    executor = InProcessExecutor()
    executor.submit(request)
    [result] = executor.poll()
    return result


def test_a_component_runs_here_and_leaves_nothing(tmp_path: Path) -> None:
    request = request_of(notes, tmp_path, "notes")
    before = (os.getcwd(), dict(os.environ), sys.argv)
    assert run(request).succeeded
    assert sys.noted_by_a_step == (os.getpid(), request.folder, "green")  # type: ignore[attr-defined]
    assert (os.getcwd(), dict(os.environ), sys.argv) == before


def test_exit_codes_are_kept(tmp_path: Path) -> None:
    assert run(request_of(ends, tmp_path, "ends")).code == 3
    assert run(shell(tmp_path, "exit 4")).code == 4
    missing = msgspec.structs.replace(shell(tmp_path, ""), command=("no-such-command",))
    assert run(missing).code == 127


def test_a_failure_on_a_terminal_opens_the_debugger_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []

    def look(trace: object) -> None:
        while trace.tb_next is not None:  # type: ignore[attr-defined]
            trace = trace.tb_next  # type: ignore[attr-defined]
        seen.append(trace.tb_frame.f_locals["cause"])  # type: ignore[attr-defined]

    monkeypatch.setattr(pdb, "post_mortem", look)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    request = request_of(fails, tmp_path, "fails")
    assert run(request).code == 1
    assert seen == ["the cause"]
    assert "ValueError: the cause" in Path(request.log).read_text()


def test_packages_that_are_not_here_are_named(tmp_path: Path) -> None:
    result = run(msgspec.structs.replace(shell(tmp_path, "true"), packages=("gl_nobody==1",)))
    assert result.outcome is Outcome.REFUSED
    assert "gl_nobody==1" in result.describe()


def test_a_step_that_has_not_begun_can_be_cancelled(tmp_path: Path) -> None:
    executor = InProcessExecutor()
    request = shell(tmp_path, "touch begun")
    executor.submit(request)
    executor.cancel(request.id)
    assert [result.outcome for result in executor.poll()] == [Outcome.CANCELED]
    assert not (Path(request.folder) / "begun").exists()
