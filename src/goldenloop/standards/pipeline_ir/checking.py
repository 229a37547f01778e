"""Whether a pipeline holds together: every name that it uses is there, inputs that must be bound are, and nothing waits
for itself.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, NoReturn

from goldenloop.core.errors import InvalidSpecError
from goldenloop.standards.pipeline_ir.fields import WRITE_PIPELINE
from goldenloop.standards.pipeline_ir.records import (
    FINAL_STATUS,
    TASK_CONFIG,
    Component,
    FinalStatusOf,
    FromScope,
    FromTask,
    OneOf,
    ParameterBinding,
    Pipeline,
    Scope,
    Task,
)

_GIVEN_BY_US = (FINAL_STATUS, TASK_CONFIG)  # kinds of parameters that no task needs to bind


def check_pipeline(pipeline: Pipeline, *, where: str) -> None:
    """Raise InvalidSpecError with the place of what does not hold together."""
    _Checker(pipeline, where).check(pipeline.root, f"{where}.root", ())


def waits_for(task: Task) -> set[str]:
    """The tasks of its scope that must have ended before a task can start."""
    bindings = (*task.parameters.values(), *task.artifacts.values())
    return {*task.after, *(binding.task for binding in bindings if isinstance(binding, FromTask | FinalStatusOf))}


def in_order(scope: Scope) -> list[str]:
    """The tasks of a scope in an order in which they could run one by one; without those that wait for each other in a
    circle.
    """
    waiting = {name: len(waits_for(task)) for name, task in scope.tasks.items()}
    behind: dict[str, list[str]] = {name: [] for name in scope.tasks}
    for name, task in scope.tasks.items():
        for other in waits_for(task):
            behind[other].append(name)
    free = deque(name for name, count in waiting.items() if count == 0)
    ordered: list[str] = []
    while free:
        ordered.append(free.popleft())
        for name in behind[ordered[-1]]:
            waiting[name] -= 1
            if waiting[name] == 0:
                free.append(name)
    return ordered


class _Checker:
    """Goes through the scopes from the root; a component that is used often is looked at once."""

    def __init__(self, pipeline: Pipeline, where: str) -> None:
        self._pipeline = pipeline
        self._where = where
        self._seen: set[str] = set()

    def check(self, component: Component, at: str, above: tuple[str, ...]) -> None:
        scope = component.scope
        if component.name in above:
            self._refuse(f"component {component.name!r} contains itself", at)
        if scope is None or at in self._seen:
            return
        self._seen.add(at)
        for name, task in scope.tasks.items():
            place = f"{at}.dag.tasks.{name}"
            used = self._pipeline.components.get(task.component)
            if used is None:
                self._refuse(f"there is no component {task.component!r}", place)
            self._check_task(component, task, used, place)
            self.check(used, f"{self._where}.components.{used.name}", (*above, component.name))
        for port, parameter in scope.parameters.items():
            for choice in parameter.choices if isinstance(parameter, OneOf) else (parameter,):
                self._check_binding(component, choice, "parameters", f"{at}.dag.outputs.parameters.{port}")
        for port, artifact in scope.artifacts.items():
            for choice in artifact.choices if isinstance(artifact, OneOf) else (artifact,):
                self._check_binding(component, choice, "artifacts", f"{at}.dag.outputs.artifacts.{port}")
        self._check_order(scope, at)

    def _check_task(self, component: Component, task: Task, used: Component, at: str) -> None:
        for port, parameter in task.parameters.items():
            self._check_binding(component, parameter, "parameters", f"{at}.inputs.parameters.{port}")
        for port, artifact in task.artifacts.items():
            self._check_binding(component, artifact, "artifacts", f"{at}.inputs.artifacts.{port}")
        item = task.loop.item if task.loop is not None else ""
        unbound = [
            port
            for port, spec in used.input_parameters.items()
            if not spec.optional and spec.type not in _GIVEN_BY_US and port not in task.parameters and port != item
        ]
        unbound += [
            port
            for port, wanted in used.input_artifacts.items()
            if not wanted.optional and port not in task.artifacts and port != item
        ]
        if unbound:
            self._refuse(f"task {task.name!r} gets nothing for {', '.join(unbound)}", at)
        for other in task.after:
            if component.scope is None or other not in component.scope.tasks:
                self._refuse(f"task {task.name!r} waits for {other!r}, unknown", at)
        self._check_loop(task, used, at)

    def _check_loop(self, task: Task, used: Component, at: str) -> None:
        if task.loop is None:
            return
        if used.scope is None:
            self._refuse(f"the loop {task.name!r} is over {used.name!r}, which holds no tasks", at)
        sources = used.input_parameters if task.loop.over == "parameters" else used.input_artifacts
        for name in filter(None, (task.loop.item, task.loop.items_from)):
            if name not in sources:
                self._refuse(f"the loop {task.name!r} uses {name!r}, which {used.name!r} does not take", at)

    def _check_binding(
        self, component: Component, binding: ParameterBinding, kind: Literal["parameters", "artifacts"], at: str
    ) -> None:
        if isinstance(binding, FromScope):
            known = component.input_parameters if kind == "parameters" else component.input_artifacts
            if binding.name not in known:
                self._refuse(f"{component.name!r} has no input {binding.name!r}", at)
        elif isinstance(binding, FromTask | FinalStatusOf):
            assert component.scope is not None
            task = component.scope.tasks.get(binding.task)
            producer = self._pipeline.components.get(task.component) if task else None
            if producer is None:
                self._refuse(f"there is no task {binding.task!r}", at)
            if isinstance(binding, FromTask):
                outputs = producer.output_parameters if kind == "parameters" else producer.output_artifacts
                if binding.name not in outputs:
                    self._refuse(f"task {binding.task!r} has no output {binding.name!r}", at)

    def _check_order(self, scope: Scope, at: str) -> None:
        circle = scope.tasks.keys() - set(in_order(scope))
        if circle:
            self._refuse(f"tasks wait for each other: {', '.join(sorted(circle))}", at)

    def _refuse(self, what: str, at: str) -> NoReturn:
        raise InvalidSpecError(what, where=at, mend=WRITE_PIPELINE)
