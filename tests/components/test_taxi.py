"""The standard components together: the taxi example on the engine, alone under kfp.local, and as a loop asks for it."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from kfp import dsl
from small_pipelines import World

from goldenloop import components
from goldenloop.components.tables import read_schema
from goldenloop.core.json import Json, JsonObject
from goldenloop.features.source import read_source, write_parquet
from goldenloop.pipelines.compilation import compile_source
from goldenloop.pipelines.runs import OutputArtifact, find_model, model_file, outputs
from goldenloop.serving.conversion import convert
from goldenloop.standards.documents import convert as read_document
from goldenloop.standards.documents import read_yaml
from goldenloop.standards.loop import LoopSpec

TAXI = Path(__file__).parents[2] / "examples" / "taxi"


@functools.cache
def compiled(name: str) -> JsonObject:
    return compile_source(f"{TAXI / 'pipeline.py'}:{name}").ir


def outputs_of(world: World, run: str) -> dict[str, list[OutputArtifact]]:
    found: dict[str, list[OutputArtifact]] = {}
    with world.database.read() as transaction:
        for output in outputs(transaction, run):
            found.setdefault(output.port, []).append(output)
    return found


def content(world: World, output: OutputArtifact) -> dict[str, Json]:
    with world.kept.open(output.uri) as stream:
        found: dict[str, Json] = json.loads(stream.read())
    return found


def test_the_whole_example_from_file_to_record(world: World) -> None:
    run = world.go(compiled("taxi"))
    assert world.run(run).error is None
    found = outputs_of(world, run)
    [dataset], [training], [evaluation], [model] = (
        found[name] for name in ("dataset", "training", "evaluation", "model")
    )
    assert dataset.properties["version"] == f"content:{dataset.properties['digest']}"
    assert (training.properties["rows"], evaluation.properties["rows"]) == (4_001, 1_000)
    [metrics], [blessing], [record] = (found[name] for name in ("metrics", "blessing", "record"))
    assert metrics.properties["accuracy_low"] > 0.8
    assert metrics.properties["auc"] > 0.9
    assert blessing.properties["verdict"] == "pass"
    assert record.properties["outcome"] == "recorded"
    assert model.properties["framework"] == "scikit-learn"
    assert {state.state for state in world.tasks(run).values()} == {"SUCCEEDED"}


def test_a_loop_gets_a_model_that_can_be_served(world: World, tmp_path: Path) -> None:
    trips = read_source(str(TAXI / "trips.csv"))
    addresses: dict[str, Json] = {}
    for name, table in (("data", trips.slice(0, 3_000)), ("evaluation_data", trips.slice(3_000, 800))):
        write_parquet(table, tmp_path / f"{name}.parquet")
        addresses[name] = world.kept.put(tmp_path / f"{name}.parquet")
    given: dict[str, Json] = {"label": "big_tip", "timestamp": "trip_start_timestamp"}
    run = world.go(compiled("retrain"), parameters=given, inputs=addresses)
    assert world.run(run).error is None
    with world.database.read() as transaction:
        model = find_model(transaction, run)
    assert model is not None
    file = model_file(world.kept, model.uri)
    assert read_schema(str(file.with_name("schema.json"))).label == "big_tip"
    ignored = frozenset({"trip_start_timestamp"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = convert(file, trips.slice(3_000, 800), label="big_tip", ignore=ignored, out=tmp_path / "served")
    assert converted.accepted
    assert [column.name for column in converted.signature.inputs] == [
        name for name in trips.column_names if name not in ("big_tip", "trip_start_timestamp")
    ]
    again = world.go(compiled("retrain"), parameters=given, inputs={**addresses, "champion": model.uri})
    [blessing] = outputs_of(world, again)["blessing"]
    assert "champion" in blessing.properties["reason"]


def test_the_loop_of_the_example_is_one() -> None:
    [document] = read_yaml((TAXI / "loop.yaml").read_text(), source="loop.yaml")
    spec = read_document(document["spec"], LoopSpec, where="spec")
    trips = read_source(str(TAXI / str(spec.data.source)))
    assert {spec.data.label, spec.data.timestamp} <= set(trips.column_names)


def test_a_step_that_cannot_go_on_ends_with_the_reason(world: World, tmp_path: Path) -> None:
    run = world.go(compiled("taxi"), parameters={"source": str(tmp_path / "none.csv")})
    error = world.run(run).error
    assert "step 'ingest-files'" in error
    assert f"{tmp_path / 'none.csv'}: there is no such file or folder" in error


ALONE = """
from kfp import local
from goldenloop.components import ingest_files
local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root="root")
task = ingest_files(source="rows.jsonl")
print("FOUND", task.outputs["rows"], int(task.outputs["dataset"].metadata["rows"]), task.outputs["version"][:8])
"""


def test_a_component_works_alone_under_kfp_local(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"x": 1}\n{"x": 2}\n')
    command = [sys.executable, "-W", "ignore", "-c", ALONE]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert "FOUND 2 2 content:" in done.stdout, done.stdout + done.stderr


def test_every_component_is_one_and_compiles_by_itself() -> None:
    for name in components.__all__:
        component = getattr(components, name)
        assert isinstance(component, dsl.base_component.BaseComponent), name
        assert component.description, name
    with pytest.raises(AttributeError, match="has no attribute 'train_magic'"):
        _ = components.train_magic
