"""The local executor: what every executor must do, and what is its own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from kfp import dsl
from small_pipelines import request_of

from goldenloop.pipelines.executor import Limits, Outcome
from goldenloop.pipelines.local import LocalExecutor
from goldenloop.testing.executors import ExecutorConformance, results_of, shell


@pytest.fixture(scope="module")
def executor() -> Iterator[LocalExecutor]:
    """One for the whole suite, so that a step which breaks the interpreter is seen by those after it."""
    executor = LocalExecutor(preimported=())
    yield executor
    executor.close()
    assert executor.starts == 1


class TestLocalExecutor(ExecutorConformance):
    """All of the suite."""


def test_a_dead_interpreter_loses_its_steps_and_another_is_started(tmp_path: Path) -> None:
    executor = LocalExecutor(preimported=())
    try:
        request = shell(tmp_path, "echo $$ > pid; sleep 60")
        executor.submit(request)
        pid = _await_pid(Path(request.folder) / "pid", executor)
        os.kill(executor._zygote.pid, signal.SIGKILL)
        assert results_of(executor, 1)[request.id].outcome is Outcome.LOST
        assert _is_gone(pid)
        after = shell(tmp_path, "true")
        executor.submit(after)
        assert results_of(executor, 1)[after.id].succeeded
        assert executor.starts == 2
    finally:
        executor.close()


@dsl.component(base_image="python:3.11")
def leaves_threads():  # type: ignore[no-untyped-def]  # kfp reads annotations, and these are texts here
    import threading
    import time
    from concurrent.futures import ThreadPoolExecutor

    ThreadPoolExecutor(2).submit(print, "from a thread").result()
    threading.Thread(target=lambda: (time.sleep(0.2), print("at last"))).start()


def test_a_step_that_leaves_an_executor_of_threads_open_ends(executor: LocalExecutor, tmp_path: Path) -> None:
    """As a program of its own would: idle threads of an executor are told, a thread that works is awaited."""
    request = msgspec.structs.replace(
        request_of(leaves_threads, tmp_path, "leaves_threads"), limits=Limits(seconds=20.0)
    )
    executor.submit(request)
    assert results_of(executor, 1)[request.id].succeeded
    said = Path(request.log).read_text()
    assert "from a thread\n" in said
    assert said.endswith("at last\n")


def test_closing_ends_the_steps(tmp_path: Path) -> None:
    executor = LocalExecutor(preimported=())
    request = shell(tmp_path, "echo $$ > pid; sleep 60 & sleep 60")
    executor.submit(request)
    pid = _await_pid(Path(request.folder) / "pid", executor)
    executor.close()
    assert _is_gone(pid)


def _await_pid(file: Path, executor: LocalExecutor) -> int:
    deadline = time.monotonic() + 30
    while not (file.exists() and file.read_text().strip()):
        assert time.monotonic() < deadline
        executor.poll()
        time.sleep(0.02)
    return int(file.read_text())


def _is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False
