"""Runs of KFP's API, and the tasks in them."""

from __future__ import annotations

import msgspec
from sqlalchemy import Row, select
from starlette.routing import Route

from goldenloop.api.kfp.calls import DEFAULT_NAMESPACE, Answer, Call, filled, route
from goldenloop.api.kfp.run_shapes import LISTED, arrows_of, details_shape, run_shape, task_rows, task_shape
from goldenloop.control.platform import Platform
from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.core.json import JsonObject
from goldenloop.pipelines import run_records
from goldenloop.pipelines.experiments import check_display_name
from goldenloop.pipelines.run_records import SHOWN, get_run
from goldenloop.pipelines.submission import Source, Submission, submit
from goldenloop.standards.kfp_packages import split_specification
from goldenloop.store import tables
from goldenloop.store.database import Transaction
from goldenloop.store.paging import read_page


class VersionReference(msgspec.Struct, frozen=True, kw_only=True):
    """A version of the catalog; of a pipeline without a version, the newest one."""

    pipeline_id: str = ""
    pipeline_version_id: str = ""


class RuntimeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is given."""

    parameters: JsonObject = {}
    pipeline_root: str = ""


class RunMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller says of a new run."""

    display_name: str = ""
    description: str = ""
    experiment_id: str = ""
    pipeline_version_id: str = ""  # an older form of the reference
    pipeline_version_reference: VersionReference | None = None
    pipeline_spec: JsonObject | None = None
    runtime_config: RuntimeConfig = RuntimeConfig()
    service_account: str = ""


class RunRoutes:
    """Routes under `/runs`."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._database = platform.database
        self._clock = platform.world.clock

    def routes(self) -> list[Route]:
        """What to mount."""
        one = "/runs/{run}"
        return [
            route("/runs", self._create, method="POST"),
            route("/runs", self._list),
            route(f"{one}:archive", self._archive, method="POST"),
            route(f"{one}:unarchive", self._unarchive, method="POST"),
            route(f"{one}:terminate", self._terminate, method="POST"),
            route(f"{one}:retry", self._retry, method="POST"),
            route(one, self._get),
            route(one, self._delete, method="DELETE"),
            route(f"{one}/tasks", self._list_tasks),
            route(f"{one}/tasks/{{task}}", self._get_task),
        ]

    def _create(self, call: Call) -> Answer:
        given = call.message(RunMessage, where="run")
        check_display_name(given.display_name, where="run.display_name")
        submission = Submission(
            namespace=DEFAULT_NAMESPACE,
            name=given.display_name,
            source=source_of(given.pipeline_spec, given.pipeline_version_reference, given.pipeline_version_id),
            parameters=given.runtime_config.parameters,
            experiment_id=given.experiment_id or call.text("experiment_id") or None,
            description=given.description,
            settings=settings_of(given.runtime_config, given.service_account),
            cause={"kind": "manual", "text": "asked for through KFP's API"},
        )
        with self._database.write() as transaction:
            run_id = submit(transaction, submission, now_us=self._clock.now_us())
            assert run_id is not None  # a run without a cause's key is always a new one
            answer = run_shape(get_run(transaction, run_id))
        self._platform.wake()
        return answer

    def _get(self, call: Call) -> Answer:
        with self._database.read() as transaction:
            row = get_run(transaction, call.path["run"])
            details = details_shape(row, task_rows(transaction, row["id"]), arrows_of(transaction, row["id"]))
        return run_shape(row, details=details)

    def _list(self, call: Call) -> Answer:
        table = tables.runs
        where = [SHOWN]
        experiment_id = call.text("experiment_id")
        if experiment_id:
            where.append(table.c.experiment_id == experiment_id)
        if not experiment_id or call.text("namespace"):
            where.append(table.c.namespace == call.namespace())
        with self._database.read() as transaction:
            page = read_page(transaction, run_records.LISTING, LISTED, call.asked(), where=where)
        shown = [run_shape(row._mapping) for row in page.rows]
        return filled({"runs": shown, "total_size": page.total, "next_page_token": page.next_token})

    def _archive(self, call: Call) -> Answer:
        with self._database.write() as transaction:
            run_records.archive_run(transaction, call.path["run"])
        return {}

    def _unarchive(self, call: Call) -> Answer:
        with self._database.write() as transaction:
            run_records.unarchive_run(transaction, call.path["run"])
        return {}

    def _terminate(self, call: Call) -> Answer:
        run_id = call.path["run"]
        with self._database.read() as transaction:
            get_run(transaction, run_id)
        if not self._platform.engine.cancel(run_id):
            raise InvalidSpecError("the run has ended already", where="run_id", mend="There is nothing to terminate.")
        return {}

    def _retry(self, call: Call) -> Answer:
        with self._database.write() as transaction:
            run_records.retry_run(transaction, call.path["run"])
        self._platform.wake()
        return {}

    def _delete(self, call: Call) -> Answer:
        with self._database.write() as transaction:
            run_records.delete_run(transaction, call.path["run"], now_us=self._clock.now_us())
        self._platform.wake()
        return {}

    def _list_tasks(self, call: Call) -> Answer:
        with self._database.read() as transaction:
            run = get_run(transaction, call.path["run"])
            rows, arrows = task_rows(transaction, run["id"]), arrows_of(transaction, run["id"])
        asked = call.asked()
        start = _offset(asked.page_token)
        size = asked.page_size or len(rows)
        following = str(start + size) if start + size < len(rows) else ""
        shown = [task_shape(run, row, arrows) for row in rows[start : start + size]]
        return filled({"tasks": shown, "total_size": len(rows), "next_page_token": following})

    def _get_task(self, call: Call) -> Answer:
        with self._database.read() as transaction:
            run = get_run(transaction, call.path["run"])
            row = _task(transaction, run["id"], call.path["task"])
            arrows = arrows_of(transaction, run["id"])
        return task_shape(run, row, arrows)


def source_of(
    specification: JsonObject | None, reference: VersionReference | None, version_id: str, *, where: str = "run"
) -> Source:
    """The pipeline that a message names. Raises InvalidSpecError where it names none or two."""
    referred = reference is not None and (reference.pipeline_id or reference.pipeline_version_id)
    if specification and not referred and not version_id:
        return Source(package=split_specification(specification, where=f"{where}.pipeline_spec"))
    if specification or not (referred or version_id):
        raise InvalidSpecError(
            "a run has one pipeline", where=where, mend="Give pipeline_spec, or pipeline_version_reference."
        )
    chosen = reference or VersionReference()
    return Source(pipeline_id=chosen.pipeline_id or None, version_id=chosen.pipeline_version_id or version_id or None)


def settings_of(config: RuntimeConfig, service_account: str) -> JsonObject:
    """What was asked for, as answers show it again."""
    asked: JsonObject = {"parameters": config.parameters}
    if config.pipeline_root:
        asked["pipeline_root"] = config.pipeline_root
    if service_account:
        asked["service_account"] = service_account
    return asked


def _task(transaction: Transaction, run_id: str, task_id: str) -> Row[tuple[object, ...]]:
    query = select(tables.tasks).where(tables.tasks.c.run_id == run_id, tables.tasks.c.id == task_id)
    row = transaction.execute(query).first()
    if row is None:
        raise NotFoundError(f"run {run_id} has no task {task_id}", mend="List the tasks of the run.")
    return row


def _offset(token: str) -> int:
    if token and not (token.isascii() and token.isdecimal() and len(token) < 10):
        raise InvalidSpecError("this is not a page token", where="page_token", mend="Give the one of the page before.")
    return int(token or 0)
