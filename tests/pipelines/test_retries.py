"""Runs that go on after their end: from what failed, or from a step that is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_pipelines import World, artifact_of, pipeline, step
from sqlalchemy import func, select
from test_tree import loop_document

from goldenloop.core.errors import ConflictError, NotFoundError
from goldenloop.core.json import JsonObject
from goldenloop.pipelines.retries import restart_run
from goldenloop.store.tables import artifacts


def again(world: World, run_id: str, *steps: str) -> None:
    with world.database.write() as transaction:
        restart_run(transaction, run_id, steps=steps)
    world.finish(run_id)


def noting(folder: Path, name: str, *, bad: bool = False, **more: object) -> JsonObject:
    """A step that notes that it ran, and fails where it is bad and the file `mended` is not there."""
    script = 'echo "$0" >> "$1/ran"; [ "$2" = good ] || [ -e "$1/mended" ]'
    return step(script, words=(name, str(folder), "bad" if bad else "good"), **more)  # type: ignore[arg-type]


def ran(folder: Path) -> list[str]:
    file = folder / "ran"
    words = file.read_text().split() if file.exists() else []
    file.unlink(missing_ok=True)
    return sorted(words)


def test_what_succeeded_is_not_done_again(world: World) -> None:
    steps = {
        "fine": noting(world.folder, "fine"),
        "bad": noting(world.folder, "bad", bad=True, after=("fine",)),
        "behind": noting(world.folder, "behind", after=("bad",)),
    }
    run_id = world.go(pipeline(steps))
    assert (world.run(run_id).state, ran(world.folder)) == ("FAILED", ["bad", "fine"])
    again(world, run_id)
    assert (world.run(run_id).state, ran(world.folder)) == ("FAILED", ["bad"])
    (world.folder / "mended").touch()
    again(world, run_id)
    assert (world.run(run_id).state, ran(world.folder)) == ("SUCCEEDED", ["bad", "behind"])
    assert world.run(run_id).error is None
    assert [world.engine.log_path(run_id, "bad", attempt).exists() for attempt in (1, 2, 3)] == [True] * 3


def test_attempts_count_anew(world: World) -> None:
    run_id = world.go(pipeline({"bad": noting(world.folder, "bad", bad=True, retries=1)}))
    assert len(ran(world.folder)) == 2
    again(world, run_id)
    assert len(ran(world.folder)) == 2, "as often as the policy says, again"


def test_an_exit_task_is_done_again_behind_what_is(world: World) -> None:
    document = pipeline(
        {"bad": noting(world.folder, "bad", bad=True), "exit": noting(world.folder, "exit", after=("bad",))}
    )
    document["root"]["dag"]["tasks"]["exit"]["triggerPolicy"] = {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    run_id = world.go(document)
    assert ran(world.folder) == ["bad", "exit"]
    (world.folder / "mended").touch()
    again(world, run_id)
    assert (world.run(run_id).state, ran(world.folder)) == ("SUCCEEDED", ["bad", "exit"])


def test_from_a_step_that_is_named(world: World) -> None:
    write = 'echo "$0" >> "$1/ran"; mkdir -p "$(dirname "$2")"; date +%N > "$2"'
    words = (str(world.folder), "{{$.outputs.artifacts['out'].path}}")
    steps = {
        "first": step(write, writes={"out": "system.Dataset"}, words=("first", *words)),
        "second": step(
            write,
            reads={"data": artifact_of("first", "out")},
            writes={"out": "system.Dataset"},
            words=("second", *words),
        ),
        "third": noting(world.folder, "third", after=("second",)),
        "beside": noting(world.folder, "beside"),
    }
    run_id = world.go(pipeline(steps))
    assert len(ran(world.folder)) == 4
    again(world, run_id, "second")
    assert (world.run(run_id).state, ran(world.folder)) == ("SUCCEEDED", ["second", "third"])
    with world.database.read() as transaction:
        assert transaction.execute(select(func.count()).select_from(artifacts)).scalar_one() == 3
    with pytest.raises(NotFoundError, match="no step fourth"):
        again(world, run_id, "fourth")


def test_a_loop_keeps_the_rounds_that_succeeded(world: World) -> None:
    document = loop_document(3)
    script = 'echo "$0" >> "$1/ran"; [ "$0" != 1 ] || [ -e "$1/mended" ]; echo "w$0" > "$2"'
    executors = document["deploymentSpec"]["executors"]
    output = "{{$.outputs.parameters['word'].output_file}}"
    executors["exec-first"]["container"] = {
        "image": "python:3.11",
        "command": ["sh", "-ec", script],
        "args": ["{{$.inputs.parameters['item']}}", str(world.folder), output],
    }
    executors["exec-second"]["container"] = {
        "image": "python:3.11",
        "command": ["sh", "-ec", 'echo "$0" > "$1"', "{{$.inputs.parameters['word']}}", output],
    }
    run_id = world.go(document)
    assert (world.run(run_id).state, ran(world.folder)) == ("FAILED", ["0", "1", "2"])
    (world.folder / "mended").touch()
    again(world, run_id)
    assert (world.run(run_id).state, ran(world.folder)) == ("SUCCEEDED", ["1"])
    words = world.tasks(run_id)["loop"].outputs["parameters"]["all"]
    assert [word.strip() for word in words] == ["w0", "w1", "w2"]
    again(world, run_id, "loop")
    assert (world.run(run_id).state, ran(world.folder)) == ("SUCCEEDED", ["0", "1", "2"])


def test_a_canceled_run_goes_on(world: World) -> None:
    script = 'echo "$0" >> "$1/ran"; [ -e "$1/mended" ] || sleep 60'
    run_id = world.ask(pipeline({"long": step(script, words=("long", str(world.folder)))}))
    assert run_id is not None
    while not (world.folder / "ran").exists():
        world.engine.advance()
        world.engine.wait(0.05)
    with pytest.raises(ConflictError, match="going on"):
        again(world, run_id)
    assert world.engine.cancel(run_id)
    (world.folder / "mended").touch()
    again(world, run_id)  # before the engine has seen that it was canceled
    assert (world.run(run_id).state, ran(world.folder)) == ("SUCCEEDED", ["long", "long"])
    assert world.tasks(run_id)["long"].state == "SUCCEEDED"


def test_an_unknown_run(world: World) -> None:
    with pytest.raises(NotFoundError):
        again(world, "nobody")
