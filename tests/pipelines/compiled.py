"""Pipelines written with kfp.dsl, compiled and run here as a user's would be."""

# Without `from __future__ import annotations`: kfp reads the annotations of components themselves.
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from kfp import compiler, dsl
from small_pipelines import World

from goldenloop.core.json import Json, JsonObject
from goldenloop.pipelines.runs import output_parameters
from goldenloop.standards.pipeline_ir import Documents, read_documents


def compiled(function: Callable[..., object]) -> Documents:
    """The documents of a function decorated with `dsl.pipeline`."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(function, str(path))
        return read_documents(path.read_text())


class Ran:
    """A run that has ended."""

    def __init__(self, world: World, run_id: str) -> None:
        self.id = run_id
        row = world.run(run_id)
        self.state, self.error, self.warnings = row.state, row.error, row.warnings
        self.tasks = world.tasks(run_id)
        with world.database.read() as transaction:
            self.outputs: JsonObject = output_parameters(transaction, run_id)

    @property
    def states(self) -> dict[str, str]:
        return {name: row.state for name, row in self.tasks.items()}

    def given(self, task: str) -> Json:
        """The only output parameter of a task."""
        (value,) = self.tasks[task].outputs["parameters"].values()
        return value


def run(world: World, function: Callable[..., object], **parameters: Json) -> Ran:
    """Compile a pipeline and run it to its end."""
    documents = compiled(function)
    return Ran(world, world.go(documents.pipeline, platform=documents.platform, parameters=parameters))


@dsl.component
def say(word: str) -> str:
    return word


@dsl.component
def double(number: int) -> int:
    return 2 * number


@dsl.component
def kinds(value: list) -> str:
    return ",".join(type(member).__name__ for member in value)


@dsl.component
def total(numbers: list) -> int:
    return sum(numbers)


@dsl.component
def write(word: str, out: dsl.Output[dsl.Dataset]):
    out.metadata["length"] = len(word)
    with open(out.path, "w") as file:
        file.write(word)


@dsl.component
def read(data: dsl.Input[dsl.Dataset]) -> str:
    with open(data.path) as file:
        return file.read()


@dsl.component
def fail(word: str = "no") -> str:
    raise RuntimeError(f"{word}: it was asked to")
