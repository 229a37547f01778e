"""Registered models, their versions and logged models over the wire; and the models of loops beside them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from goldenloop.control.platform import Platform
from goldenloop.core.phases import VersionState
from goldenloop.core.signatures import Column, Signature
from goldenloop.registry import versions
from goldenloop.registry.versions import NewVersion


def register(mlflow: Any, name: str, count: int = 1) -> None:
    mlflow.ok("POST", "registered-models/create", name=name)
    for number in range(count):
        mlflow.ok("POST", "model-versions/create", name=name, source=f"s3://bucket/{number}")


def test_versions_are_numbered_and_found(mlflow: Any, name: str) -> None:
    register(mlflow, name, 3)
    mlflow.ok("DELETE", "model-versions/delete", name=name, version="2")
    found = mlflow.ok("GET", "model-versions/search", filter=f"name = '{name}'", order_by=["version_number ASC"])
    assert [each["version"] for each in found["model_versions"]] == ["1", "3"]
    made = mlflow.ok("POST", "model-versions/create", name=name, source="s3://bucket/x")["model_version"]
    assert (made["version"], made["status"], made["current_stage"]) == ("4", "READY", "None")


def test_an_alias_points_at_one_version(mlflow: Any, name: str) -> None:
    register(mlflow, name, 2)
    for version in ("1", "2"):
        mlflow.ok("POST", "registered-models/alias", name=name, alias="best", version=version)
    assert mlflow.ok("GET", "registered-models/alias", name=name, alias="best")["model_version"]["version"] == "2"
    assert mlflow.ok("GET", "model-versions/get", name=name, version="1")["model_version"]["aliases"] == []
    mlflow.ok("DELETE", "model-versions/delete", name=name, version="2")
    assert mlflow.refused("GET", "registered-models/alias", name=name, alias="best")[:2] == (
        404,
        "RESOURCE_DOES_NOT_EXIST",
    )


@pytest.mark.parametrize("alias", ["latest", "v1", "a b", "", "a/b", "x" * 256])
def test_an_alias_that_reads_as_something_else_is_refused(mlflow: Any, name: str, alias: str) -> None:
    register(mlflow, name)
    refused = mlflow.refused("POST", "registered-models/alias", name=name, alias=alias, version="1")
    assert refused[:2] == (400, "INVALID_PARAMETER_VALUE")


def test_a_stage_can_be_emptied_for_another(mlflow: Any, name: str) -> None:
    register(mlflow, name, 2)
    for version in ("1", "2"):
        mlflow.ok(
            "POST", "model-versions/transition-stage",
            name=name, version=version, stage="production", archive_existing_versions=True,
        )  # fmt: skip
    latest = mlflow.ok("POST", "registered-models/get-latest-versions", name=name)["model_versions"]
    assert {(each["version"], each["current_stage"]) for each in latest} == {("1", "Archived"), ("2", "Production")}
    assert mlflow.refused("POST", "model-versions/transition-stage", name=name, version="1", stage="Prod")[0] == 400


def test_renamed_and_deleted_with_all_it_has(mlflow: Any, name: str) -> None:
    register(mlflow, name)
    mlflow.ok("POST", "registered-models/set-tag", name=name, key="owner", value="ann")
    mlflow.ok("POST", "model-versions/set-tag", name=name, version="1", key="size", value="3")
    renamed = mlflow.ok("POST", "registered-models/rename", name=name, new_name=f"{name}-b")["registered_model"]
    assert renamed["tags"] == [{"key": "owner", "value": "ann"}]
    assert [each["version"] for each in renamed["latest_versions"]] == ["1"]
    mlflow.ok("DELETE", "registered-models/delete", name=f"{name}-b")
    assert mlflow.refused("GET", "registered-models/get", name=f"{name}-b")[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    register(mlflow, f"{name}-b")
    assert mlflow.ok("GET", "registered-models/get", name=f"{name}-b")["registered_model"]["tags"] == []


def test_a_name_is_taken_once(mlflow: Any, name: str) -> None:
    register(mlflow, name)
    assert mlflow.refused("POST", "registered-models/create", name=name)[:2] == (400, "RESOURCE_ALREADY_EXISTS")
    for bad in ("a/b", "a:b", " "):
        assert mlflow.refused("POST", "registered-models/create", name=bad)[:2] == (400, "INVALID_PARAMETER_VALUE")


def test_what_is_no_prompt_is_found_by_clients_that_ask_for_it(mlflow: Any, name: str) -> None:
    register(mlflow, name)
    filter = f"name = '{name}' AND tag.`mlflow.prompt.is_prompt` != 'true'"
    assert len(mlflow.ok("GET", "registered-models/search", filter=filter)["registered_models"]) == 1


def test_a_logged_model_has_values_and_a_version_leads_to_its_files(
    mlflow: Any, experiment: str, new_run: Any, name: str
) -> None:
    run = new_run()
    params = [{"key": "depth", "value": "3"}]
    made = mlflow.ok("POST", "logged-models", experiment_id=experiment, name="tree", source_run_id=run, params=params)
    model = made["model"]["info"]["model_id"]
    mlflow.ok("PATCH", f"logged-models/{model}", status="LOGGED_MODEL_READY")
    mlflow.ok("PATCH", f"logged-models/{model}/tags", tags=[{"key": "team", "value": "x"}])
    mlflow.ok(
        "POST", "runs/log-metric", run_id=run, key="acc", value=0.9, timestamp=1, model_id=model, dataset_name="d", dataset_digest="1"
    )  # fmt: skip
    found = mlflow.ok(
        "POST", "logged-models/search", experiment_ids=[experiment],
        filter="metrics.acc > 0.8 AND params.depth = '3' AND name = 'tree'", order_by=[{"field_name": "metrics.acc", "ascending": False}],
    )["models"]  # fmt: skip
    assert [each["info"]["model_id"] for each in found] == [model]
    assert found[0]["data"]["metrics"][0]["value"] == 0.9
    register(mlflow, name, 0)
    version = mlflow.ok("POST", "model-versions/create", name=name, source=f"models:/{model}")["model_version"]
    assert (version["model_id"], version["run_id"]) == (model, run)
    uri = mlflow.ok("GET", "model-versions/get-download-uri", name=name, version="1")["artifact_uri"]
    assert uri == f"mlflow-artifacts:/{experiment}/models/{model}/artifacts"
    mlflow.ok("DELETE", f"logged-models/{model}")
    assert mlflow.refused("GET", f"logged-models/{model}")[:2] == (404, "RESOURCE_DOES_NOT_EXIST")


@pytest.fixture
def loop_model(platform: Platform, tmp_path: Any, name: str) -> str:
    """A model of a loop with a golden version and a blessed one."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"graph")
    signature = Signature(inputs=(Column(name="age", kind="number"),), task="regression")
    new = NewVersion(
        namespace="default", model=name, run_id=None, artifact_id=None, digest="d" * 64, folder=platform.artifacts.put(folder),
        signature=signature, metrics={}, conversion={}, data_version={}, code_version={}, trained_until_us=None,
    )  # fmt: skip
    with platform.database.write() as transaction:
        for _ in range(2):
            version = versions.register(transaction, new, now_us=1_000)
            blessed = versions.move(transaction, version, VersionState.BLESSED)
            if version.number == 1:
                versions.make_golden(transaction, blessed)
    return name


