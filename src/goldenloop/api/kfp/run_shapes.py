"""Runs and their tasks as KFP's API shows them: in `run_details` as today, and as `PipelineTask` as its next version will.

Ids of artifacts are ours (texts); KFP's are numbers, which the JSON of protocol buffers writes as texts too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from sqlalchemy import Row, select
from sqlalchemy.engine import RowMapping

from goldenloop.api.kfp.calls import Answer, filled
from goldenloop.api.kfp.errors import INTERNAL
from goldenloop.core.clock import to_text
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import RunState
from goldenloop.pipelines.experiments import AVAILABLE
from goldenloop.pipelines.nodes import Kind
from goldenloop.standards.kfp_packages import Package, joined_specification
from goldenloop.store.database import Transaction
from goldenloop.store.tables import artifact_tasks, artifacts, runs, tasks

RECURRING = "recurring"  # the kind of cause of a recurring run's runs

# From a schema title to the types of the coming API.
_TYPES = {
    "system.Model": "Model",
    "system.Dataset": "Dataset",
    "system.HTML": "HTML",
    "system.Markdown": "Markdown",
    "system.Metrics": "Metric",
    "system.ClassificationMetrics": "ClassificationMetric",
    "system.SlicedClassificationMetrics": "SlicedClassificationMetric",
}
_TASK_STATES = {RunState.PENDING.value: "RUNTIME_STATE_UNSPECIFIED", RunState.CANCELED.value: "FAILED"}

Arrows = Mapping[tuple[str, str], Mapping[str, list[Row[tuple[object, ...]]]]]  # (task, direction) → port → artifacts


# What a list reads of a run: everything but the pipeline, which may be long.
LISTED = tuple(
    column for column in runs.c if column.name not in ("pipeline", "inputs", "code", "loop", "cause_key", "event_us")
)


def run_shape(row: RowMapping, *, details: Answer | None = None) -> Answer:
    """A run. Its pipeline is named where it came from the catalog, and shown where it came with the run; in a list, where the row
    has no pipeline, only what it is called is shown.
    """
    settings: JsonObject = row["settings"] or {}
    created, finished = to_text(row["created_us"]), _text(row["finished_us"])
    asked = filled(
        {
            "parameters": settings.get("parameters", row["parameters"]),
            "pipeline_root": settings.get("pipeline_root"),
        }
    )
    answer: Answer = {
        "run_id": row["id"],
        "experiment_id": row["experiment_id"],
        "recurring_run_id": row["started_by"] if row["cause"].get("kind") == RECURRING else None,
        "display_name": row["name"],
        "description": row["description"],
        "storage_state": row["storage_state"] or AVAILABLE,
        "service_account": settings.get("service_account"),
        "runtime_config": asked,
        "state": row["state"],
        "state_history": _history(row["state"], created, _text(row["started_us"]), finished),
        "created_at": created,
        "scheduled_at": _text(row["scheduled_us"]) or created,
        "finished_at": finished,
        "error": _error(row["error"]),
        "run_details": details,
    }
    if row["version_id"]:
        answer["pipeline_version_reference"] = {
            "pipeline_id": row["pipeline_id"],
            "pipeline_version_id": row["version_id"],
        }
    elif "pipeline" not in row:
        answer["pipeline_spec"] = filled({"pipelineInfo": filled({"name": settings.get("pipeline_name")})})
    else:
        document: JsonObject = row["pipeline"]
        specification, platform = document["pipeline_spec"], document.get("platform_spec")
        assert isinstance(specification, dict)
        package = Package(pipeline=specification, platform=platform if isinstance(platform, dict) else None)
        answer["pipeline_spec"] = joined_specification(package)
    return filled(answer)


def task_rows(transaction: Transaction, run_id: str) -> list[Row[tuple[object, ...]]]:
    """The tasks of a run, in the order in which they began; those that did not begin last."""
    query = select(tasks).where(tasks.c.run_id == run_id)
    return sorted(transaction.execute(query), key=lambda row: (row.started_us is None, row.started_us or 0, row.name))


def arrows_of(transaction: Transaction, run_id: str) -> Arrows:
    """What the tasks of a run read and wrote."""
    query = (
        select(artifacts, artifact_tasks.c.task_id, artifact_tasks.c.direction, artifact_tasks.c.port)
        .join(artifact_tasks, artifact_tasks.c.artifact_id == artifacts.c.id)
        .join(tasks, tasks.c.id == artifact_tasks.c.task_id)
        .where(tasks.c.run_id == run_id)
        .order_by(artifact_tasks.c.port, artifact_tasks.c.position)
    )
    found: dict[tuple[str, str], dict[str, list[Row[tuple[object, ...]]]]] = defaultdict(lambda: defaultdict(list))
    for row in transaction.execute(query):
        found[row.task_id, row.direction][row.port].append(row)
    return found


def details_shape(run: RowMapping, rows: Iterable[Row[tuple[object, ...]]], arrows: Arrows) -> Answer:
    """`run_details`: every task, steps and what holds them."""
    listed = list(rows)
    created = to_text(run["created_us"])
    parents = _parents(listed)
    children: dict[str, list[str]] = defaultdict(list)
    for child, parent in parents.items():
        children[parent].append(child)
    shown = [
        filled(
            {
                "run_id": run["id"],
                "task_id": row.id,
                "display_name": _shown_name(row),
                "create_time": created,
                "start_time": _text(row.started_us),
                "end_time": _text(row.finished_us),
                "state": row.state,
                "state_history": _history(row.state, created, _text(row.started_us), _text(row.finished_us)),
                "error": _error(row.error),
                "inputs": _artifact_ids(arrows, row.id, "INPUT"),
                "outputs": _artifact_ids(arrows, row.id, "OUTPUT"),
                "parent_task_id": parents.get(row.id),
                "child_tasks": [{"task_id": child} for child in children[row.id]],
            }
        )
        for row in listed
    ]
    return filled({"task_details": shown})


def task_shape(run: RowMapping, row: Row[tuple[object, ...]], arrows: Arrows) -> Answer:
    """A task as `PipelineTask`."""
    name = _shown_name(row)
    return filled(
        {
            "task_id": row.id,
            "run_id": run["id"],
            "name": name,
            "display_name": name,
            "scope_path": f"root.{row.scope}" if row.scope else "root",
            "type": _TASK_TYPES[row.kind],
            "type_attributes": filled({"iteration_index": None if row.round is None else str(row.round)}),
            "state": _task_state(row),
            "cache_fingerprint": row.cache_key,
            "create_time": _text(row.started_us) or to_text(run["created_us"]),
            "end_time": _text(row.finished_us),
            "status_metadata": filled({"message": row.error}),
            "inputs": _ports(row.inputs, arrows, row.id, "INPUT"),
            "outputs": _ports(row.outputs, arrows, row.id, "OUTPUT"),
        }
    )


def artifact_shape(row: Row[tuple[object, ...]], namespace: str | None) -> Answer:
    """An artifact; a metric shows its number where it has just one."""
    kind = _TYPES.get(row.type, "Artifact")
    numbers = [value for value in row.properties.values() if isinstance(value, int | float) and value is not True]
    return filled(
        {
            "artifact_id": row.id,
            "name": row.name,
            "type": kind,
            "uri": row.uri,
            "metadata": row.properties,
            "number_value": numbers[0] if kind == "Metric" and len(numbers) == 1 else None,
            "created_at": to_text(row.created_us),
            "namespace": namespace,
        }
    )


def arrow_shape(row: Row[tuple[object, ...]]) -> Answer:
    """An arrow between a task and an artifact."""
    return filled(
        {
            "id": row.id,
            "artifact_id": row.artifact_id,
            "run_id": row.run_id,
            "task_id": row.task_id,
            "type": _IO_TYPES[row.direction],
            "key": row.port,
            "producer": {"task_name": _shown_name(row)} if row.direction == "OUTPUT" else None,
        }
    )


_TASK_TYPES = {
    Kind.STEP.value: "RUNTIME",
    Kind.IMPORTER.value: "IMPORTER",
    Kind.SCOPE.value: "DAG",
    Kind.LOOP.value: "LOOP",
    Kind.ROUND.value: "DAG",
}
_IO_TYPES = {"INPUT": "COMPONENT_INPUT", "OUTPUT": "OUTPUT"}


def _shown_name(row: Row[tuple[object, ...]]) -> str:
    """What a task is called in its scope; a round is called after its loop."""
    return str(row.name).rpartition(".")[2]


def _task_state(row: Row[tuple[object, ...]]) -> str:
    if row.state == RunState.SUCCEEDED.value and row.cached_from is not None:
        return "CACHED"
    return _TASK_STATES.get(str(row.state), str(row.state))


def _ports(recorded: JsonObject | None, arrows: Arrows, task_id: str, direction: str) -> Answer:
    kind = _IO_TYPES[direction]
    values = (recorded or {}).get("parameters") or {}
    assert isinstance(values, dict)
    return filled(
        {
            "parameters": [
                {"parameter_key": name, "value": value, "type": kind} for name, value in sorted(values.items())
            ],
            "artifacts": [
                {"artifact_key": port, "type": kind, "artifacts": [artifact_shape(each, None) for each in found]}
                for port, found in arrows.get((task_id, direction), {}).items()
            ],
        }
    )


def _artifact_ids(arrows: Arrows, task_id: str, direction: str) -> Answer:
    found = arrows.get((task_id, direction), {})
    return {port: {"artifact_ids": [each.id for each in listed]} for port, listed in found.items()}


def _parents(rows: list[Row[tuple[object, ...]]]) -> dict[str, str]:
    """The task around each task, by id, where it has a row of its own."""
    by_path = {row.name: row.id for row in rows}
    found = {}
    for row in rows:
        around = by_path.get(row.scope)
        if around is not None:
            found[row.id] = around
    return found


def _history(state: str, created: str, started: str | None, finished: str | None) -> list[Answer]:
    """When it came into each state, as far as that is on record."""
    moments = ((RunState.PENDING.value, created), (RunState.RUNNING.value, started), (state, finished))
    return [{"update_time": moment, "state": name} for name, moment in moments if moment is not None]


def _error(text: str | None) -> Answer | None:
    return {"code": INTERNAL, "message": text} if text else None


def _text(moment_us: int | None) -> str | None:
    return None if moment_us is None else to_text(moment_us)
