"""A pipeline laid out for execution: its leaf steps by path, what each waits for, and where its inputs come from. Pure.

The path of a step in a nested pipeline is joined with dots: `prepare.clean` is task `clean` of the pipeline that task
`prepare` uses. A step waits for what its own task names and for all that the tasks around it wait for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json, JsonObject
from goldenloop.core.phases import RunState
from goldenloop.pipelines.placeholders import Surroundings, expand
from goldenloop.standards.pipeline_ir import (
    Component,
    Constant,
    FromScope,
    FromTask,
    Pipeline,
    Scope,
    Task,
    exact,
    waits_for,
)


@dataclass(frozen=True, eq=False)
class Frame:
    """A scope in its place: the component whose scope it is, the task and frame that use it (the root has neither)."""

    component: Component
    path: str
    task: Task | None = None
    parent: Frame | None = None

    @property
    def scope(self) -> Scope:
        assert self.component.scope is not None
        return self.component.scope

    def path_of(self, task: str) -> str:
        """The path of a task in this frame."""
        return f"{self.path}.{task}" if self.path else task


@dataclass(frozen=True, eq=False)
class Step:
    """A leaf: one container to run once."""

    name: str
    task: Task
    component: Component
    frame: Frame
    after: frozenset[str]  # paths of steps that must have succeeded


class Plan:
    """All steps of a pipeline, in an order in which they could run one by one."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.root = Frame(pipeline.root, "")
        self._inside: dict[str, list[str]] = {}  # the steps in each task, by the task's path
        self.frames: dict[str, Frame] = {"": self.root}
        self.steps: dict[str, Step] = {}
        self._lay_out(self.root, frozenset())

    def _lay_out(self, frame: Frame, around: frozenset[str]) -> list[str]:
        found: list[str] = []
        for task in _in_order(frame.scope):
            component = self.pipeline.components[task.component]
            path = frame.path_of(task.name)
            after = around.union(*(self._inside[frame.path_of(other)] for other in waits_for(task)))
            if component.scope is None:
                self.steps[path] = Step(path, task, component, frame, after)
                inside = [path]
            else:
                inner = Frame(component, path, task, frame)
                self.frames[path] = inner
                inside = self._lay_out(inner, after)
            self._inside[path] = inside
            found += inside
        return found

    def producers(self, frame: Frame, binding: FromTask) -> tuple[str, str] | None:
        """The step and its port that stand behind a task's artifact output; None where it passes on an input of the
        whole.
        """
        path = frame.path_of(binding.task)
        inner = self.frames.get(path)
        if inner is None:
            return path, binding.name
        behind = inner.scope.artifacts[binding.name]
        return self.producers(inner, behind) if isinstance(behind, FromTask) else None


def _in_order(scope: Scope) -> list[Task]:
    ordered: list[Task] = []
    waiting = {name: waits_for(task) for name, task in scope.tasks.items()}
    while waiting:
        free = [name for name, others in waiting.items() if not others & waiting.keys()]
        ordered += [scope.tasks[name] for name in free]
        for name in free:
            del waiting[name]
    return ordered


class StepOutputs(msgspec.Struct, frozen=True):
    """What a finished step gave: parameter values, and the ids of its artifacts, by port."""

    parameters: JsonObject = {}
    artifacts: dict[str, str] = {}


