"""What every executor must do. Inherit `ExecutorConformance` and give the fixture `executor`.

class TestMine(ExecutorConformance):
    @pytest.fixture
    def executor(self):
        mine = MyExecutor()
        yield mine
        mine.close()
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import msgspec

from goldenloop.core.ids import uuid7
from goldenloop.pipelines.executor import Executor, Limits, Outcome, Resources, StepRequest, StepResult

_PATIENCE_SECONDS = 60.0


def shell(
    folder: Path, script: str, *, limits: Limits | None = None, environment: dict[str, str] | None = None
) -> StepRequest:
    """A step that runs a shell script in a fresh folder."""
    identity = uuid7()
    work = folder / identity
    work.mkdir(parents=True)
    return StepRequest(
        id=identity,
        command=("sh", "-c", script),
        environment=environment or {},
        folder=str(work),
        log=str(folder / f"{identity}.log"),
        limits=limits or Limits(),
    )


def results_of(executor: Executor, count: int) -> dict[str, StepResult]:
    """Wait for so many results. Raises AssertionError where they do not come, or one comes twice."""
    found: dict[str, StepResult] = {}
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while len(found) < count:
        for result in executor.poll():
            assert result.id not in found, "one result for one request"
            found[result.id] = result
        assert time.monotonic() < deadline, f"{count - len(found)} results did not come"
        if len(found) < count:
            executor.wait(0.5)
    return found


class ExecutorConformance:
    """The rules of `goldenloop.pipelines.executor.Executor`, as tests."""

    def run(self, executor: Executor, request: StepRequest) -> StepResult:
        """Submit one step and return its result."""
        executor.submit(request)
        return results_of(executor, 1)[request.id]

    def test_a_step_that_ends_well(self, executor: Executor, tmp_path: Path) -> None:
        request = shell(tmp_path, "echo out; echo err >&2; pwd")
        result = self.run(executor, request)
        assert result.succeeded
        log = Path(request.log).read_text()
        assert "out\n" in log
        assert "err\n" in log
        assert request.folder in log, "it runs in its own folder"

    def test_an_exit_code_is_reported(self, executor: Executor, tmp_path: Path) -> None:
        result = self.run(executor, shell(tmp_path, "exit 3"))
        assert (result.outcome, result.code, result.succeeded) == (Outcome.EXITED, 3, False)

    def test_a_signal_is_told_apart_from_an_exit_code(self, executor: Executor, tmp_path: Path) -> None:
        result = self.run(executor, shell(tmp_path, "kill -KILL $$"))
        assert (result.outcome, result.code) == (Outcome.SIGNALED, signal.SIGKILL)

    def test_the_environment_is_given(self, executor: Executor, tmp_path: Path) -> None:
        request = shell(tmp_path, 'echo "got $COLOUR"', environment={"COLOUR": "green"})
        assert self.run(executor, request).succeeded
        assert "got green" in Path(request.log).read_text()

    def test_a_command_that_is_not_there_fails_with_its_name(self, executor: Executor, tmp_path: Path) -> None:
        request = shell(tmp_path, "")
        missing = StepRequest(id=request.id, command=("no-such-command",), folder=request.folder, log=request.log)
        result = self.run(executor, missing)
        assert not result.succeeded
        assert "there is no command 'no-such-command'" in result.reason + Path(request.log).read_text()

    def test_the_time_limit_ends_a_step_and_its_children(self, executor: Executor, tmp_path: Path) -> None:
        request = shell(tmp_path, "(sleep 2; touch survived) & sleep 60", limits=Limits(seconds=0.3))
        began = time.monotonic()
        assert self.run(executor, request).outcome is Outcome.TIMED_OUT
        assert time.monotonic() - began < 30
        time.sleep(2.5)
        assert not (Path(request.folder) / "survived").exists()

    def test_a_step_may_have_no_time_limit(self, executor: Executor, tmp_path: Path) -> None:
        assert self.run(executor, shell(tmp_path, "true", limits=Limits(seconds=None))).succeeded

    def test_what_a_step_leaves_running_ends_with_it(self, executor: Executor, tmp_path: Path) -> None:
        script = f"setsid sh -c 'echo $$ > {tmp_path}/pid; sleep 2; touch {tmp_path}/survived' & sleep 0.5"
        assert self.run(executor, shell(tmp_path, script)).succeeded
        assert (tmp_path / "pid").exists()
        time.sleep(2.5)
        assert not (tmp_path / "survived").exists()

    def test_a_step_that_takes_too_much_memory_is_ended_and_it_is_said_so(
        self, executor: Executor, tmp_path: Path
    ) -> None:
        greedy = "import time\nkept = []\nwhile True:\n    kept.append(b'x' * (8 << 20)); time.sleep(0.01)"
        limits = Limits(memory_bytes=150 << 20, seconds=30.0)
        result = self.run(executor, shell(tmp_path, f'exec python3 -c "{greedy}"', limits=limits))
        assert not result.succeeded
        assert result.out_of_memory
        assert "out of memory" in result.describe()
        assert "150.0 MiB" in result.describe()

    def test_memory_is_that_of_all_its_processes(self, executor: Executor, tmp_path: Path) -> None:
        part = "x = b'x' * (60 << 20); import time; time.sleep(30)"
        script = f'for i in 1 2 3 4; do python3 -c "{part}" & done; wait'
        result = self.run(executor, shell(tmp_path, script, limits=Limits(memory_bytes=150 << 20, seconds=20.0)))
        assert (result.succeeded, result.out_of_memory) == (False, True)

    def test_an_allocation_that_fails_is_named(self, executor: Executor, tmp_path: Path) -> None:
        script = "python3 -c 'import mmap; mmap.mmap(-1, 1 << 40, flags=mmap.MAP_PRIVATE); x = bytes(1 << 50)'"
        result = self.run(executor, shell(tmp_path, script))
        assert (result.outcome, result.out_of_memory) == (Outcome.EXITED, True)
        assert "out of memory" in result.describe()

    def test_memory_that_is_not_too_much_is_given(self, executor: Executor, tmp_path: Path) -> None:
        script = "python3 -c 'x = bytearray(60 << 20); import time; time.sleep(0.3)'"
        assert self.run(executor, shell(tmp_path, script, limits=Limits(memory_bytes=150 << 20))).succeeded

    def test_processor_time_is_bounded(self, executor: Executor, tmp_path: Path) -> None:
        limits = Limits(processor_seconds=1, seconds=30.0)
        result = self.run(executor, shell(tmp_path, "exec python3 -c 'while True: pass'", limits=limits))
        assert result.outcome is Outcome.EXCEEDED
        assert "CPU time, 1 s" in result.describe()

    def test_a_folder_that_grows_too_large_ends_the_step(self, executor: Executor, tmp_path: Path) -> None:
        limits = Limits(folder_bytes=20 << 20, seconds=30.0)
        script = "mkdir deep; head -c 30000000 /dev/zero > deep/much; sleep 60"
        result = self.run(executor, shell(tmp_path, script, limits=limits))
        assert result.outcome is Outcome.EXCEEDED
        assert "20.0 MiB in its folder" in result.describe()

    def test_what_is_asked_for_and_not_honoured_is_said(self, executor: Executor, tmp_path: Path) -> None:
        asked = msgspec.structs.replace(
            shell(tmp_path, "echo done"), resources=Resources(accelerators=2, accelerator_type="nvidia-l4")
        )
        result = self.run(executor, asked)
        assert result.succeeded
        lines = Path(asked.log).read_text().splitlines()
        assert lines[-1] == "done"
        for note in result.notes:
            assert note in lines[0]
        assert not result.notes or "nvidia-l4" in result.notes[0]

    def test_a_cancelled_step_ends(self, executor: Executor, tmp_path: Path) -> None:
        request = shell(tmp_path, "touch begun; sleep 60")
        executor.submit(request)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not (Path(request.folder) / "begun").exists():
            assert time.monotonic() < deadline
            executor.wait(0.05)
            assert executor.poll() == []
        executor.cancel(request.id)
        assert results_of(executor, 1)[request.id].outcome is Outcome.CANCELED

    def test_cancelling_what_is_not_there_does_nothing(self, executor: Executor, tmp_path: Path) -> None:
        executor.cancel("nobody")
        assert self.run(executor, shell(tmp_path, "true")).succeeded

    def test_a_log_is_cut_at_its_limit_and_says_so(self, executor: Executor, tmp_path: Path) -> None:
        request = shell(
            tmp_path,
            "echo first; i=0; while [ $i -lt 2000 ]; do echo 0123456789; i=$((i+1)); done; echo last",
            limits=Limits(log_bytes=5_000),
        )
        assert self.run(executor, request).succeeded
        log = Path(request.log).read_text()
        assert 5_000 <= len(log) < 5_300
        assert "cut at 5000 bytes" in log
        assert log.startswith("first\n")
        assert log.endswith("last\n"), "the end is where a failure says what it is"

    def test_steps_run_side_by_side(self, executor: Executor, tmp_path: Path) -> None:
        meet = tmp_path / "meet"
        meet.mkdir()
        wait = "i=0; while [ $i -lt 600 ]; do [ -e %s ] && exit 0; sleep 0.05; i=$((i+1)); done; exit 1"
        first = shell(tmp_path, f"touch {meet}/a; " + wait % f"{meet}/b")
        second = shell(tmp_path, f"touch {meet}/b; " + wait % f"{meet}/a")
        executor.submit(first)
        executor.submit(second)
        assert all(result.succeeded for result in results_of(executor, 2).values())

    def test_many_steps_end_once_each(self, executor: Executor, tmp_path: Path) -> None:
        requests = [shell(tmp_path, f"exit {number % 3}") for number in range(30)]
        for request in requests:
            executor.submit(request)
        found = results_of(executor, len(requests))
        assert [found[request.id].code for request in requests] == [number % 3 for number in range(30)]

    def test_wake_ends_a_wait(self, executor: Executor) -> None:
        executor.wake()
        began = time.monotonic()
        while time.monotonic() - began < 5:
            executor.wait(
                10.0
            )  # an executor that is warming up may also return early: it is only asked not to sleep on
            break
        assert time.monotonic() - began < 5
