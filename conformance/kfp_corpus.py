"""Runs the compiled pipelines of a checkout of kubeflow/pipelines through our engine, in process, and compares the
outcomes.

    python conformance/kfp_corpus.py CHECKOUT [NAME …]

Every pipeline of `test_data/sdk_compiled_pipelines/valid` whose steps are Python components, importers or operations on
volumes is run; those that need a container image are counted and left out. What is expected of each comes from the
checkout's own tests where they assert it (the lists of end-to-end pipelines that succeed or fail; the arguments and
outputs of `local_execution_test.py`), for the rest from a reading of their source (`expectations.py`). Exit code 1
where an outcome differs. Nothing of the checkout is copied; the files of the runs go with a temporary folder.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import msgspec
from expectations import READ_FROM_SOURCE, SECRETS, Expectation, upstream_expectations
from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from goldenloop.core.clock import SystemClock
from goldenloop.core.errors import GoldenloopError
from goldenloop.core.json import Json, JsonObject
from goldenloop.core.phases import RunState
from goldenloop.pipelines.engine import Engine
from goldenloop.pipelines.local import LocalExecutor
from goldenloop.pipelines.python_step import match_python_step
from goldenloop.pipelines.runs import UNFINISHED, ArtifactInput, RunRequest, insert_run, output_parameters
from goldenloop.pipelines.stand_ins import CREATE_VOLUME, DELETE_VOLUME
from goldenloop.standards.pipeline_ir import Documents, Pipeline, read_documents, read_pipeline
from goldenloop.store.artifacts import Artifacts
from goldenloop.store.database import Database, sqlite_url
from goldenloop.store.tables import runs, tasks

CORPUS = Path("test_data/sdk_compiled_pipelines/valid")
PARALLELISM = 4
PATIENCE_SECONDS = 1800.0
_OPERATIONS = (CREATE_VOLUME, DELETE_VOLUME)
_BY_TYPE: dict[str, Json] = {
    "STRING": "text",
    "NUMBER_INTEGER": 3,
    "NUMBER_DOUBLE": 0.5,
    "BOOLEAN": True,
    "LIST": ["a", "b"],
    "STRUCT": {"a": "1", "b": "2"},
}


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline of the corpus and what is expected of it."""

    name: str
    documents: Documents
    pipeline: Pipeline | None
    expected: Expectation
    problem: str = ""  # why it could not be read


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    state: str
    reason: str = ""
    outputs: JsonObject = {}
    succeeded: frozenset[str] = frozenset()  # paths of tasks


