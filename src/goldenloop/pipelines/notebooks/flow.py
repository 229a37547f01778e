"""What each step of a notebook takes from which other, and what is written before it.

Where a step's name comes from, in this order:
1. The nearest step before it, along the `prev:` tags, that holds the name: that sets it, or took it and may have altered it in place. Of
   several that are equally near, the one that surely changes it; if two do, that is an error, since only one of the changes would be seen.
2. The cells tagged `imports` and `functions`, of which each step gets what it needs, and statements that are no definitions always.
3. The parameters of the pipeline, and Python itself.
4. Any step that stands before it in the notebook; the step then comes after that one.
Functions, classes, imports and lambdas that a step defines travel as source, everything else as an artifact.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from goldenloop.core.errors import InvalidSpecError
from goldenloop.pipelines.notebooks.cells import Cell, Notebook, NotebookStep, Parameter
from goldenloop.pipelines.notebooks.names import Names, definitions_of, names_of, packages_of

METRICS_STEP = "pipeline_metrics"
_BUILTINS = frozenset({*dir(builtins), "__name__", "__doc__", "display"})


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement and the cell it stands in."""

    node: ast.stmt
    cell: Cell


@dataclass(slots=True)
class PlannedStep:
    """A step as it is written: what comes before its cells, what it reads and keeps, and which steps it waits for besides."""

    step: NotebookStep
    names: Names
    prelude: list[Statement] = field(default_factory=list)
    inputs: dict[str, str] = field(default_factory=dict)  # name -> the step that gives it
    outputs: list[str] = field(default_factory=list)
    parameters: list[Parameter] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    modules: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        return self.step.name

    @property
    def held(self) -> set[str]:
        """The names whose values can be taken from it when it has ended."""
        return (self.names.left | (set(self.inputs) - self.names.deleted)) - set(self.definitions)

    @property
    def statements(self) -> list[Statement]:
        return [Statement(node, cell) for cell in self.step.cells for node in cell.tree.body]

    @property
    def definitions(self) -> dict[str, ast.stmt]:
        """What it defines and can only travel as source."""
        return definitions_of(statement.node for statement in self.statements)


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps in an order in which each comes after those it needs; the last may be the one that logs the metrics."""

    steps: tuple[PlannedStep, ...]
    notes: tuple[str, ...]


def plan(notebook: Notebook, path: Path) -> Plan:
    """Find the data flow. Raises InvalidSpecError with the cell that reads what nothing sets."""
    return _Planning(notebook, path).run()


@dataclass(slots=True)
class _Needs:
    """What one step still needs, and what is put before it: places in the prelude, and definitions of other steps."""

    required: dict[str, int]
    wanted: set[str]
    taken: set[int] = field(default_factory=set)
    carried: dict[int, Statement] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def next(self) -> str | None:
        """A name that was not looked at yet, in an order that is always the same."""
        name = next((name for name in (*self.required, *sorted(self.wanted)) if name not in self.seen), None)
        if name is not None:
            self.seen.add(name)
        return name


class _Planning:
    def __init__(self, notebook: Notebook, path: Path) -> None:
        self._notebook = notebook
        self._path = path
        self._prelude = [Statement(node, cell) for cell in notebook.prelude for node in cell.tree.body]
        self._prelude_names = names_of([statement.node for statement in self._prelude])
        self._parameters = {parameter.name: parameter for parameter in notebook.parameters}
        self._done: dict[str, PlannedStep] = {}
        self._parents: dict[str, list[str]] = {}
        self._needs: dict[str, _Needs] = {}
        self._notes: list[str] = []

    def run(self) -> Plan:
        """Plan the steps one after the other, then the metrics."""
        if METRICS_STEP in self._notebook.steps:
            raise InvalidSpecError(
                f"a step may not be called {METRICS_STEP}", where=str(self._path), mend="Give it another name."
            )
        self._keep_imports_for_effect()
        for step in _ordered(self._notebook.steps):
            names = names_of([node for cell in step.cells for node in cell.tree.body])
            self._add(PlannedStep(step, names), step.previous)
        if self._notebook.metrics:
            before = {name for planned in self._done.values() for name in self._parents[planned.name]}
            ends = [name for name in self._done if name not in before]
            names = Names(required=dict.fromkeys(self._notebook.metrics, 1))
            self._add(PlannedStep(NotebookStep(METRICS_STEP), names), ends)
        for planned in self._done.values():
            self._finish(planned)
        return Plan(tuple(self._done.values()), tuple(self._notes))

    def _add(self, planned: PlannedStep, previous: list[str]) -> None:
        self._parents[planned.name] = list(previous)
        self._done[planned.name] = planned
        needs = self._needs[planned.name] = _Needs(dict(planned.names.required), set(planned.names.wanted))
        if planned.name != METRICS_STEP:
            for place, statement in enumerate(self._prelude):
                if self._is_always(statement):
                    self._take(place, needs)
        self._settle(planned)

    def _settle(self, planned: PlannedStep) -> None:
        needs = self._needs[planned.name]
        while (name := needs.next()) is not None:
            self._resolve(planned, name, needs)

    def _finish(self, planned: PlannedStep) -> None:
        """Write down what was found for a step, when those before it are finished."""
        needs = self._needs[planned.name]
        planned.prelude = [self._prelude[place] for place in sorted(needs.taken)] + list(needs.carried.values())
        givers = set(planned.inputs.values())
        waited_for = givers.union(*(self._ancestors(giver) for giver in givers))
        planned.after = [name for name in self._parents[planned.name] if name not in waited_for]
        own = [statement.node for statement in (*planned.prelude, *planned.statements)]
        planned.modules = packages_of(own).union(*(self._done[giver].modules for giver in givers))

    def _resolve(self, planned: PlannedStep, name: str, needs: _Needs) -> None:
        """Find where a name comes from, and note it; what comes as source may need further names."""
        giver = self._giver(planned, name)
        if giver is None and name in self._prelude_names.bound:
            for place, statement in enumerate(self._prelude):
                if name in names_of([statement.node]).bound:
                    self._take(place, needs)
            return
        if giver is None and name in self._parameters:
            planned.parameters.append(self._parameters[name])
            return
        if giver is None and name not in _BUILTINS:
            giver = self._earlier(planned, name)
        if giver is None:
            if name in needs.required and name not in _BUILTINS:
                raise self._nothing_sets(planned, name)
            return
        if name in giver.definitions:
            node = giver.definitions[name]
            if id(node) not in needs.carried:
                cell = next(statement.cell for statement in giver.statements if statement.node is node)
                needs.carried[id(node)] = Statement(node, cell)
                found = names_of([node])
                needs.wanted |= found.wanted
                for each, line in found.required.items():
                    needs.required.setdefault(each, line)
            return
        planned.inputs[name] = giver.name
        if name not in giver.outputs:
            giver.outputs.append(name)
        if name not in giver.names.sure:  # where it is not set there, it is what it was before
            self._needs[giver.name].wanted.add(name)
            self._settle(giver)
        # The value may be made of these, and a pickle holds no more of them than their names.
        needs.wanted |= self._made_of(giver)

    def _made_of(self, giver: PlannedStep) -> set[str]:
        """The functions and classes that a step has."""
        needs = self._needs[giver.name]
        before = [*(self._prelude[place] for place in sorted(needs.taken)), *needs.carried.values()]
        defined = definitions_of(statement.node for statement in (*before, *giver.statements))
        return {
            name
            for name, node in defined.items()
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        }

    def _take(self, place: int, needs: _Needs) -> None:
        """Put a statement of the prelude before the step, with what it needs."""
        if place not in needs.taken:
            needs.taken.add(place)
            found = names_of([self._prelude[place].node])
            # What it needs may be missing here: then only who uses it fails.
            needs.wanted |= found.wanted | set(found.required)

    def _giver(self, planned: PlannedStep, name: str) -> PlannedStep | None:
        """The nearest step before that holds the name."""
        found = self._nearest(planned.name, name, set())
        found = [one for one in found if not any(one.name in self._ancestors(other.name) for other in found)]
        if name in self._prelude_names.bound or name in self._parameters:
            found = [one for one in found if name in one.names.changed or name in one.inputs]
        if len(found) < 2:
            return found[0] if found else None
        changing = [one for one in found if name in one.names.changed]
        if len(changing) > 1 and not all(name in one.definitions for one in changing):
            raise InvalidSpecError(
                f"{' and '.join(one.name for one in changing)} both change {name}, and {planned.name} reads it",
                where=f"{self._path}, {planned.step.numbers}",
                mend=f"Tag one of them prev:, so that they follow each other, or give {name} two names.",
            )
        return (changing or found)[-1]

    def _nearest(self, step: str, name: str, seen: set[str]) -> list[PlannedStep]:
        found: list[PlannedStep] = []
        for parent in self._parents[step]:
            if parent in seen:
                continue
            seen.add(parent)
            before = self._done[parent]
            if name in before.held or name in before.definitions:
                found.append(before)
            else:
                found += self._nearest(parent, name, seen)
        return found

    def _ancestors(self, step: str) -> set[str]:
        found: set[str] = set()
        waiting = list(self._parents[step])
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self._parents[name]
        return found

    def _earlier(self, planned: PlannedStep, name: str) -> PlannedStep | None:
        """The last step before in the notebook that sets the name, though no tag leads to it."""
        for before in reversed(self._done.values()):
            sets = name in before.names.left or name in before.definitions
            if before is not planned and sets and planned.name not in self._ancestors(before.name):
                self._parents[planned.name].append(before.name)
                self._notes.append(
                    f"step {planned.name} reads {name} of step {before.name}, to which no prev: tag leads; it comes after it"
                )
                return before
        return None

    def _nothing_sets(self, planned: PlannedStep, name: str) -> InvalidSpecError:
        for cell in planned.step.cells:
            line = names_of(cell.tree.body).required.get(name)
            if line is not None:
                where = f"{self._path}, cell {cell.number}, line {line}"
                return InvalidSpecError(
                    f"step {planned.name} reads {name}, and nothing before it sets it",
                    where=where,
                    mend=f"Set {name} in a step before, or in a cell tagged imports, functions or pipeline-parameters.",
                )
        what = f"{planned.name} needs {name}, and nothing before it sets it"
        return InvalidSpecError(what, where=str(self._path), mend=f"Set {name} in a step before.")

    def _is_always(self, statement: Statement) -> bool:
        """Statements that are no definitions, and imports whose names nobody reads: they are there for their effect."""
        if not definitions_of([statement.node]):
            return True
        return id(statement.node) in self._effects

    def _keep_imports_for_effect(self) -> None:
        cells = [cell for step in self._notebook.steps.values() for cell in step.cells]
        touched = _touched([*self._prelude, *(Statement(node, cell) for cell in cells for node in cell.tree.body)])
        self._effects = {
            id(statement.node)
            for statement in self._prelude
            if isinstance(statement.node, ast.Import | ast.ImportFrom)
            and not names_of([statement.node]).bound & touched
        }


def _touched(statements: Iterable[Statement]) -> set[str]:
    """Names that are mentioned by anything but an import."""
    nodes = [statement.node for statement in statements]
    return {
        name for node in nodes if not isinstance(node, ast.Import | ast.ImportFrom) for name in names_of([node]).touched
    }


def _ordered(steps: dict[str, NotebookStep]) -> list[NotebookStep]:
    """The steps as they stand in the notebook, but each after those that its tags name."""
    ordered: list[NotebookStep] = []
    waiting = list(steps.values())
    while waiting:
        ready = next(step for step in waiting if all(steps[name] in ordered for name in step.previous))
        ordered.append(ready)
        waiting.remove(ready)
    return ordered
