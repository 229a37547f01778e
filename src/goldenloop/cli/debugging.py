"""`goldenloop run --debug`: a pipeline in this process, so that `breakpoint()` opens the debugger on this terminal.

It is run by the same engine as on the platform, on a database and a folder of its own that go afterwards. Nothing of the
running installation is used or changed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import select

from goldenloop.cli.output import Output, console, say
from goldenloop.core.clock import SystemClock
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import RunState
from goldenloop.pipelines.compilation import compile_source
from goldenloop.pipelines.engine import Engine
from goldenloop.pipelines.in_process import InProcessExecutor
from goldenloop.pipelines.runs import UNFINISHED, RunRequest, insert_run, output_parameters
from goldenloop.store.artifacts import Artifacts
from goldenloop.store.database import Database, sqlite_url
from goldenloop.store.tables import metadata, runs, tasks


def debug_pipeline(source: str, parameters: JsonObject, *, output: Output) -> bool:
    """Compile and run; whether it succeeded. Raises GoldenloopError where it cannot begin."""
    compiled = compile_source(source)
    logging.getLogger().addFilter(_is_told)
    request = RunRequest(
        namespace="default",
        name=source,
        pipeline=compiled.ir,
        platform=compiled.platform,
        parameters=parameters,
        code=compiled.code,
        cause={"kind": "manual", "text": "a person debugs it"},
        caching=False,
    )
    with tempfile.TemporaryDirectory(prefix="goldenloop-debug-") as scratch:
        folder = Path(scratch)
        database = Database(sqlite_url(folder / "state.db"))
        metadata.create_all(database.engine)
        executor = InProcessExecutor(on_start=_announce if output is Output.TEXT else lambda _folder: None)
        clock = SystemClock()
        kept = Artifacts(str(folder / "artifacts"), cache=folder / "cache")
        engine = Engine(database, kept, executor, clock, folder=folder, parallelism=1)
        try:
            with database.write() as transaction:
                run = insert_run(transaction, request, now_us=clock.now_us())
            assert run is not None, "a run without a cause key is always new"
            with contextlib.nullcontext() if output is Output.TEXT else _output_as_errors():
                ended = _turn(engine, executor, database, run)
        finally:
            engine.close()
            database.close()
    error = f": {ended['error']}" if ended["error"] else ""
    say(output, ended, f"run {ended['state']}{error}")
    return ended["state"] == RunState.SUCCEEDED.value


@contextlib.contextmanager
def _output_as_errors() -> Iterator[None]:
    """Let what steps print go where errors go: standard output is for one document."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _is_told(record: logging.LogRecord) -> bool:
    """KFP's runtime logs its own doings with the root logger, where a person who debugs looks for theirs."""
    return f"{os.sep}kfp{os.sep}dsl{os.sep}" not in record.pathname


def _turn(engine: Engine, executor: InProcessExecutor, database: Database, run: str) -> JsonObject:
    while True:
        engine.advance()
        if executor.was_left:
            engine.cancel(run)
        with database.read() as transaction:
            row = transaction.execute(select(runs).where(runs.c.id == run)).one()
            if row.state in UNFINISHED:
                continue
            steps = transaction.execute(select(tasks.c.name, tasks.c.state, tasks.c.error).where(tasks.c.run_id == run))
            succeeded = row.state == RunState.SUCCEEDED.value
            return {
                "state": row.state,
                "error": row.error,
                "outputs": output_parameters(transaction, run) if succeeded else {},
                "tasks": [{"name": step.name, "state": step.state, "error": step.error} for step in steps],
            }


def _announce(folder: str) -> None:
    console.print(f"── {Path(folder).parent.parent.name}", style="bold", markup=False)
