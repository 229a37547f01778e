"""What pages and the CLI ask that no standard has: quality over windows, versions, runs, the state of one run."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.engine import RowMapping

from goldenloop.control.memory import LoopMemory
from goldenloop.control.progress import MEMORY
from goldenloop.core.clock import to_text
from goldenloop.core.errors import NotFoundError
from goldenloop.core.json import Json, JsonObject
from goldenloop.core.phases import RUN_TRANSITIONS, RunState
from goldenloop.lineage.baselines import read_baselines
from goldenloop.pipelines.run_records import SHOWN
from goldenloop.pipelines.runs import outputs
from goldenloop.registry import versions
from goldenloop.standards.pipeline_ir import FromTask, read_pipeline
from goldenloop.store import memories
from goldenloop.store.database import Transaction
from goldenloop.store.tables import decisions, measurements, runs, tasks

RUNS_SHOWN = 500


def quality(transaction: Transaction, namespace: str, loop: str) -> JsonObject:
    """The loop's metric and its drift statistic by window, and the baselines where they were computed."""
    memory = memories.recall(transaction, namespace, loop, MEMORY, LoopMemory)
    metric = "accuracy" if memory is None else memory.metric
    query = (
        select(measurements)
        .where(measurements.c.namespace == namespace, measurements.c.loop == loop)
        .where(measurements.c.feature == "", measurements.c.slice == "")
        .where(measurements.c.metric.in_((metric, "statistic")))
        .order_by(measurements.c.window)
    )
    windows: dict[int, JsonObject] = {}
    drift: list[Json] = []
    loss: list[Json] = []
    for row in transaction.execute(query):
        if row.monitor == "performance" and row.metric == metric:
            windows[row.window] = {
                "index": row.window,
                "start": to_text(row.start_us),
                "end": to_text(row.end_us),
                "rows": row.rows,
                "version": row.version,
                "loop": row.value,
                "low": row.low,
                "high": row.high,
            }
        elif row.metric == "statistic" and row.monitor in ("drift", "performance"):
            entry = {
                "index": row.window,
                "end": to_text(row.end_us),
                "statistic": row.value,
                "threshold": row.threshold,
                "verdict": row.verdict,
                "note": row.note,
            }
            (drift if row.monitor == "drift" else loss).append(entry)
    baselines = read_baselines(transaction, namespace, loop)
    return {
        "metric": metric,
        "windows": list(windows.values()),
        "never": baselines.get("never"),
        "periodic": baselines.get("periodic"),
        "drift": drift,
        "loss": loss,
    }


def version_list(transaction: Transaction, namespace: str, model: str) -> JsonObject:
    """All versions of a model with the verdicts in force."""
    items: list[Json] = [
        versions.describe(version, versions.last_evaluation(transaction, namespace, model, version.number))
        for version in versions.listing(transaction, namespace, model)
    ]
    return {"items": items}


def run_list(transaction: Transaction, namespace: str | None, loop: str | None) -> JsonObject:
    """Runs, newest first."""
    query = select(runs).where(SHOWN)
    if namespace:
        query = query.where(runs.c.namespace == namespace)
    if loop:
        query = query.where(runs.c.loop == loop)
    rows = transaction.execute(query.order_by(runs.c.created_us.desc()).limit(RUNS_SHOWN)).mappings()
    return {"items": [_run(row) for row in rows]}


def run_detail(transaction: Transaction, run_id: str) -> JsonObject:
    """One run with its steps. Raises NotFoundError."""
    row = transaction.execute(select(runs).where(runs.c.id == run_id)).mappings().first()
    if row is None:
        raise NotFoundError(f"there is no run {run_id!r}", mend="See: goldenloop get runs.")
    depends = _dependencies(row["pipeline"])
    steps = transaction.execute(
        select(tasks).where(tasks.c.run_id == run_id).order_by(tasks.c.started_us, tasks.c.name)
    ).mappings()
    return {
        **_run(row),
        "parameters": row["parameters"],
        "code": row["code"],
        "artifacts": [
            {"task": made.task, "port": made.port, "type": made.type, "uri": made.uri, "properties": made.properties}
            for made in outputs(transaction, run_id)
        ],
        "tasks": [
            {
                "name": step["name"],
                "state": step["state"],
                "attempt": step["attempt"],
                "started": _text(step["started_us"]),
                "finished": _text(step["finished_us"]),
                "error": step["error"],
                "cached": step["cached_from"] is not None,
                "dependsOn": depends.get(step["name"], []),
            }
            for step in steps
        ],
    }


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """How far a step is: how many attempts have begun, and whether there will be none after them."""

    attempts: int
    ended: bool


def task_progress(transaction: Transaction, run_id: str, step: str) -> TaskProgress:
    """How far a step is. Raises NotFoundError."""
    query = select(tasks.c.attempt, tasks.c.state).where(tasks.c.run_id == run_id, tasks.c.name == step)
    row = transaction.execute(query).first()
    if row is None:
        raise NotFoundError(f"run {run_id!r} has no step {step!r}", mend=f"See: goldenloop describe run {run_id}.")
    # The row counts the attempts that failed; the one that goes on, or went well, comes after them.
    return TaskProgress(attempts=row.attempt + 1, ended=not RUN_TRANSITIONS[RunState(row.state)])


def decision_list(transaction: Transaction, namespace: str, loop: str) -> JsonObject:
    """What the trigger decided, and why."""
    query = (
        select(decisions)
        .where(decisions.c.namespace == namespace, decisions.c.loop == loop)
        .order_by(decisions.c.id.desc())
        .limit(RUNS_SHOWN)
    )
    return {
        "items": [
            {
                "cause": row.cause_key,
                "fired": row.fired,
                "reason": row.reason,
                "evidence": row.evidence,
                "run": row.run_id,
                "at": to_text(row.event_us),
            }
            for row in transaction.execute(query)
        ]
    }


def _run(row: RowMapping) -> JsonObject:
    cause = row["cause"]
    return {
        "id": row["id"],
        "name": row["name"],
        "namespace": row["namespace"],
        "loop": row["loop"],
        "state": row["state"],
        "cause": {"kind": cause.get("kind", "manual"), "text": cause.get("text", "")},
        "at": _text(row["event_us"]),
        "created": to_text(row["created_us"]),
        "started": _text(row["started_us"]),
        "finished": _text(row["finished_us"]),
        "error": row["error"],
    }


def _dependencies(pipeline: JsonObject) -> dict[str, list[str]]:
    """Which step of the root waits for which, as the specification says."""
    spec = pipeline["pipeline_spec"]
    assert isinstance(spec, dict)
    found = {}
    scope = read_pipeline(spec).root.scope
    for name, task in scope.tasks.items() if scope is not None else ():
        bindings = (*task.parameters.values(), *task.artifacts.values())
        found[name] = sorted({*task.after, *(each.task for each in bindings if isinstance(each, FromTask))})
    return found


def _text(moment_us: int | None) -> str | None:
    return None if moment_us is None else to_text(moment_us)
