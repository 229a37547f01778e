"""A run that has ended is in the lineage graph, once, with what flowed through it."""

from __future__ import annotations

from small_pipelines import World, artifact_of, pipeline, step

from goldenloop.lineage.graph.links import events_of, members_of
from goldenloop.lineage.graph.nodes import ids_of_external, nodes_by_id
from goldenloop.lineage.graph.records import EventType, Kind
from goldenloop.pipelines.graph_records import RUN, STEP, keep_run
from goldenloop.store.tables import artifacts, tasks

MAKE = step('echo data > "$0"', writes={"out": "system.Dataset"}, words=("{{$.outputs.artifacts['out'].path}}",))
USE = step(
    'cat "$0" > "$1"',
    reads={"data": artifact_of("make", "out")},
    writes={"model": "system.Model"},
    words=("{{$.inputs.artifacts['data'].path}}", "{{$.outputs.artifacts['model'].path}}"),
)


def test_a_run_is_a_context_its_steps_executions_and_what_flowed_artifacts(world: World) -> None:
    run_id = world.go(pipeline({"make": MAKE, "use": USE}))
    with world.database.write() as transaction:
        keep_run(transaction, run_id, now_us=1)  # once more: what is there is changed, and nothing is added
    with world.database.read() as transaction:
        by_task = {row.name: row.id for row in transaction.execute(tasks.select())}
        by_type = {row.type: row.id for row in transaction.execute(artifacts.select())}
        context = ids_of_external(transaction, Kind.CONTEXT, [run_id])[run_id]
        steps = ids_of_external(transaction, Kind.EXECUTION, by_task.values())
        made = ids_of_external(transaction, Kind.ARTIFACT, by_type.values())
        [run] = nodes_by_id(transaction, Kind.CONTEXT, [context])
        use = next(
            node for node in nodes_by_id(transaction, Kind.EXECUTION, steps.values()) if node.name == by_task["use"]
        )
        events = events_of(transaction, "execution", [steps[by_task["use"]]])
        inside = {node for _, node in members_of(transaction, [*steps.values(), *made.values()])}
    assert (run.type, run.custom["state"]) == (RUN, "SUCCEEDED")
    assert (use.type, use.custom["task_name"], use.state) == (STEP, "use", 3)
    assert {(event.artifact_id, event.type, event.path) for event in events} == {
        (made[by_type["system.Dataset"]], EventType.INPUT, ("data", 0)),
        (made[by_type["system.Model"]], EventType.OUTPUT, ("model", 0)),
    }
    assert inside == {*steps.values(), *made.values()}, "each is in the run's context"


def test_a_run_that_failed_or_was_canceled_is_there_too(world: World) -> None:
    run_id = world.go(pipeline({"break": step("exit 3")}))
    with world.database.read() as transaction:
        [task] = transaction.execute(tasks.select()).all()
        execution = ids_of_external(transaction, Kind.EXECUTION, [task.id])[task.id]
        [node] = nodes_by_id(transaction, Kind.EXECUTION, [execution])
        assert ids_of_external(transaction, Kind.CONTEXT, [run_id])
    assert node.state == 4
    assert "3" in str(node.custom["error"])
