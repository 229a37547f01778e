"""Container steps on one machine: in a container, in a sandbox, or on this machine's PATH, and saying which."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from goldenloop.pipelines import isolation
from goldenloop.pipelines.executor import Limits, Outcome, Resources, StepRequest
from goldenloop.pipelines.isolation import Isolation, container_name, find, image_note
from goldenloop.pipelines.local import LocalExecutor
from goldenloop.testing.executors import results_of, shell

IMAGE = "registry.example/tool:2"
# Answers like docker, and runs what is to run in the image beside itself; what it was told is noted, a line each.
FAKE_DOCKER = f"""#!{sys.executable}
import json, os, sys
told = sys.argv[1:]
with open(os.path.join(os.path.dirname(__file__), "told"), "a") as file:
    file.write(json.dumps(told) + "\\n")
if told[0] == "ps":
    print("goldenloop-lost 999999999")
if told[0] == "run":
    at = told.index({IMAGE!r})
    words = told[at + 1 :]
    if "--entrypoint" in told[:at]:
        words = [told[told.index("--entrypoint") + 1], *words]
    os.environ["INSIDE"] = "yes"
    os.execvp(words[0], words)
"""


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH's runtimes; `told` in it says what they were told."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "docker").write_text(FAKE_DOCKER)
    (programs / "docker").chmod(0o755)
    (programs / "podman").write_text("#!/bin/sh\nexit 1\n")  # there, and does not work
    (programs / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return programs


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[LocalExecutor]:
    executor = LocalExecutor(
        preimported=(), environments=tmp_path / "environments", isolate=True, readable=(tmp_path / "artifacts",)
    )
    yield executor
    executor.close()


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[LocalExecutor]:
    executor = LocalExecutor(preimported=(), environments=tmp_path / "environments")
    yield executor
    executor.close()


def in_image(folder: Path, script: str, **more: object) -> StepRequest:
    return msgspec.structs.replace(shell(folder, script), image=IMAGE, **more)


def told(docker: Path) -> list[list[str]]:
    return [json.loads(line) for line in (docker / "told").read_text().splitlines()]


def test_the_image_is_said_not_to_be_used(plain: LocalExecutor, tmp_path: Path) -> None:
    request = in_image(tmp_path, "echo hello")
    plain.submit(request)
    result = results_of(plain, 1)[request.id]
    assert result.succeeded
    assert result.notes == (f"the image {IMAGE} is not used: the command runs on this machine",)
    assert Path(request.log).read_text() == f"[goldenloop: {result.notes[0]}]\nhello\n"


@pytest.mark.parametrize(
    ("image", "said"),
    [("python:{}", False), ("python:{}-slim", False), ("python:3.7", True), ("tensorflow/tensorflow:2", True)],
)
def test_a_plain_python_of_our_version_needs_no_note(image: str, said: bool) -> None:
    version = ".".join(map(str, sys.version_info[:2]))
    assert bool(image_note(image.format(version), why="so")) is said


def test_a_missing_command_fails_with_its_name(plain: LocalExecutor, tmp_path: Path) -> None:
    request = msgspec.structs.replace(in_image(tmp_path, ""), command=("Rscript", "a.R"))
    plain.submit(request)
    result = results_of(plain, 1)[request.id]
    assert (result.outcome, result.code) == (Outcome.EXITED, 127)
    assert "there is no command 'Rscript' on PATH" in Path(request.log).read_text()


def test_a_step_without_a_command_says_so(plain: LocalExecutor, tmp_path: Path) -> None:
    request = msgspec.structs.replace(in_image(tmp_path, ""), command=())
    plain.submit(request)
    assert results_of(plain, 1)[request.id].code == 127
    assert "no command" in Path(request.log).read_text()


def test_what_a_script_installs_stays_in_its_folder(plain: LocalExecutor, tmp_path: Path) -> None:
    request = in_image(tmp_path, 'echo "$PIP_TARGET"; python3 -c "import sys; print(sys.path)"')
    plain.submit(request)
    assert results_of(plain, 1)[request.id].succeeded
    lines = Path(request.log).read_text().splitlines()
    assert lines[1].startswith(request.folder)
    assert lines[1] in lines[2]


def test_a_container_runs_the_step(docker: Path, executor: LocalExecutor, tmp_path: Path) -> None:
    (tmp_path / "artifacts").mkdir()
    request = in_image(
        tmp_path,
        'echo "$INSIDE $SECRET $GOLDENLOOP_STEP" > answer; exit 3',
        environment={"SECRET": "hidden"},
        resources=Resources(processors=0.5, memory_bytes=1 << 30),
    )
    executor.submit(request)
    result = results_of(executor, 1)[request.id]
    assert (result.outcome, result.code, result.notes) == (Outcome.EXITED, 3, ())
    assert (Path(request.folder) / "answer").read_text() == f"yes hidden {request.id}\n"
    commands = {words[0]: words for words in told(docker)}
    assert commands["rm"] == ["rm", "--force", "goldenloop-lost"], "what a killed owner left is removed"
    run = commands["run"]
    for pair in (
        ("--name", container_name(request.id)),
        ("--volume", f"{request.folder}:{request.folder}"),
        ("--volume", f"{tmp_path / 'artifacts'}:{tmp_path / 'artifacts'}:ro"),
        ("--env", "SECRET"),
        ("--cpus", "0.5"),
        ("--memory", str(1 << 30)),
    ):
        assert pair in list(pairwise(run))
    assert "hidden" not in str(run), "a list of processes shows no values"


def test_an_image_may_bring_its_own_command(docker: Path, executor: LocalExecutor, tmp_path: Path) -> None:
    request = msgspec.structs.replace(in_image(tmp_path, ""), command=(), args=("echo", "brought"))
    executor.submit(request)
    assert results_of(executor, 1)[request.id].succeeded
    assert "brought" in Path(request.log).read_text()
    assert not any("--entrypoint" in words for words in told(docker))


def test_a_container_that_is_ended_is_removed(docker: Path, executor: LocalExecutor, tmp_path: Path) -> None:
    request = in_image(tmp_path, "sleep 60", limits=Limits(seconds=0.5))
    executor.submit(request)
    assert results_of(executor, 1)[request.id].outcome is Outcome.TIMED_OUT
    deadline = time.monotonic() + 30
    while ["rm", "--force", container_name(request.id)] not in told(docker):
        assert time.monotonic() < deadline
        executor.wait(0.1)
        executor.poll()


@pytest.mark.usefixtures("docker")
def test_a_signal_in_a_container_is_told_apart(executor: LocalExecutor, tmp_path: Path) -> None:
    request = in_image(tmp_path, "exit 139")
    executor.submit(request)
    result = results_of(executor, 1)[request.id]
    assert (result.outcome, result.code) == (Outcome.SIGNALED, 11)


def test_a_runtime_that_does_not_answer_is_not_waited_for(docker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (docker / "docker").write_text("#!/bin/sh\nsleep 60\n")
    monkeypatch.setattr(isolation, "_PROBE_SECONDS", 0.3)
    began = time.monotonic()
    assert find().runtime is None
    assert time.monotonic() - began < 5


def bubblewrap() -> str | None:
    return find().bubblewrap


@pytest.mark.skipif(bubblewrap() is None, reason="bubblewrap is not there, or does not work")
def test_a_sandbox_keeps_the_machine_as_it_is(tmp_path: Path) -> None:
    executor = LocalExecutor(preimported=(), environments=tmp_path / "environments", readable=(tmp_path / "artifacts",))
    executor._isolation = Isolation(bubblewrap=bubblewrap())
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "given").write_text("read me\n")
    (tmp_path / "other").mkdir()
    script = f"""
        cat {tmp_path}/artifacts/given
        echo mine > written && cat written
        echo spoiled 2>/dev/null > {tmp_path}/artifacts/given || echo cannot write what is given
        echo spoiled 2>/dev/null > {Path.home()}/spoiled || echo cannot write elsewhere
        ls {tmp_path}/other 2>/dev/null || echo cannot see the /tmp of others
        kill -9 $$
    """
    request = in_image(tmp_path, script)
    try:
        executor.submit(request)
        result = results_of(executor, 1)[request.id]
    finally:
        executor.close()
    lines = Path(request.log).read_text().splitlines()
    assert "runs in a sandbox on this machine" in lines[0]
    assert lines[1:5] == ["read me", "mine", "cannot write what is given", "cannot write elsewhere"]
    assert (result.outcome, result.code) == (Outcome.SIGNALED, 9)
    assert (tmp_path / "artifacts" / "given").read_text() == "read me\n"
    assert (Path(request.folder) / "written").exists()


@pytest.mark.skipif(bubblewrap() is None, reason="bubblewrap is not there, or does not work")
def test_a_missing_command_is_named_in_a_sandbox_too(tmp_path: Path) -> None:
    executor = LocalExecutor(preimported=(), environments=tmp_path / "environments")
    executor._isolation = Isolation(bubblewrap=bubblewrap())
    request = msgspec.structs.replace(in_image(tmp_path, ""), command=("Rscript", "a.R"))
    try:
        executor.submit(request)
        result = results_of(executor, 1)[request.id]
    finally:
        executor.close()
    assert (result.outcome, result.code) == (Outcome.EXITED, 127)
    assert "there is no command 'Rscript' on PATH" in Path(request.log).read_text()


def test_a_sandbox_that_is_there_and_does_not_work_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho no permission >&2; exit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert find().bubblewrap is None
    assert subprocess.run(["bwrap"], check=False, capture_output=True).returncode == 1
