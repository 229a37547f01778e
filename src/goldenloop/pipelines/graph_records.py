"""A run in the lineage graph, in the terms of ML Metadata: a run is a context, a task an execution, what it read and wrote artifacts.

Types have the names that Kubeflow Pipelines gives them. A node's external id is the id that it has in the platform's own tables, so that a
run which is written again, after a retry, changes its nodes and adds none.
"""

from __future__ import annotations

from typing import Final

import msgspec
from sqlalchemy import select
from sqlalchemy.engine import RowMapping

from goldenloop.core.phases import RunState
from goldenloop.lineage.graph.keeping import keep_events, keep_nodes
from goldenloop.lineage.graph.links import put_members
from goldenloop.lineage.graph.records import Event, EventType, Kind, Node, Value
from goldenloop.pipelines.nodes import Kind as TaskKind
from goldenloop.store.database import Transaction
from goldenloop.store.tables import artifact_tasks, artifacts, runs, tasks

RUN: Final = "system.PipelineRun"
STEP: Final = "system.ContainerExecution"
SCOPE: Final = "system.DAGExecution"
_LIVE: Final = 2  # the state of an artifact that is there
_STATES: Final = {
    RunState.PENDING.value: 1,
    RunState.RUNNING.value: 2,
    RunState.SUCCEEDED.value: 3,
    RunState.FAILED.value: 4,
    RunState.CANCELED.value: 6,
    RunState.SKIPPED.value: 6,
}
_CACHED: Final = 5


def keep_run(transaction: Transaction, run_id: str, *, now_us: int) -> None:
    """Write a run that has ended, with all that it led to, in the transaction of its end."""
    run = transaction.execute(select(runs).where(runs.c.id == run_id)).mappings().one()
    done = list(transaction.execute(select(tasks).where(tasks.c.run_id == run_id)).mappings())
    arrows = list(
        transaction.execute(
            select(artifact_tasks)
            .join(tasks, tasks.c.id == artifact_tasks.c.task_id)
            .where(tasks.c.run_id == run_id)
            .order_by(artifact_tasks.c.task_id, artifact_tasks.c.port, artifact_tasks.c.position)
        ).mappings()
    )
    of_run = select(artifact_tasks.c.artifact_id).join(tasks, tasks.c.id == artifact_tasks.c.task_id)
    made = list(
        transaction.execute(
            select(artifacts).where(artifacts.c.id.in_(of_run.where(tasks.c.run_id == run_id)))
        ).mappings()
    )
    [context] = keep_nodes(transaction, Kind.CONTEXT, [(run_id, RUN, _context(run))], now_us=now_us).values()
    executions = keep_nodes(
        transaction,
        Kind.EXECUTION,
        [(row["id"], STEP if row["kind"] == TaskKind.STEP.value else SCOPE, _execution(row)) for row in done],
        now_us=now_us,
    )
    nodes = keep_nodes(
        transaction, Kind.ARTIFACT, [(row["id"], row["type"], _artifact(row)) for row in made], now_us=now_us
    )
    events = [
        Event(
            artifact_id=nodes[arrow["artifact_id"]],
            execution_id=executions[arrow["task_id"]],
            type=EventType.INPUT if arrow["direction"] == "INPUT" else EventType.OUTPUT,
            path=(arrow["port"], arrow["position"]),
        )
        for arrow in arrows
    ]
    keep_events(transaction, events, now_us=now_us)
    for kind, ids in ((Kind.EXECUTION, executions), (Kind.ARTIFACT, nodes)):
        put_members(transaction, kind, [(context, identity) for identity in ids.values()], are_known=True)


def _context(run: RowMapping) -> Node:
    custom: dict[str, Value] = {"display_name": run["name"], "namespace": run["namespace"], "state": run["state"]}
    if run["loop"]:
        custom["loop"] = run["loop"]
    return Node(name=run["id"], custom=custom)


def _execution(task: RowMapping) -> Node:
    custom: dict[str, Value] = {"task_name": task["name"], "component": task["component"]}
    for name in ("inputs", "outputs"):
        if task[name] is not None:
            custom[name] = msgspec.json.encode(task[name]).decode()
    for name in ("error", "cached_from"):
        if task[name]:
            custom[name] = task[name]
    state = _CACHED if task["cached_from"] else _STATES[task["state"]]
    return Node(name=task["id"], state=state, custom=custom)


def _artifact(row: RowMapping) -> Node:
    custom: dict[str, Value] = {"display_name": row["name"], "digest": row["digest"]}
    for name, value in row["properties"].items():
        custom[name] = value if isinstance(value, bool | int | float | str) else msgspec.json.encode(value).decode()
    return Node(name=row["id"], uri=row["uri"], state=_LIVE, custom=custom)
