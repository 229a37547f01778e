"""The pure part of the engine: order, nesting, values, and what is due."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from small_pipelines import constant, parameter_of, pipeline, step

from goldenloop.core.json import JsonObject
from goldenloop.core.phases import RunState
from goldenloop.pipelines.plan import Plan, StepOutputs, TaskView, Values, decide
from goldenloop.standards.pipeline_ir import read_pipeline

FINISHED = (RunState.SUCCEEDED, RunState.FAILED, RunState.SKIPPED, RunState.CANCELED)


def plan_of(edges: dict[str, tuple[str, ...]]) -> Plan:
    return Plan(read_pipeline(pipeline({name: step("true", after=after) for name, after in edges.items()})))


def nested() -> JsonObject:
    """`outer` is a pipeline of one step `leaf` whose word is `<a>` for the a that `first` gave; `last` takes what it gives."""
    document = pipeline(
        {
            "first": step("true", gives={"word": "STRING"}),
            "leaf": step(
                "true",
                takes={"word": constant("<{{$.inputs.parameters['a']}}>"), "a": {"componentInputParameter": "a"}},
                gives={"got": "STRING"},
            ),
            "last": step("true", takes={"word": parameter_of("outer", "result")}),
        }
    )
    tasks = document["root"]["dag"]["tasks"]
    document["components"]["comp-outer"] = {
        "dag": {
            "tasks": {"leaf": tasks.pop("leaf")},
            "outputs": {
                "parameters": {
                    "result": {"valueFromParameter": {"producerSubtask": "leaf", "outputParameterKey": "got"}}
                }
            },
        },
        "inputDefinitions": {"parameters": {"a": {"parameterType": "STRING"}}},
        "outputDefinitions": {"parameters": {"result": {"parameterType": "STRING"}}},
    }
    tasks["outer"] = {
        "componentRef": {"name": "comp-outer"},
        "inputs": {"parameters": {"a": parameter_of("first", "word")}},
    }
    return document


def test_nested_steps_have_paths_and_wait_for_what_is_around() -> None:
    plan = Plan(read_pipeline(nested()))
    assert {name: set(found.after) for name, found in plan.steps.items()} == {
        "first": set(),
        "outer.leaf": {"first"},
        "last": {"outer.leaf"},
    }


def test_values_go_in_and_out_of_a_nested_pipeline() -> None:
    plan = Plan(read_pipeline(nested()))
    finished = {"first": StepOutputs({"word": "hi"}), "outer.leaf": StepOutputs({"got": "there"})}
    values = Values(plan, {}, {}, finished)
    leaf, last = plan.steps["outer.leaf"], plan.steps["last"]
    assert values.inputs(leaf.frame, leaf.task, leaf.component)[0]["word"] == "<hi>"
    assert values.inputs(last.frame, last.task, last.component)[0] == {"word": "there"}


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    names = [f"s{number}" for number in range(draw(st.integers(1, 8)))]
    return {
        name: tuple(draw(st.sets(st.sampled_from(names[:place])))) if place else () for place, name in enumerate(names)
    }


@given(graphs(), st.randoms(use_true_random=False))
def test_every_run_ends_and_nothing_starts_before_its_time(edges: dict[str, tuple[str, ...]], dice: object) -> None:
    """Whatever ends how and when, the run ends, and a step starts only after all it waits for has succeeded."""
    plan = plan_of(edges)
    tasks = {name: TaskView(state=RunState.PENDING) for name in plan.steps}
    for _ in range(10 * len(tasks) + 10):
        decision = decide(plan, tasks, now_us=0)
        for name in decision.skip:
            tasks[name] = TaskView(state=RunState.SKIPPED)
        if decision.end is not None:
            break
        for name in decision.start:
            assert all(tasks[other].state is RunState.SUCCEEDED for other in edges[name])
            tasks[name] = TaskView(state=RunState.RUNNING, alive=True)
        running = [name for name, view in tasks.items() if view.state is RunState.RUNNING]
        ended = dice.choice(running)  # type: ignore[attr-defined]
        result = dice.choice([RunState.SUCCEEDED, RunState.SUCCEEDED, RunState.FAILED])  # type: ignore[attr-defined]
        tasks[ended] = TaskView(state=result, error=f"{ended} broke" if result is RunState.FAILED else None)
    assert decision.end is not None
    assert all(view.state in FINISHED for view in tasks.values())
    failed = [name for name, view in tasks.items() if view.state is RunState.FAILED]
    assert (decision.end is RunState.FAILED) == bool(failed)
    assert (decision.error is None) == (not failed)


def test_a_retry_waits_for_its_time() -> None:
    plan = plan_of({"a": ()})
    tasks = {"a": TaskView(state=RunState.PENDING, not_before_us=100)}
    assert decide(plan, tasks, now_us=99).start == ()
    assert decide(plan, tasks, now_us=99).next_us == 100
    assert decide(plan, tasks, now_us=100).start == ("a",)


def test_a_running_step_without_a_process_starts_again() -> None:
    plan = plan_of({"a": ()})
    assert decide(plan, {"a": TaskView(state=RunState.RUNNING, alive=True)}, now_us=0).start == ()
    assert decide(plan, {"a": TaskView(state=RunState.RUNNING)}, now_us=0).start == ("a",)
