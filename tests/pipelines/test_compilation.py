"""From a user's file, through KFP's own compiler, to runs of its components in the pre-imported interpreter."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from small_pipelines import World

from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.pipelines.compilation import CompiledPipeline, code_version, compile_source
from goldenloop.pipelines.environments import packages_of
from goldenloop.pipelines.python_step import match_python_step
from goldenloop.pipelines.runs import find_model, output_parameters, outputs
from goldenloop.standards.pipeline_ir import Pipeline, read_pipeline

SOURCE = """
from typing import NamedTuple, Optional

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="python:3.11", packages_to_install=["numpy", "pandas>=1"])
def make(n: int, out: Output[Dataset], words: list = [1, 2.5]) -> int:
    assert type(n) is int and [type(word) for word in words] == [int, float], (n, words)
    with open(out.path, "w") as stream:
        stream.write("x" * n)
    return n * 2


@dsl.component(base_image="python:3.11")
def learn(data: Input[Dataset], tag: str, model: Output[Model], metrics: Output[Metrics], champion: Optional[Input[Model]] = None):
    assert champion is None
    with open(data.path) as stream, open(model.path, "w") as target:
        target.write(stream.read() + tag)
    model.metadata["framework"] = "none"
    metrics.log_metric("accuracy", 0.75)


@dsl.component(base_image="python:3.11")
def fail(how: str):
    import os, signal, sys
    print("about to fail")
    if how == "raise":
        raise ValueError("the number is odd")
    if how == "exit":
        sys.exit(3)
    os.kill(os.getpid(), signal.SIGSEGV)


@dsl.component(base_image="python:3.11", packages_to_install=["no-such-package-here==1"])
def needy():
    pass


@dsl.pipeline(name="inner")
def inner(n: int) -> int:
    return make(n=n).outputs["Output"]


@dsl.pipeline(name="whole")
def whole(n: int = 3, champion: Optional[Input[Model]] = None) -> NamedTuple("Outputs", model=Model, number=int):
    made = make(n=n)
    learned = learn(data=made.outputs["out"], tag=f"-{n}-{dsl.PIPELINE_JOB_NAME_PLACEHOLDER}", champion=champion)
    nested = inner(n=made.outputs["Output"])
    outputs = NamedTuple("Outputs", model=Model, number=int)
    return outputs(learned.outputs["model"], nested.output)


@dsl.pipeline(name="failing")
def failing(how: str):
    fail(how=how)


@dsl.pipeline(name="needing")
def needing():
    needy()


@dsl.pipeline(name="branching")
def branching(n: int):
    with dsl.If(n == 1):
        make(n=n)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "train.py").write_text(SOURCE)
    return folder


@pytest.fixture(scope="module")
def whole(project: Path) -> CompiledPipeline:
    return compile_source("train.py:whole", folder=project)


def test_a_compiled_pipeline_runs(world: World, whole: CompiledPipeline) -> None:
    run_id = world.go(whole.ir, parameters={"n": 4})
    assert world.run(run_id).error is None
    with world.database.read() as transaction:
        model = find_model(transaction, run_id)
        assert model is not None
        assert world.kept.read_bytes(model.uri) == b"xxxx-4-small-1"
        assert model.properties["framework"] == "none"
        metrics = next(output for output in outputs(transaction, run_id) if output.port == "metrics")
        assert metrics.properties == {"accuracy": 0.75}
        assert output_parameters(transaction, run_id) == {"number": 16}


@pytest.mark.parametrize(
    ("how", "told"),
    [("raise", "ValueError: the number is odd"), ("exit", "exit code 3"), ("crash", "killed by SIGSEGV")],
)
def test_a_failing_component_tells_why(world: World, project: Path, how: str, told: str) -> None:
    error = world.run(world.go(compile_source("train.py:failing", folder=project).ir, parameters={"how": how})).error
    assert "step 'fail'" in error
    assert told in error
    assert "about to fail" in error
    assert "executor_input" not in error, "what KFP prints of its inputs is left out"


def test_the_template_is_matched_exactly(whole: CompiledPipeline) -> None:
    pipeline: Pipeline = read_pipeline(whole.ir)
    container = pipeline.components["comp-make"].container
    assert container is not None
    step = match_python_step(container.command)
    assert step is not None
    assert packages_of(container.command) == ("numpy", "pandas>=1")
    assert "def make(" in step.source
    for place in range(len(container.command) - 1):
        changed = list(container.command)
        changed[place] += " && true"
        assert match_python_step(tuple(changed)) is None


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("def broken(:\n", "SyntaxError", 1),
        ("x = 1\nimport no_such_module\n", "ModuleNotFoundError", 2),
        ("import sys\nsys.exit(0)\n", "ends the program", 0),
        ("x = 1\n", "there is no function 'train'", 0),
        ("def train(): pass\n", "is not a pipeline", 0),
    ],
)
def test_a_file_that_does_not_compile(tmp_path: Path, text: str, message: str, line: int) -> None:
    file = tmp_path / "loan.py"
    file.write_text(text)
    with pytest.raises(InvalidSpecError, match=message) as caught:
        compile_source("loan.py:train", folder=tmp_path)
    assert caught.value.where == (f"{file}, line {line}" if line else str(file))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        compile_source("loan.py:train", folder=tmp_path)


def test_the_code_version(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True)

    file = tmp_path / "loan.py"
    file.write_text("x = 1\n")
    bare = code_version(file, source="loan.py")
    assert (bare["commit"], bare["dirty"]) == (None, None)
    git("init")
    git("add", "loan.py")
    git("commit", "-m", "first")
    clean = code_version(file, source="loan.py")
    assert len(str(clean["commit"])) == 40
    assert clean["dirty"] is False
    assert clean["digest"] == bare["digest"]
    (tmp_path / "helper.py").write_text("y = 2\n")
    changed = code_version(file, source="loan.py")
    assert changed["dirty"] is True
    assert changed["digest"] != clean["digest"]