@dataclass(eq=False)
class Values:
    """The values of one run as far as it has come: the inputs of the whole and what finished steps gave."""

    plan: Plan
    parameters: Mapping[str, Json]
    artifacts: Mapping[str, str]  # ids
    finished: Mapping[str, StepOutputs]
    facts: Mapping[str, str] = field(default_factory=dict)

    def inputs(self, frame: Frame, task: Task, component: Component) -> tuple[JsonObject, dict[str, str]]:
        """The parameter values and artifact ids that a task gets; an optional one that nobody gives is left out."""
        values: JsonObject = {}
        for name, spec in component.input_parameters.items():
            if spec.has_default:
                values[name] = spec.default
        for name, binding in task.parameters.items():
            spec_or_none = component.input_parameters.get(name)
            value = self._parameter(frame, binding)
            if value is None:
                continue
            values[name] = exact(value, spec_or_none.type) if spec_or_none and isinstance(binding, Constant) else value
        surroundings = Surroundings(executor_input={"inputs": {"parameterValues": dict(values)}}, facts=self.facts)
        for name, binding in task.parameters.items():
            if isinstance(binding, Constant):
                values[name] = _expand_deep(values.get(name), surroundings, f"task {task.name}, input {name}")
        artifacts = {
            name: found
            for name, source in task.artifacts.items()
            if (found := self._artifact(frame, source)) is not None
        }
        missing = [
            name for name, wanted in component.input_artifacts.items() if not wanted.optional and name not in artifacts
        ]
        missing += [
            name for name, spec in component.input_parameters.items() if not spec.optional and name not in values
        ]
        if missing:
            raise InvalidSpecError(
                f"task {task.name!r} got nothing for {', '.join(missing)}",
                where=frame.path_of(task.name),
                mend="Give the run this input, or make the component's input optional.",
            )
        return values, artifacts

    def output_parameters(self) -> JsonObject:
        """The output parameters of the whole run, as far as they are known."""
        found: JsonObject = {}
        for name, binding in self.plan.root.scope.parameters.items():
            if isinstance(binding, FromTask) and not self._is_known(self.plan.root, binding.task):
                continue
            found[name] = self._parameter(self.plan.root, binding)
        return found

    def _is_known(self, frame: Frame, task: str) -> bool:
        path = frame.path_of(task)
        return all(step in self.finished for step in self.plan.steps if step == path or step.startswith(f"{path}."))

    def _parameter(self, frame: Frame, binding: Constant | FromScope | FromTask) -> Json:
        match binding:
            case Constant(value):
                return value
            case FromScope(name):
                if frame.parent is None or frame.task is None:
                    return self.parameters.get(name)
                return self.inputs(frame.parent, frame.task, frame.component)[0].get(name)
            case FromTask(task, name):
                inner = self.plan.frames.get(frame.path_of(task))
                if inner is not None:
                    return self._parameter(inner, inner.scope.parameters[name])
                return self.finished[frame.path_of(task)].parameters.get(name)

    def _artifact(self, frame: Frame, binding: FromScope | FromTask) -> str | None:
        match binding:
            case FromScope(name):
                if frame.parent is None or frame.task is None:
                    return self.artifacts.get(name)
                source = frame.task.artifacts.get(name)
                return self._artifact(frame.parent, source) if source is not None else None
            case FromTask(task, name):
                inner = self.plan.frames.get(frame.path_of(task))
                if inner is not None:
                    return self._artifact(inner, inner.scope.artifacts[name])
                return self.finished[frame.path_of(task)].artifacts.get(name)


def _expand_deep(value: Json, surroundings: Surroundings, where: str) -> Json:
    if isinstance(value, str):
        return expand(value, surroundings, where=where)
    if isinstance(value, list):
        return [_expand_deep(member, surroundings, where) for member in value]
    if isinstance(value, dict):
        return {key: _expand_deep(member, surroundings, where) for key, member in value.items()}
    return value


class TaskView(msgspec.Struct, frozen=True, kw_only=True):
    """A task as the store has it. `alive`: its process is known to this engine."""

    state: RunState
    alive: bool = False
    not_before_us: int | None = None
    error: str | None = None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What is due in a run: steps to start, steps that will never start, and whether the run has come to its end."""

    start: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    end: RunState | None = None
    error: str | None = None
    next_us: int | None = None  # when the next retry is due


def decide(plan: Plan, tasks: Mapping[str, TaskView], *, now_us: int) -> Decision:
    """Look at the states of a run's tasks and say what is due.

    A step whose inputs will never come is skipped; the others go on; the run fails when nothing can go on, with the
    error of the step that failed first in the plan's order. A task that is running without a process is started again.
    """
    start: list[str] = []
    skip: list[str] = []
    later: list[int] = []
    dead = {RunState.FAILED, RunState.SKIPPED, RunState.CANCELED}
    states = {name: view.state for name, view in tasks.items()}
    for name, step in plan.steps.items():  # in order, so that a skip reaches everything behind it at once
        view = tasks[name]
        if view.state is RunState.RUNNING and not view.alive:
            start.append(name)
        if view.state is not RunState.PENDING:
            continue
        if any(states[other] in dead for other in step.after):
            skip.append(name)
            states[name] = RunState.SKIPPED
        elif all(states[other] is RunState.SUCCEEDED for other in step.after):
            if view.not_before_us is not None and view.not_before_us > now_us:
                later.append(view.not_before_us)
            else:
                start.append(name)
    next_us = min(later, default=None)
    if any(state in (RunState.PENDING, RunState.RUNNING) for state in states.values()):
        return Decision(start=tuple(start), skip=tuple(skip), next_us=next_us)
    failed = [tasks[name].error or f"step {name!r} failed" for name in plan.steps if states[name] is RunState.FAILED]
    if failed:
        return Decision(skip=tuple(skip), end=RunState.FAILED, error=failed[0])
    return Decision(skip=tuple(skip), end=RunState.SUCCEEDED)
