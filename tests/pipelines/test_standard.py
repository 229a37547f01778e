"""`pipeline: auto`: its committed form is its source's, it learns, and it refuses data that cannot be learned from."""

from __future__ import annotations

import re
from pathlib import Path

import joblib
import numpy as np
import pyarrow as pa
import pytest
from small_pipelines import World

from goldenloop.core.json import Json
from goldenloop.features.source import write_parquet
from goldenloop.pipelines.compilation import compile_source
from goldenloop.pipelines.runs import OutputArtifact, find_model, model_file, outputs
from goldenloop.pipelines.standard import PROGRAMS, auto_code, load_auto
from goldenloop.standards.pipeline_ir import read_pipeline


def rows(count: int, *, seed: int = 0) -> pa.Table:
    """Rows whose label follows from a number and a category; a fifth of one column is missing."""
    random = np.random.default_rng(seed)
    number = random.normal(size=count)
    town = random.choice(["north", "south"], size=count)
    label = np.where(number + (town == "north") + random.normal(scale=0.3, size=count) > 0.5, "yes", "no")
    holes = [None if hole < 0.2 else value for hole, value in zip(random.random(count), number * 2, strict=True)]
    times = np.arange(count) * 3600 + 1_700_000_000
    return pa.table({"at": times, "number": number, "town": town, "holes": holes, "answer": label})


def go(world: World, training: pa.Table, evaluation: pa.Table, **parameters: Json) -> str:
    addresses: dict[str, Json] = {}
    for name, table in (("data", training), ("evaluation_data", evaluation)):
        path = world.folder / f"{name}.parquet"
        write_parquet(table, path)
        addresses[name] = world.kept.put(path)
    given: dict[str, Json] = {"label": "answer", "timestamp": "at", "budget_seconds": 5.0, **parameters}
    return world.go(load_auto(), parameters=given, inputs=addresses)


def test_the_committed_form_is_that_of_the_source() -> None:
    def without_versions(text: str) -> str:
        return re.sub(r"kfp==[0-9.a-z]+|kfp-[0-9.a-z]+", "kfp", text)

    compiled = compile_source(str(PROGRAMS / "auto.py"))
    assert without_versions(repr(compiled.ir)) == without_versions(repr(load_auto())), "run python auto.py beside it"
    assert len(str(auto_code()["digest"])) == 64


def test_its_inputs_are_those_that_a_loop_passes() -> None:
    root = read_pipeline(load_auto()).root
    assert {name: spec.optional for name, spec in root.input_artifacts.items()} == {
        "data": False,
        "evaluation_data": False,
        "champion": True,
    }
    assert {"label", "timestamp", "task", "budget_seconds"} <= root.input_parameters.keys()


def test_it_learns_and_says_how_well(world: World) -> None:
    run_id = go(world, rows(600), rows(200, seed=1))
    assert world.run(run_id).error is None
    with world.database.read() as transaction:
        model = find_model(transaction, run_id)
        found = {output.port: output for output in outputs(transaction, run_id)}
    assert model is not None
    assert found["metrics"].properties["accuracy"] > 0.85
    assert {"statistics", "schema", "training", "evaluation"} <= found.keys()
    fitted = joblib.load(model_file(world.kept, model.uri))
    assert fitted.classes_.tolist() == ["no", "yes"]
    assert champion_is_judged(world, model)


def champion_is_judged(world: World, champion: OutputArtifact) -> bool:
    """A second run gets the first's model as champion, and judges it on the same rows."""
    for name, table in (("data", rows(300)), ("evaluation_data", rows(100, seed=2))):
        write_parquet(table, world.folder / name)
    inputs: dict[str, Json] = {name: world.kept.put(world.folder / name) for name in ("data", "evaluation_data")}
    parameters: dict[str, Json] = {"label": "answer", "timestamp": "at", "budget_seconds": 5.0}
    run_id = world.go(load_auto(), parameters=parameters, inputs={**inputs, "champion": champion.uri})
    with world.database.read() as transaction:
        metrics = next(output for output in outputs(transaction, run_id) if output.port == "metrics")
    return metrics.properties["champion_accuracy"] > 0.8


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("label", "no column 'answr'. Did you mean 'answer'"),
        ("one class", "'answer' takes one value only, 'yes'"),
        ("no labels", "every label is missing"),
        ("no rows", "the training data has no rows"),
        ("type", "column 'number' holds text, it was number"),
        ("column", "column 'town' is missing"),
    ],
)
def test_unfit_data_fails_the_run_and_names_the_column(world: World, case: str, message: str) -> None:
    training, evaluation, label = rows(60), rows(30, seed=1), "answer"
    place = training.column_names.index("answer")
    if case == "label":
        label = "answr"
    elif case == "one class":
        training = training.set_column(place, "answer", pa.array(["yes"] * 60))
    elif case == "no labels":
        training = training.set_column(place, "answer", pa.array([None] * 60, pa.string()))
    elif case == "no rows":
        training = training.slice(0, 0)
    elif case == "type":
        evaluation = evaluation.set_column(1, "number", pa.array(["much"] * 30))
    else:
        evaluation = evaluation.drop_columns(["town"])
    run_id = go(world, training, evaluation, label=label)
    run = world.run(run_id)
    assert run.state == "FAILED"
    assert "step 'validate' ended with exit code 1" in run.error
    assert message in run.error
    with world.database.read() as transaction:
        assert find_model(transaction, run_id) is None


def test_the_program_is_no_module() -> None:
    assert not (Path(PROGRAMS) / "__init__.py").exists()
