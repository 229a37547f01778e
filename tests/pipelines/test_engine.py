"""The engine on real processes: values flow, branches overlap, failures are told, nothing is recorded twice."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from small_pipelines import World, artifact_of, constant, make_world, parameter_of, pipeline, step
from sqlalchemy import func, select

from goldenloop.core.errors import UnavailableError
from goldenloop.pipelines.book import StoreBook
from goldenloop.pipelines.local import LocalExecutor
from goldenloop.pipelines.runs import UNFINISHED, find_model, output_parameters, outputs
from goldenloop.store.tables import artifact_tasks, artifacts

MAKE = step(
    'mkdir -p "$(dirname "$0")"; echo data > "$0"; echo 42 > "$1"',
    gives={"count": "NUMBER_INTEGER"},
    writes={"out": "system.Dataset"},
    words=("{{$.outputs.artifacts['out'].path}}", "{{$.outputs.parameters['count'].output_file}}"),
)
USE = step(
    'cat "$0" > "$2"; echo "count $1" >> "$2"',
    takes={"count": parameter_of("make", "count")},
    reads={"data": artifact_of("make", "out")},
    writes={"model": "system.Model"},
    words=(
        "{{$.inputs.artifacts['data'].path}}",
        "{{$.inputs.parameters['count']}}",
        "{{$.outputs.artifacts['model'].path}}",
    ),
)


def test_values_and_artifacts_flow_and_lineage_is_kept(world: World) -> None:
    result = {"parameters": {"n": {"valueFromParameter": {"producerSubtask": "make", "outputParameterKey": "count"}}}}
    run_id = world.go(pipeline({"use": USE, "make": MAKE}, outputs=result))
    assert world.run(run_id).state == "SUCCEEDED"
    with world.database.read() as transaction:
        model = find_model(transaction, run_id)
        assert model is not None
        assert (model.task, model.port, model.type) == ("use", "model", "system.Model")
        assert world.kept.read_bytes(model.uri) == b"data\ncount 42\n"
        assert [output.task for output in outputs(transaction, run_id)] == ["make", "use"]
        assert output_parameters(transaction, run_id) == {"n": 42}
        arrows = transaction.execute(select(artifact_tasks.c.direction, artifact_tasks.c.port)).all()
    assert sorted(map(tuple, arrows)) == [("INPUT", "data"), ("OUTPUT", "model"), ("OUTPUT", "out")]


def test_work_folders_go_and_logs_stay(world: World) -> None:
    run_id = world.go(pipeline({"speak": step("echo something; touch left")}))
    assert world.engine.log_path(run_id, "speak", 1).read_text() == "something\n"
    world.engine._sweeper.shutdown()
    assert not list(world.folder.glob("runs/*/*/*/work"))


def test_branches_overlap(world: World) -> None:
    meet = 'touch "$0/$1"; i=0; while [ $i -lt 600 ]; do [ -e "$0/$2" ] && exit 0; sleep 0.05; i=$((i+1)); done; exit 1'
    folder = str(world.folder)
    branches = {
        "a": step(meet, words=(folder, "a-is-here", "b-is-here")),
        "b": step(meet, words=(folder, "b-is-here", "a-is-here")),
    }
    assert world.run(world.go(pipeline(branches))).state == "SUCCEEDED"


def test_a_failing_step_is_named_and_others_go_on(world: World) -> None:
    steps = {
        "bad": step("echo 'the disk is on fire'; exit 3"),
        "behind": step("true", after=("bad",)),
        "far_behind": step("true", after=("behind",)),
        "beside": step("true"),
    }
    run_id = world.go(pipeline(steps))
    states = {name: row.state for name, row in world.tasks(run_id).items()}
    assert states == {"bad": "FAILED", "behind": "SKIPPED", "far_behind": "SKIPPED", "beside": "SUCCEEDED"}
    run = world.run(run_id)
    assert run.state == "FAILED"
    assert "step 'bad' ended with exit code 3" in run.error
    assert "the disk is on fire" in run.error


def test_a_killed_step_says_by_which_signal(world: World) -> None:
    run_id = world.go(pipeline({"dies": step("kill -KILL $$")}))
    assert "step 'dies' was killed by SIGKILL" in world.run(run_id).error


def test_a_missing_output_is_named(world: World) -> None:
    forgets = step(
        'touch "$0.joblib"', writes={"model": "system.Model"}, words=("{{$.outputs.artifacts['model'].path}}",)
    )
    error = world.run(world.go(pipeline({"forgets": forgets}))).error
    assert "output artifact 'model' was not written" in error
    assert "model.joblib" in error


@pytest.mark.parametrize(("retries", "state", "attempts"), [(2, "SUCCEEDED", 2), (1, "FAILED", 2)])
def test_retries(world: World, retries: int, state: str, attempts: int) -> None:
    third_time = step(
        'echo x >> "$0/tries"; [ $(wc -l < "$0/tries") -ge 3 ]', retries=retries, words=(str(world.folder),)
    )
    run_id = world.go(pipeline({"shaky": third_time}))
    task = world.tasks(run_id)["shaky"]
    assert (task.state, task.attempt) == (state, attempts)
    assert world.engine.log_path(run_id, "shaky", 2).exists()


def test_the_cache_gives_what_is_still_there(world: World) -> None:
    cached = MAKE | {"cache": True}
    first, second = world.go(pipeline({"make": cached})), world.go(pipeline({"make": cached}))
    one, two = world.tasks(first)["make"], world.tasks(second)["make"]
    assert two.cached_from == one.id
    assert two.outputs == one.outputs
    with world.database.read() as transaction:
        assert len(outputs(transaction, second)) == 1
    without = world.go(pipeline({"make": cached}), caching=False)
    assert world.tasks(without)["make"].cached_from is None
    shutil.rmtree(world.folder / "artifacts")
    (world.folder / "artifacts").mkdir()
    again = world.go(pipeline({"make": cached}))
    assert world.tasks(again)["make"].cached_from is None
    assert world.run(again).state == "SUCCEEDED"


def test_another_value_is_another_cache_entry(world: World) -> None:
    def speaking(word: str) -> dict[str, object]:
        return pipeline({"say": step("true", takes={"word": constant(word)}, cache=True)})

    world.go(speaking("a"))
    assert world.tasks(world.go(speaking("b")))["say"].cached_from is None
    assert world.tasks(world.go(speaking("a")))["say"].cached_from is not None


def test_one_cause_starts_one_run(world: World) -> None:
    specification = pipeline({"only": step("true")})
    first = world.ask(specification, cause_key="drift-7")
    assert first is not None
    assert world.ask(specification, cause_key="drift-7") is None


def test_cancel_ends_the_process(world: World) -> None:
    run_id = world.ask(
        pipeline(
            {
                "long": step('echo $$ > "$0/pid"; sleep 60', words=(str(world.folder),)),
                "next": step("true", after=("long",)),
            }
        )
    )
    assert run_id is not None
    pid = _await_pid(world, world.folder / "pid")
    assert world.engine.cancel(run_id)
    assert not world.engine.cancel(run_id)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        world.engine.advance()
        world.engine.wait(0.05)
        assert time.monotonic() < deadline
    assert {row.state for row in world.tasks(run_id).values()} == {"CANCELED"}


def test_runs_share_the_room_turn_by_turn(tmp_path: Path, warm_executor: LocalExecutor) -> None:
    world = make_world(tmp_path, warm_executor, parallelism=2)
    note = 'echo "$0" >> "$1/order"; sleep 0.1'
    first = world.ask(pipeline({f"s{number}": step(note, words=("first", str(tmp_path))) for number in range(6)}))
    second = world.ask(pipeline({f"s{number}": step(note, words=("second", str(tmp_path))) for number in range(2)}))
    assert first is not None
    assert second is not None
    world.finish(first, second)
    order = (tmp_path / "order").read_text().split()
    assert max(index for index, name in enumerate(order) if name == "second") <= 5, order


def test_a_higher_priority_starts_first(tmp_path: Path, warm_executor: LocalExecutor) -> None:
    world = make_world(tmp_path, warm_executor, parallelism=1)
    note = 'echo "$0" >> "$1/order"'
    asked = [
        world.ask(
            pipeline({f"s{number}": step(note, words=(name, str(tmp_path))) for number in range(2)}), priority=priority
        )
        for name, priority in (("low", -1), ("plain", 0), ("high", 5))
    ]
    world.finish(*(run_id for run_id in asked if run_id is not None))
    assert (tmp_path / "order").read_text().split() == ["high", "high", "plain", "plain", "low", "low"]


def test_a_step_may_name_its_own_cache_key(world: World) -> None:
    def speaking(word: str, key: str) -> dict[str, object]:
        document = pipeline({"say": step("true", takes={"word": constant(word)}, cache=True)})
        document["root"]["dag"]["tasks"]["say"]["cachingOptions"]["cacheKey"] = key
        return document

    world.go(speaking("a", "one"))
    assert world.tasks(world.go(speaking("b", "one")))["say"].cached_from is not None
    assert world.tasks(world.go(speaking("a", "two")))["say"].cached_from is None


def test_what_ran_without_the_cache_is_not_found_in_it(world: World) -> None:
    cached = MAKE | {"cache": True}
    world.go(pipeline({"make": cached}), caching=False)
    world.go(pipeline({"make": MAKE}))
    assert world.tasks(world.go(pipeline({"make": cached})))["make"].cached_from is None


def test_a_store_that_does_not_answer_costs_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = world.ask(pipeline({"make": MAKE}))
    assert run_id is not None
    put = world.kept.put

    def unavailable(path: Path) -> str:
        raise UnavailableError("the store is away", where=str(path))

    monkeypatch.setattr(world.kept, "put", unavailable)
    deadline = time.monotonic() + 30
    with pytest.raises(UnavailableError, match="store is away"):
        while time.monotonic() < deadline:
            world.engine.advance()
            world.engine.wait(0.05)
    monkeypatch.setattr(world.kept, "put", put)
    world.finish(run_id)
    assert (world.run(run_id).state, world.tasks(run_id)["make"].attempt) == ("SUCCEEDED", 0)


def test_a_turn_that_fails_is_done_again_from_the_database(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = world.ask(pipeline({"first": step("true"), "second": step("true", after=("first",))}))
    assert run_id is not None
    flush = StoreBook.flush
    failures = iter([False, True, False, True, True])

    def shaky(book: StoreBook) -> None:
        flush(book)
        if next(failures, False):
            raise UnavailableError("the disk is full")

    monkeypatch.setattr(StoreBook, "flush", shaky)
    deadline = time.monotonic() + 30
    while world.run(run_id).state in UNFINISHED:
        assert time.monotonic() < deadline
        with contextlib.suppress(UnavailableError):
            world.engine.advance()
        world.engine.wait(0.05)
    assert world.run(run_id).state == "SUCCEEDED"
    assert next(failures, None) is None, "it did fail on the way"


def test_a_lost_interpreter_costs_no_attempt(tmp_path: Path) -> None:
    executor = LocalExecutor(preimported=())
    world = make_world(tmp_path, executor)
    try:
        waits = 'echo $$ > "$0/pid"; [ -e "$0/again" ] || { touch "$0/again"; sleep 60; }'
        run_id = world.ask(pipeline({"waits": step(waits, words=(str(tmp_path),))}))
        assert run_id is not None
        _await_pid(world, tmp_path / "pid")
        while not (tmp_path / "again").exists():
            time.sleep(0.01)
        os.kill(executor._zygote.pid, signal.SIGKILL)
        world.finish(run_id)
        task = world.tasks(run_id)["waits"]
        assert (task.state, task.attempt) == ("SUCCEEDED", 0)
        assert "starts again" in world.engine.log_path(run_id, "waits", 1).read_text() or executor.starts == 2
    finally:
        executor.close()


def test_a_new_engine_starts_again_what_was_running(tmp_path: Path) -> None:
    first = LocalExecutor(preimported=())
    world = make_world(tmp_path, first)
    script = 'echo x >> "$0/starts"; echo begun; [ $(wc -l < "$0/starts") -ge 2 ] || sleep 60'
    run_id = world.ask(pipeline({"done": step("true"), "long": step(script, after=("done",), words=(str(tmp_path),))}))
    assert run_id is not None
    deadline = time.monotonic() + 30
    while not (tmp_path / "starts").exists():
        world.engine.advance()
        world.engine.wait(0.05)
        assert time.monotonic() < deadline
    done_at = world.tasks(run_id)["done"].finished_us
    world.engine.close()
    second = LocalExecutor(preimported=())
    try:
        other = make_world(tmp_path, second)
        other.finish(run_id)
        rows = other.tasks(run_id)
        assert other.run(run_id).state == "SUCCEEDED"
        assert rows["long"].attempt == 0
        assert rows["done"].finished_us == done_at, "what had ended is not run again"
    finally:
        second.close()


def test_equal_inputs_are_one_artifact(world: World) -> None:
    file = world.folder / "rows.csv"
    file.write_text("a\n1\n")
    address = world.kept.put(file)
    reading = pipeline(
        {"read": step("true", reads={"data": {"componentInputArtifact": "data"}})},
        artifacts={"data": {"artifactType": {"schemaTitle": "system.Dataset"}}},
    )
    for _ in range(2):
        world.go(reading, inputs={"data": address})
    with world.database.read() as transaction:
        assert transaction.execute(select(func.count()).select_from(artifacts)).scalar_one() == 1


def test_an_input_that_is_gone_fails_the_step_and_says_so(world: World) -> None:
    reading = pipeline(
        {"read": step("true", reads={"data": {"componentInputArtifact": "data"}})},
        artifacts={"data": {"artifactType": {"schemaTitle": "system.Dataset"}}},
    )
    run = world.run(world.go(reading, inputs={"data": f"artifact:{'0' * 64}"}))
    assert run.state == "FAILED"
    assert "step 'read' could not be started" in run.error
    assert "is gone" in run.error


def _await_pid(world: World, file: Path) -> int:
    deadline = time.monotonic() + 30
    while not (file.exists() and file.read_text().strip()):
        world.engine.advance()
        world.engine.wait(0.05)
        assert time.monotonic() < deadline
    return int(file.read_text())
