"""`kill -9` of the engine's process at many moments: the run ends, and each step's effect is recorded once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_pipelines import World, artifact_of, make_world, pipeline, step
from sqlalchemy import select
from test_tree import loop_document

from goldenloop.core.json import JsonObject
from goldenloop.pipelines.local import LocalExecutor
from goldenloop.store.tables import artifact_tasks, artifacts, tasks

STEPS = 8


def chain(folder: Path) -> JsonObject:
    """Each step notes that it began, takes a little time, and writes an artifact on top of the one before it."""
    note = 'echo "$0 $$" >> "$1/begun"; sleep 0.05; cat "$3" > "$2" 2>/dev/null || true; echo "$0" >> "$2"'
    steps = {}
    for number in range(STEPS):
        before = f"s{number - 1}"
        steps[f"s{number}"] = step(
            note,
            reads={"before": artifact_of(before, "out")} if number else {},
            writes={"out": "system.Dataset"},
            words=(
                f"s{number}",
                str(folder),
                "{{$.outputs.artifacts['out'].path}}",
                "{{$.inputs.artifacts['before'].path}}" if number else "/nothing",
            ),
        )
    return pipeline(steps)


ROUNDS = 4


def rounds(folder: Path) -> JsonObject:
    """A loop whose rounds have two steps, one behind the other; each notes that it began and gives a word."""
    document = loop_document(ROUNDS)
    note = 'echo "$0 $$" >> "$1/begun"; sleep 0.05; printf %s "$0" > "$2"'
    for name, given in (("first", "item"), ("second", "word")):
        document["deploymentSpec"]["executors"][f"exec-{name}"]["container"] = {
            "image": "python:3.11",
            "command": ["sh", "-ec", note],
            "args": [
                f"{name}-{{{{$.inputs.parameters['{given}']}}}}",
                str(folder),
                "{{$.outputs.parameters['word'].output_file}}",
            ],
        }
    return document


@pytest.mark.process
@pytest.mark.parametrize("seed", range(2))
def test_a_killed_engine_goes_on_within_loops(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    first = LocalExecutor(preimported=())
    first.close()
    world = make_world(tmp_path, first)
    run_id = world.ask(rounds(tmp_path))
    assert run_id is not None
    for _ in range(4):
        process = _start(tmp_path)
        _wait_for_steps(tmp_path, dice.randint(1, 2), process)
        time.sleep(dice.random() * 0.15)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        _nothing_is_left_running(tmp_path)
        (tmp_path / "begun").unlink(missing_ok=True)
    assert _start(tmp_path).wait(60) == 0
    rows = world.tasks(run_id)
    assert world.run(run_id).state == "SUCCEEDED"
    leaves = {name for name in rows if "." in name}
    assert leaves == {f"loop[{index}].{name}" for index in range(ROUNDS) for name in ("first", "second")}
    assert {rows[name].attempt for name in leaves} == {0}, "a lost process is no failed attempt"
    words = rows["loop"].outputs["parameters"]["all"]
    assert words == [f"second-first-{index}" for index in range(ROUNDS)], "each round gave its own, once"


@pytest.mark.process
@pytest.mark.parametrize("seed", range(3))
def test_a_killed_engine_goes_on_from_its_last_finished_step(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    first = LocalExecutor(preimported=())
    first.close()
    world = make_world(tmp_path, first)
    run_id = world.ask(chain(tmp_path))
    assert run_id is not None
    finished: set[str] = set()
    for _ in range(3):
        process = _start(tmp_path)
        _wait_for_steps(tmp_path, dice.randint(1, 3), process)
        time.sleep(dice.random() * 0.15)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        _nothing_is_left_running(tmp_path)
        assert not _begun(tmp_path) & finished, "a step that had ended is not run again"
        (tmp_path / "begun").unlink(missing_ok=True)
        finished = _finished(world)
    assert _start(tmp_path).wait(60) == 0
    assert not _begun(tmp_path) & finished, "a step that had ended is not run again"
    assert world.run(run_id).state == "SUCCEEDED"
    assert {row.attempt for row in world.tasks(run_id).values()} == {0}, "a lost process is no failed attempt"
    with world.database.read() as transaction:
        written = transaction.execute(
            select(tasks.c.name, artifacts.c.uri)
            .join(artifact_tasks, artifact_tasks.c.task_id == tasks.c.id)
            .join(artifacts, artifacts.c.id == artifact_tasks.c.artifact_id)
            .where(artifact_tasks.c.direction == "OUTPUT")
        ).all()
        assert len(transaction.execute(select(artifacts.c.id)).all()) == STEPS, "no artifact is recorded twice"
    assert sorted(row.name for row in written) == [f"s{number}" for number in range(STEPS)]
    last = next(row.uri for row in written if row.name == f"s{STEPS - 1}")
    assert world.kept.read_bytes(last).decode().split() == [f"s{number}" for number in range(STEPS)]


def _start(folder: Path) -> subprocess.Popen[bytes]:
    program = Path(__file__).with_name("engine_process.py")
    return subprocess.Popen([sys.executable, str(program), str(folder)], stderr=subprocess.DEVNULL)


def _begun(folder: Path) -> set[str]:
    file = folder / "begun"
    return {line.split()[0] for line in file.read_text().splitlines()} if file.exists() else set()


def _wait_for_steps(folder: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while len(_begun(folder)) < count and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _nothing_is_left_running(folder: Path) -> None:
    file = folder / "begun"
    pids = [int(line.split()[1]) for line in file.read_text().splitlines()] if file.exists() else []
    deadline = time.monotonic() + 10
    while any(_is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "a step outlived its engine"
        time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _finished(world: World) -> set[str]:
    with world.database.read() as transaction:
        return set(transaction.execute(select(tasks.c.name).where(tasks.c.state == "SUCCEEDED")).scalars())
