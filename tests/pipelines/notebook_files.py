"""Notebooks written in a line, and what they are held against: the same cells run from top to bottom in one namespace."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from goldenloop.pipelines.notebooks import Converted

Cells = list[tuple[str, str]]  # tags, separated by spaces, and source


def write_notebook(path: Path, cells: Cells, *, name: str = "") -> Path:
    """A notebook of code cells, with a page of text between each two, as people write them."""
    written: list[dict[str, object]] = []
    for tags, source in cells:
        metadata = {"tags": tags.split()} if tags else {}
        lines = source.splitlines(keepends=True)
        written.append(
            {"cell_type": "code", "metadata": metadata, "source": lines, "outputs": [], "execution_count": None}
        )
    document = {
        "cells": written,
        "metadata": {"kubeflow_notebook": {"pipeline_name": name}} if name else {},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.write_text(json.dumps(document))
    return path


def run_from_top(cells: Cells) -> dict[str, object]:
    """The names that a notebook leaves behind when all its cells but the skipped ones are run."""
    module = ModuleType("from_top")
    sys.modules["from_top"] = module
    module.__dict__["display"] = print
    with contextlib.redirect_stdout(io.StringIO()):
        for tags, source in cells:
            if "skip" not in tags:
                exec(source, module.__dict__)
    return module.__dict__


@dataclass
class FakeArtifact:
    """What a component sees of an artifact."""

    path: str
    metadata: dict[str, object] = field(default_factory=dict)

    def log_metric(self, name: str, value: float) -> None:
        self.metadata[name] = value


def run_converted(converted: Converted, folder: Path, **parameters: object) -> dict[str, object]:
    """Run the steps of a written pipeline, each in a module of its own as if in a process of its own; return the metrics."""
    specification = _load(converted.file).__dict__[converted.function].pipeline_spec
    tasks = specification.root.dag.tasks
    inputs = specification.root.input_definitions.parameters
    given = {name: parameters.get(name, _plain(inputs[name].default_value)) for name in inputs}
    kept: dict[tuple[str, str], FakeArtifact] = {}
    metrics: dict[str, object] = {}
    done: set[str] = set()
    while len(done) < len(tasks):
        ready = next(name for name in sorted(tasks) if name not in done and set(tasks[name].dependent_tasks) <= done)
        task, component = tasks[ready], specification.components[tasks[ready].component_ref.name]
        module = _load(converted.file)  # also under the name by which steps know it
        function = next(
            value
            for value in module.__dict__.values()
            if getattr(value, "name", None) == component.executor_label.removeprefix("exec-")
        ).python_func
        arguments: dict[str, object] = {
            name: given[port.component_input_parameter] for name, port in task.inputs.parameters.items()
        }
        for name, port in task.inputs.artifacts.items():
            source = port.task_output_artifact
            arguments[name] = kept[source.producer_task, source.output_artifact_key]
        for name in component.output_definitions.artifacts:
            artifact = FakeArtifact(str(folder / f"{ready}-{name}"))
            kept[ready, name] = arguments[name] = artifact
        with contextlib.redirect_stdout(io.StringIO()):
            function(**arguments)
        if "metrics" in arguments:
            metrics.update(kept[ready, "metrics"].metadata)
        done.add(ready)
    return metrics


def _load(file: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location("ephemeral_component", file)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["ephemeral_component"] = module
    specification.loader.exec_module(module)
    return module


def _plain(value: object) -> object:
    from google.protobuf.json_format import MessageToDict

    found = MessageToDict(value)
    return int(found) if isinstance(found, float) and found.is_integer() else found