def main() -> None:
    """Run, print the table, and exit with 1 where something differs."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("checkout", type=Path)
    arguments.add_argument("names", nargs="*", help="only pipelines whose path contains one of these")
    given = arguments.parse_args()
    folder = given.checkout / CORPUS
    if not folder.is_dir():
        sys.exit(f"{folder} is not there: give the root of a checkout of kubeflow/pipelines")
    asserted = upstream_expectations(given.checkout)
    cases: list[Case] = []
    left_out: list[str] = []
    for file in sorted(folder.rglob("*.yaml")):
        name = file.relative_to(folder).with_suffix("").as_posix()
        if given.names and not any(part in name for part in given.names):
            continue
        case = _case(name, file, asserted)
        (cases.append(case) if case is not None else left_out.append(name))
    with tempfile.TemporaryDirectory(prefix="kfp-corpus-") as scratch:
        observed = _run_all(cases, Path(scratch))
    differs = _report(cases, observed, left_out)
    sys.exit(1 if differs else 0)


def _case(name: str, file: Path, asserted: dict[str, Expectation]) -> Case | None:
    """The case of a file; None where one of its steps needs a container image."""
    documents = read_documents(file.read_text(), where=name)
    expected = (READ_FROM_SOURCE.get(name) or asserted.get(name) or Expectation(why="every step can succeed")).here()
    try:
        pipeline = read_pipeline(documents.pipeline, where=name)
    except GoldenloopError as error:
        return Case(name=name, documents=documents, pipeline=None, expected=expected, problem=str(error))
    containers = [component.container for component in pipeline.components.values() if component.container is not None]
    if any(each.image not in _OPERATIONS and match_python_step(each.command) is None for each in containers):
        return None
    return Case(name=name, documents=documents, pipeline=pipeline, expected=expected)


def _run_all(cases: list[Case], home: Path) -> dict[str, Observed]:
    database = Database(sqlite_url(home / "state.db"))
    database.migrate()
    kept = Artifacts(str(home / "artifacts"), cache=home / "cache")
    for secret, keys in SECRETS.items():
        (home / "secrets" / secret).mkdir(parents=True)
        for key, value in keys.items():
            (home / "secrets" / secret / key).write_text(value)
    rows = home / "rows.csv"
    rows.write_text("a,b\n1,2\n")
    data = kept.put(rows)
    executor = LocalExecutor()
    engine = Engine(database, kept, executor, SystemClock(), folder=home, parallelism=PARALLELISM)
    found: dict[str, Observed] = {}
    asked: dict[str, str] = {}
    try:
        for case in cases:
            if case.pipeline is None:
                found[case.name] = Observed(state="REFUSED", reason=case.problem)
                continue
            try:
                asked[case.name] = _ask(database, case, case.pipeline, home=home, data=data)
            except GoldenloopError as error:
                found[case.name] = Observed(state="REFUSED", reason=str(error))
        _finish(engine, database)
        for name, run_id in asked.items():
            with database.read() as transaction:
                row = transaction.execute(select(runs.c.state, runs.c.error).where(runs.c.id == run_id)).one()
                outputs = output_parameters(transaction, run_id)
                done = (tasks.c.run_id == run_id, tasks.c.state == RunState.SUCCEEDED.value)
                succeeded = frozenset(transaction.execute(select(tasks.c.name).where(*done)).scalars())
            found[name] = Observed(state=row.state, reason=row.error or "", outputs=outputs, succeeded=succeeded)
    finally:
        executor.close()
        database.close()
    return found


def _ask(database: Database, case: Case, pipeline: Pipeline, *, home: Path, data: str) -> str:
    parameters: JsonObject = {}
    for name, spec in pipeline.root.input_parameters.items():
        if name in case.expected.arguments:
            parameters[name] = case.expected.arguments[name]
        elif not spec.optional:
            parameters[name] = str(home / f"{name}.txt") if name.endswith("_path") else _BY_TYPE[spec.type]
    needed = {name: spec for name, spec in pipeline.root.input_artifacts.items() if not spec.optional}
    request = RunRequest(
        namespace=case.name.replace("/", "-").lower()[:63],  # so that one does not find another's results in the cache
        name=case.name,
        pipeline=case.documents.pipeline,
        platform=case.documents.platform,
        parameters=parameters,
        inputs={name: ArtifactInput(uri=data, type=spec.type) for name, spec in needed.items()},
    )
    with database.write() as transaction:
        run_id = insert_run(transaction, request, now_us=time.time_ns() // 1_000)
    assert run_id is not None
    return run_id


def _finish(engine: Engine, database: Database) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        while engine.advance():
            pass
        with database.read() as transaction:
            left = transaction.execute(select(runs.c.name).where(runs.c.state.in_(UNFINISHED))).scalars().all()
        if not left:
            return
        print(f"\r{len(left)} to go ", end="", file=sys.stderr, flush=True)
        engine.wait(1.0)


def _report(cases: list[Case], observed: dict[str, Observed], left_out: list[str]) -> int:
    table = Table("pipeline", "outcome", "expected", "", "reason")
    counts: Counter[bool] = Counter()
    for case in cases:
        seen = observed[case.name]
        as_expected = seen.state == case.expected.outcome and _gives(seen, case.expected)
        counts[as_expected] += 1
        reason = (
            case.expected.why
            if as_expected
            else f"{case.expected.why}; seen: {seen.reason or seen.outputs}, done: {', '.join(sorted(seen.succeeded))}"
        )
        table.add_row(case.name, seen.state, case.expected.outcome, "" if as_expected else "DIFFERS", reason[-600:])
    Console(width=200).print(table)
    print(f"{counts[True]} of {len(cases)} as expected; {len(left_out)} need a container image and were left out")
    return counts[False]


def _gives(seen: Observed, expected: Expectation) -> bool:
    if not seen.succeeded.issuperset(expected.succeeded):
        return False
    if seen.state != RunState.SUCCEEDED.value or not expected.outputs or not seen.outputs:
        return True
    values = list(seen.outputs.values())
    return len(values) == 1 and values[0] in expected.outputs


if __name__ == "__main__":
    main()
