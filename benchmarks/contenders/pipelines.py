"""One measurement of one way to run trivial steps: CONTENDER WORKLOAD STEPS. The last line printed is seconds a step.

`chain`: each step waits for the one before it. `fan`: no step waits for another; two may run at once. A step takes a
text and gives it back. Each contender keeps what it runs in a folder of its own, as it does for its users; it is warmed up
by one run before the one that counts, except where each run is a process of its own (metaflow).
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

WIDTH = 2  # steps at once, where a contender can be told
CHAIN = "chain"


def bare_fork(folder: Path, workload: str, steps: int) -> Callable[[], None]:
    """What cannot be undercut: from an interpreter that has imported what steps import, a fork that writes a file."""
    import importlib

    from goldenloop.pipelines.zygote import PREIMPORTED

    for name in PREIMPORTED:
        importlib.import_module(name)

    def run() -> None:
        running: set[int] = set()
        for number in range(steps):
            while len(running) >= (1 if workload == CHAIN else WIDTH):
                running.discard(os.wait()[0])
            pid = os.fork()
            if pid == 0:
                (folder / str(number)).write_text("x")
                os._exit(0)
            running.add(pid)
        while running:
            running.discard(os.wait()[0])

    return run


def goldenloop(folder: Path, workload: str, steps: int) -> Callable[[], None]:
    """Our engine, with its database and its artifact folder on the disk."""
    from kfp import compiler
    from sqlalchemy import select

    from goldenloop.core.clock import SystemClock
    from goldenloop.pipelines.engine import Engine
    from goldenloop.pipelines.local import LocalExecutor
    from goldenloop.pipelines.runs import UNFINISHED, RunRequest, insert_run
    from goldenloop.standards.pipeline_ir import read_documents
    from goldenloop.store.artifacts import Artifacts
    from goldenloop.store.database import Database, sqlite_url
    from goldenloop.store.tables import runs

    compiler.Compiler().compile(_kfp_pipeline(workload, steps), str(folder / "pipeline.yaml"))
    pipeline = read_documents((folder / "pipeline.yaml").read_text()).pipeline
    database = Database(sqlite_url(folder / "state.db"))
    database.migrate()
    kept = Artifacts(str(folder / "artifacts"), cache=folder / "cache")
    clock = SystemClock()
    engine = Engine(database, kept, LocalExecutor(), clock, folder=folder, parallelism=WIDTH)

    def run() -> None:
        request = RunRequest(namespace="default", name="bench", pipeline=pipeline, caching=False)
        with database.write() as transaction:
            identity = insert_run(transaction, request, now_us=clock.now_us())
        while True:
            while engine.advance():
                pass
            with database.read() as transaction:
                state = transaction.execute(select(runs.c.state).where(runs.c.id == identity)).scalar_one()
            if state not in UNFINISHED:
                break
            engine.wait(1.0)
        if state != "SUCCEEDED":
            sys.exit(f"the run has {state}")

    return run


def kfp_local(folder: Path, workload: str, steps: int, *, use_venv: bool, installs: bool) -> Callable[[], None]:
    """kfp.local with its runner of subprocesses."""
    from kfp import local

    local.init(runner=local.SubprocessRunner(use_venv=use_venv), pipeline_root=str(folder / "outputs"))
    pipeline = _kfp_pipeline(workload, steps, installs=installs)

    def run() -> None:
        with contextlib.redirect_stdout(sys.stderr):
            pipeline()

    return run


def _kfp_pipeline(workload: str, steps: int, *, installs: bool = False) -> Callable[[], object]:
    from kfp import dsl

    @dsl.component(base_image="python:3.11", install_kfp_package=installs)
    def trivial(text: str) -> str:
        return text

    @dsl.pipeline(name="trivial")
    def chain() -> None:
        last: object = "x"
        for _ in range(steps):
            last = trivial(text=last).output

    @dsl.pipeline(name="trivial")
    def fan() -> None:
        for number in range(steps):
            trivial(text=str(number))

    return chain if workload == CHAIN else fan


def luigi(folder: Path, workload: str, steps: int) -> Callable[[], None]:
    """luigi with its local scheduler, a process for each task, and a file for each output."""
    import luigi as library

    class Trivial(library.Task):  # type: ignore[misc]
        number = library.IntParameter()
        attempt = library.IntParameter()

        def requires(self) -> list[object]:
            return [Trivial(self.number - 1, self.attempt)] if workload == CHAIN and self.number else []

        def output(self) -> object:
            return library.LocalTarget(str(folder / f"{self.attempt}-{self.number}"))

        def run(self) -> None:
            with self.output().open("w") as file:
                file.write("x")

    library.configuration.get_config().set("worker", "force_multiprocessing", "true")
    library.configuration.get_config().set("worker", "wait_interval", "0.01")
    attempts = iter(range(100))

    def run() -> None:
        attempt = next(attempts)
        wanted = [Trivial(steps - 1, attempt)] if workload == CHAIN else [Trivial(n, attempt) for n in range(steps)]
        workers = 1 if workload == CHAIN else WIDTH
        done = library.build(wanted, local_scheduler=True, workers=workers, log_level="ERROR")
        if not done:
            sys.exit("luigi failed")

    return run


def metaflow(folder: Path, workload: str, steps: int) -> Callable[[], None]:
    """metaflow with its local data store; each run and each step is a process."""
    lines = ["from metaflow import FlowSpec, step", "class Bench(FlowSpec):"]
    if workload == CHAIN:
        names = ["start", *(f"s{number}" for number in range(1, steps - 1)), "end"]
        for name, after in zip(names, [*names[1:], None], strict=True):
            lines += ["    @step", f"    def {name}(self):", "        self.text = 'x'"]
            lines += [f"        self.next(self.{after})"] if after else []
    else:
        fan = f"self.items = list(range({steps})); self.next(self.one, foreach='items')"
        bodies = {"start(self)": fan, "one(self)": "self.text = 'x'; self.next(self.join)"}
        bodies |= {"join(self, inputs)": "self.next(self.end)", "end(self)": "pass"}
        for head, body in bodies.items():
            lines += ["    @step", f"    def {head}:", f"        {body}"]
    lines += ["if __name__ == '__main__':", "    Bench()"]
    (folder / "flow.py").write_text("\n".join(lines))
    environment = {**os.environ, "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(folder), "USERNAME": "bench"}

    def run() -> None:
        command = [sys.executable, "flow.py", "--quiet", "--no-pylint", "run", "--max-workers", str(WIDTH)]
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)

    return run


def prefect(folder: Path, workload: str, steps: int) -> Callable[[], None]:
    """prefect with the server that it starts for itself, and SQLite; tasks run in threads."""
    os.environ |= {"PREFECT_HOME": str(folder), "PREFECT_LOGGING_LEVEL": "ERROR", "DO_NOT_TRACK": "1"}
    os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "120"
    from prefect import flow, task
    from prefect.task_runners import ThreadPoolTaskRunner

    @task(persist_result=True)
    def trivial(text: str) -> str:
        return text

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=WIDTH))
    def bench() -> None:
        if workload == CHAIN:
            last = "x"
            for _ in range(steps):
                last = trivial(last)
        else:
            for future in [trivial.submit(str(number)) for number in range(steps)]:
                future.result()

    return bench


def dagster(folder: Path, workload: str, steps: int) -> Callable[[], None]:
    """dagster in one process, with an instance on the disk."""
    os.environ |= {"DAGSTER_HOME": str(folder), "DAGSTER_DISABLE_TELEMETRY": "yes"}
    (folder / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    import logging

    from dagster import DagsterInstance, job, op

    logging.disable(logging.WARNING)

    @op
    def begin() -> str:
        return "x"

    @op
    def trivial(text: str) -> str:
        return text

    @job
    def bench() -> None:
        if workload == CHAIN:
            last = begin()
            for _ in range(steps - 1):
                last = trivial(last)
        else:
            for number in range(steps):
                begin.alias(f"begin_{number}")()

    instance = DagsterInstance.get()
    return lambda: _checked(bench.execute_in_process(instance=instance).success)


def _checked(succeeded: bool) -> None:
    if not succeeded:
        sys.exit("it failed")


CONTENDERS: dict[str, Callable[[Path, str, int], Callable[[], object]]] = {
    "fork": bare_fork,
    "goldenloop": goldenloop,
    "kfp.local": lambda *given: kfp_local(*given, use_venv=False, installs=False),
    "kfp.local+pip": lambda *given: kfp_local(*given, use_venv=False, installs=True),
    "kfp.local+venv": lambda *given: kfp_local(*given, use_venv=True, installs=True),
    "luigi": luigi,
    "metaflow": metaflow,
    "prefect": prefect,
    "dagster": dagster,
}
COLD = {"metaflow", "kfp.local+pip", "kfp.local+venv"}  # a warm-up changes nothing, and takes long


def main() -> None:
    """Run once to warm up, once to measure."""
    contender, workload, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as scratch:
        run = CONTENDERS[contender](Path(scratch), workload, steps)
        if contender not in COLD:
            run()
        began = time.perf_counter()
        run()
        seconds = (time.perf_counter() - began) / steps
    print(f"took {seconds}", flush=True)


if __name__ == "__main__":
    main()