def test_a_loops_model_is_there_to_be_read(mlflow: Any, http: httpx.Client, loop_model: str) -> None:
    shown = mlflow.ok("GET", "registered-models/get", name=loop_model)["registered_model"]
    aliases = {each["alias"]: each["version"] for each in shown["aliases"]}
    assert aliases == {"golden": "1", "champion": "1", "challenger": "2"}
    assert (
        mlflow.ok("GET", "registered-models/alias", name=loop_model, alias="golden")["model_version"]["version"] == "1"
    )
    found = mlflow.ok("GET", "model-versions/search", filter=f"name = '{loop_model}'")["model_versions"]
    assert [each["version"] for each in found] == ["2", "1"]
    listed = mlflow.ok("GET", "registered-models/search", filter=f"name LIKE '{loop_model}%'")["registered_models"]
    assert [each["name"] for each in listed] == [loop_model]
    uri = mlflow.ok("GET", "model-versions/get-download-uri", name=loop_model, version="1")["artifact_uri"]
    assert uri == f"mlflow-artifacts:/golden/default/{loop_model}/1"
    base, root = "/api/2.0/mlflow-artifacts/artifacts", f"golden/default/{loop_model}/1"
    files = http.get(base, params={"path": root}).json()["files"]
    assert [each["path"] for each in files] == ["MLmodel", "code", "model.onnx"]
    assert [each["path"] for each in http.get(base, params={"path": f"{root}/code"}).json()["files"]] == [
        "golden_pyfunc.py"
    ]
    assert http.get(f"{base}/{root}/model.onnx").content == b"graph"
    assert b"golden_pyfunc" in http.get(f"{base}/{root}/MLmodel").content
    assert http.get(f"{base}/{root}/..%2f..%2fstate.db").status_code == 400


def test_a_loops_model_is_not_written_by_clients(mlflow: Any, http: httpx.Client, loop_model: str) -> None:
    for path, message in (
        ("registered-models/create", {}),
        ("model-versions/create", {"source": "s3://x"}),
        ("registered-models/alias", {"alias": "best", "version": "1"}),
        ("registered-models/set-tag", {"key": "a", "value": "b"}),
    ):
        status, code, told = mlflow.refused("POST", path, name=loop_model, **message)
        assert (status, code) == (403, "PERMISSION_DENIED")
        assert "loop" in told
    upload = http.put(f"/api/2.0/mlflow-artifacts/artifacts/golden/default/{loop_model}/1/model.onnx", content=b"x")
    assert upload.status_code == 403


def test_versions_that_are_not_there(mlflow: Any, name: str) -> None:
    register(mlflow, name)
    assert mlflow.refused("GET", "model-versions/get", name=name, version="2")[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    assert mlflow.refused("GET", "model-versions/get", name="nobody", version="1")[:2] == (
        404,
        "RESOURCE_DOES_NOT_EXIST",
    )
    for wrong in ("0", "one", "9" * 30):
        refused = mlflow.refused("GET", "model-versions/get", name=name, version=wrong)
        assert refused[:2] == (400, "INVALID_PARAMETER_VALUE")
