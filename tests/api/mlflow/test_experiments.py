"""Experiments over the wire."""

from __future__ import annotations

from typing import Any

import pytest


def test_the_default_experiment_is_there_and_stays(mlflow: Any) -> None:
    shown = mlflow.ok("GET", "experiments/get", experiment_id="0")["experiment"]
    assert (shown["name"], shown["artifact_location"]) == ("Default", "mlflow-artifacts:/0")
    assert mlflow.refused("POST", "experiments/delete", experiment_id="0")[:2] == (400, "INVALID_PARAMETER_VALUE")


def test_created_found_renamed_deleted_and_restored(mlflow: Any, name: str, experiment: str, new_run: Any) -> None:
    run = new_run()
    assert (
        mlflow.ok("GET", "experiments/get-by-name", experiment_name=name)["experiment"]["experiment_id"] == experiment
    )
    mlflow.ok("POST", "experiments/update", experiment_id=experiment, new_name=f"{name}-b")
    mlflow.ok("POST", "experiments/delete", experiment_id=experiment)
    assert mlflow.ok("GET", "experiments/get", experiment_id=experiment)["experiment"]["lifecycle_stage"] == "deleted"
    assert mlflow.ok("GET", "runs/get", run_id=run)["run"]["info"]["lifecycle_stage"] == "deleted"
    assert mlflow.refused("POST", "runs/create", experiment_id=experiment)[:2] == (400, "INVALID_PARAMETER_VALUE")
    status, code, told = mlflow.refused("POST", "experiments/create", name=f"{name}-b")
    assert (status, code) == (400, "RESOURCE_ALREADY_EXISTS")
    assert "deleted" in told
    mlflow.ok("POST", "experiments/restore", experiment_id=experiment)
    assert mlflow.ok("GET", "runs/get", run_id=run)["run"]["info"]["lifecycle_stage"] == "active"


def test_a_location_of_ones_own_is_kept(mlflow: Any, name: str) -> None:
    made = mlflow.ok("POST", "experiments/create", name=name, artifact_location="s3://bucket/place")["experiment_id"]
    run = mlflow.ok("POST", "runs/create", experiment_id=made)["run"]["info"]
    assert run["artifact_uri"] == f"s3://bucket/place/{run['run_id']}/artifacts"
    assert mlflow.refused("GET", "artifacts/list", run_id=run["run_id"])[:2] == (403, "PERMISSION_DENIED")


def test_tags_are_set_and_deleted(mlflow: Any, experiment: str) -> None:
    mlflow.ok("POST", "experiments/set-experiment-tag", experiment_id=experiment, key="a", value="1")
    mlflow.ok("POST", "experiments/delete-experiment-tag", experiment_id=experiment, key="a")
    refused = mlflow.refused("POST", "experiments/delete-experiment-tag", experiment_id=experiment, key="a")
    assert refused[:2] == (404, "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize("given", ["", " ", "x" * 501])
def test_a_name_that_is_none(mlflow: Any, given: str) -> None:
    assert mlflow.refused("POST", "experiments/create", name=given)[:2] == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize("given", ["999999", "abc", "-1", "9" * 40])
def test_an_experiment_that_is_not_there(mlflow: Any, given: str) -> None:
    assert mlflow.refused("GET", "experiments/get", experiment_id=given)[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
