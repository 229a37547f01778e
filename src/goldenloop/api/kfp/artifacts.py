"""Artifacts and their arrows to tasks, in the form of KFP's next version. They are read here; steps write them."""

from __future__ import annotations

from sqlalchemy import String, cast, select
from starlette.routing import Route

from goldenloop.api.kfp.calls import Answer, Call, filled, route
from goldenloop.api.kfp.run_shapes import arrow_shape, artifact_shape
from goldenloop.control.platform import Platform
from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.pipelines.run_records import SHOWN
from goldenloop.store.paging import Listing, read_page
from goldenloop.store.tables import artifact_tasks, artifacts, runs, tasks

ARTIFACTS = Listing(
    identity=artifacts.c.id,
    fields={
        "artifact_id": artifacts.c.id,
        "id": artifacts.c.id,
        "name": artifacts.c.name,
        "type": artifacts.c.type,
        "uri": artifacts.c.uri,
        "created_at": artifacts.c.created_us,
    },
    moments=frozenset({"created_at"}),
    documents={"metadata": artifacts.c.properties},
)
# An arrow has no id of its own: the parts of its key together are one.
_ARROW = (
    artifact_tasks.c.task_id
    + "/"
    + artifact_tasks.c.direction
    + "/"
    + artifact_tasks.c.port
    + "/"
    + cast(artifact_tasks.c.position, String)
)
ARROWS = Listing(
    identity=_ARROW,
    fields={
        "id": _ARROW,
        "artifact_id": artifact_tasks.c.artifact_id,
        "task_id": artifact_tasks.c.task_id,
        "run_id": tasks.c.run_id,
        "key": artifact_tasks.c.port,
        "created_at": artifacts.c.created_us,
    },
    moments=frozenset({"created_at"}),
)
_DIRECTIONS = {"OUTPUT": "OUTPUT", "COMPONENT_INPUT": "INPUT"}


class ArtifactRoutes:
    """Routes under `/artifacts` and `/artifact_tasks`."""

    def __init__(self, platform: Platform) -> None:
        self._database = platform.database

    def routes(self) -> list[Route]:
        """What to mount."""
        return [
            route("/artifacts", self._list),
            route("/artifacts/{artifact}", self._get),
            route("/artifact_tasks", self._list_arrows),
        ]

    def _list(self, call: Call) -> Answer:
        namespace = call.namespace()
        used = (
            select(artifact_tasks.c.artifact_id)
            .join(tasks, tasks.c.id == artifact_tasks.c.task_id)
            .join(runs, runs.c.id == tasks.c.run_id)
            .where(artifact_tasks.c.artifact_id == artifacts.c.id, runs.c.namespace == namespace, SHOWN)
        )
        with self._database.read() as transaction:
            page = read_page(transaction, ARTIFACTS, list(artifacts.c), call.asked(), where=[used.exists()])
        shown = [artifact_shape(row, namespace) for row in page.rows]
        return filled({"artifacts": shown, "total_size": page.total, "next_page_token": page.next_token})

    def _get(self, call: Call) -> Answer:
        identity = call.path["artifact"]
        used = (
            select(runs.c.namespace)
            .join(tasks, tasks.c.run_id == runs.c.id)
            .join(artifact_tasks, artifact_tasks.c.task_id == tasks.c.id)
            .where(artifact_tasks.c.artifact_id == identity)
            .limit(1)
        )
        with self._database.read() as transaction:
            row = transaction.execute(select(artifacts).where(artifacts.c.id == identity)).first()
            namespace = transaction.scalar(used)
        if row is None:
            raise NotFoundError(f"there is no artifact {identity}", mend="List the artifacts for their ids.")
        return artifact_shape(row, namespace)

    def _list_arrows(self, call: Call) -> Answer:
        columns = [*artifact_tasks.c, tasks.c.run_id, tasks.c.name, _ARROW.label("id")]
        where = [
            artifact_tasks.c.task_id == tasks.c.id,
            artifact_tasks.c.artifact_id == artifacts.c.id,
            tasks.c.run_id == runs.c.id,
            SHOWN,
        ]
        asked = {
            "task_ids": artifact_tasks.c.task_id,
            "run_ids": tasks.c.run_id,
            "artifact_ids": artifact_tasks.c.artifact_id,
        }
        given = {name: [each for each in call.query.getlist(name) if each] for name in asked}
        if not any(given.values()):
            raise InvalidSpecError(
                "nothing is asked for", where="run_ids", mend="Give task_ids, run_ids or artifact_ids."
            )
        where += [asked[name].in_(identities) for name, identities in given.items() if identities]
        kind = call.text("type")
        if kind:
            where.append(artifact_tasks.c.direction == _DIRECTIONS.get(kind, kind))
        with self._database.read() as transaction:
            page = read_page(transaction, ARROWS, columns, call.asked(), where=where)
        shown = [arrow_shape(row) for row in page.rows]
        return filled({"artifact_tasks": shown, "total_size": page.total, "next_page_token": page.next_token})
