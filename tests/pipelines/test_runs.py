"""Asking for runs: what is refused before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_pipelines import World, constant, pipeline, step
from sqlalchemy import func, select

from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.core.json import JsonObject
from goldenloop.pipelines.runs import cancel_run, checked_parameters, model_file
from goldenloop.standards.pipeline_ir import read_pipeline
from goldenloop.store.tables import runs

TAKING = pipeline(
    {"only": step("true", takes={"word": constant("x")})},
    parameters={
        "rate": {"parameterType": "NUMBER_DOUBLE"},
        "depth": {"parameterType": "NUMBER_INTEGER", "defaultValue": 3.0, "isOptional": True},
        "names": {"parameterType": "LIST", "isOptional": True},
    },
    artifacts={"data": {"artifactType": {"schemaTitle": "system.Dataset"}, "isOptional": True}},
)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "needs rate"),
        ({"rate": "fast"}, "'fast' is not of type NUMBER_DOUBLE"),
        ({"rate": 1, "dept": 2}, "no parameter 'dept'. Did you mean 'depth'"),
        ({"rate": 1, "depth": 2.5}, "2.5 is not of type NUMBER_INTEGER"),
        ({"rate": True}, "True is not of type"),
    ],
)
def test_wrong_parameters_are_refused(world: World, parameters: JsonObject, message: str) -> None:
    with pytest.raises(InvalidSpecError, match=message):
        world.ask(TAKING, parameters=parameters)
    with world.database.read() as transaction:
        assert transaction.execute(select(func.count()).select_from(runs)).scalar_one() == 0


def test_numbers_are_kept_exactly() -> None:
    root = read_pipeline(TAKING).root
    got = checked_parameters(root, {"rate": 1, "depth": 2**60 + 1, "names": [1, 2.0, "a"]})
    assert got == {"rate": 1.0, "depth": 2**60 + 1, "names": [1, 2.0, "a"]}
    assert type(got["rate"]) is float
    names = got["names"]
    assert isinstance(names, list)
    assert [type(name) for name in names] == [int, float, str]
    assert checked_parameters(root, {"rate": 1.5}) == {"rate": 1.5, "depth": 3}


def test_an_unknown_artifact_is_refused(world: World) -> None:
    with pytest.raises(InvalidSpecError, match=r"no artifact input 'dat'\. Did you mean 'data'"):
        world.ask(TAKING, parameters={"rate": 1}, inputs={"dat": "artifact:x"})


def test_cancelling_an_unknown_run(world: World) -> None:
    with pytest.raises(NotFoundError), world.database.write() as transaction:
        cancel_run(transaction, "nobody", now_us=0)


def test_which_file_is_the_model(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.joblib").write_text("m")
    (folder / "schema.json").write_text("{}")
    assert model_file(world.kept, world.kept.put(folder)).name == "model.joblib"
    assert model_file(world.kept, world.kept.put(folder / "model.joblib")).read_text() == "m"
    (folder / "model.joblib").rename(folder / "weights")
    with pytest.raises(InvalidSpecError, match="2 files"):
        model_file(world.kept, world.kept.put(folder))
