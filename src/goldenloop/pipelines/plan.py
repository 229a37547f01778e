"""A pipeline laid out for execution: the tasks of each scope in order, and who waits for whom. Pure.

The path of a task says where it stands: `prepare.clean` is task `clean` of the pipeline that task `prepare` uses, and
`loop[3].train` is task `train` in the fourth round of task `loop`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from goldenloop.standards.pipeline_ir import Component, Pipeline, Scope, Task, in_order, waits_for


@dataclass(frozen=True, eq=False)
class Layout:
    """A scope's tasks in an order in which they could run one by one; what each waits for, and what waits for it."""

    component: Component
    tasks: Mapping[str, Task]
    before: Mapping[str, frozenset[str]]
    behind: Mapping[str, tuple[str, ...]]

    @property
    def scope(self) -> Scope:
        """The scope that is laid out."""
        assert self.component.scope is not None
        return self.component.scope


class Plan:
    """The layouts of a pipeline, each made when it is first needed."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._layouts: dict[str, Layout] = {}

    @property
    def root(self) -> Layout:
        """The outermost tasks."""
        return self.layout(self.pipeline.root)

    def component_of(self, task: Task) -> Component:
        """What a task uses."""
        return self.pipeline.components[task.component]

    def layout(self, component: Component) -> Layout:
        """The layout of a component that is a scope."""
        found = self._layouts.get(component.name)
        if found is None:
            found = self._layouts[component.name] = _lay_out(component)
        return found


def task_path(scope: str, task: str) -> str:
    """The path of a task in the scope of this path; that of the root is empty."""
    return f"{scope}.{task}" if scope else task


def round_path(loop: str, index: int) -> str:
    """The path of a round of a loop, counted from 0."""
    return f"{loop}[{index}]"


def _lay_out(component: Component) -> Layout:
    assert component.scope is not None
    tasks = component.scope.tasks
    before = {name: frozenset(waits_for(task)) for name, task in tasks.items()}
    behind: dict[str, list[str]] = {name: [] for name in tasks}
    for name, others in before.items():
        for other in others:
            behind[other].append(name)
    return Layout(
        component=component,
        tasks={name: tasks[name] for name in in_order(component.scope)},
        before=before,
        behind={name: tuple(others) for name, others in behind.items()},
    )
