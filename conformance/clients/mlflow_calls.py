"""Calls of MLflow's own client, in an environment that has it; prints one JSON line for each."""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import mlflow
import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from sklearn.linear_model import LogisticRegression

os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"
warnings.simplefilter("ignore")

IS_THREE = mlflow.__version__.startswith("3")
REQUIREMENTS = ["scikit-learn"]  # said, so that the client need not load the model once more to find out
client = MlflowClient()
failures = 0


def call(name: str) -> Callable[[Callable[[], object]], None]:
    """Run the function at once, and print what came of it."""

    def run(function: Callable[[], object]) -> None:
        global failures
        try:
            function()
            ok, told = True, ""
        except Exception as error:
            ok, told = False, f"{type(error).__name__}: {error}"[:500]
            failures += 1
        print(json.dumps({"client": f"mlflow {mlflow.__version__}", "call": name, "ok": ok, "told": told}), flush=True)

    return run


def refused(function: Callable[[], object], code: str) -> None:
    """The call must fail with this error code of MLflow."""
    try:
        function()
    except MlflowException as error:
        assert error.error_code == code, error.error_code
    else:
        raise AssertionError("it was not refused")


experiment = mlflow.set_experiment("conformance").experiment_id
features = pd.DataFrame(np.random.default_rng(0).normal(size=(200, 3)), columns=["a", "b", "c"])
labels = (features["a"] > 0).astype(int)
model = LogisticRegression().fit(features, labels)


@call("experiments: create, get, search, tag, rename, delete, restore")
def experiments() -> None:
    made = client.create_experiment("other", tags={"team": "x"})
    assert client.get_experiment(made).tags == {"team": "x"}
    client.set_experiment_tag(made, "more", "y")
    client.rename_experiment(made, "another")
    found = client.search_experiments(filter_string="name LIKE 'anoth%' AND tags.more = 'y'", order_by=["name ASC"])
    assert [each.name for each in found] == ["another"]
    client.delete_experiment(made)
    assert client.get_experiment_by_name("another").lifecycle_stage == "deleted"
    assert made in [each.experiment_id for each in client.search_experiments(view_type=ViewType.DELETED_ONLY)]
    client.restore_experiment(made)
    assert client.get_experiment_by_name("nobody") is None


@call("runs: params, metrics, tags, status")
def runs() -> None:
    with mlflow.start_run(run_name="one", tags={"kind": "plain"}) as run:
        mlflow.log_params({"rate": 0.1, "depth": 3})
        mlflow.log_metrics({"loss": 0.5, "accuracy": 0.9})
        with mlflow.start_run(nested=True, run_name="inner"):
            mlflow.log_metric("loss", 1)
    kept = client.get_run(run.info.run_id)
    assert (kept.data.params, kept.data.metrics) == ({"rate": "0.1", "depth": "3"}, {"loss": 0.5, "accuracy": 0.9})
    assert (kept.info.status, kept.info.run_name, kept.data.tags["kind"]) == ("FINISHED", "one", "plain")
    inner = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{run.info.run_id}'")
    assert [each.info.run_name for each in inner] == ["inner"]
    refused(lambda: client.log_param(run.info.run_id, "rate", 0.2), "INVALID_PARAMETER_VALUE")
    refused(lambda: client.get_run("0" * 32), "RESOURCE_DOES_NOT_EXIST")


@call("metrics: history, steps, numbers that are not finite, a batch of 1,000")
def metrics() -> None:
    run = client.create_run(experiment).info.run_id
    for step, value in enumerate((1.0, math.inf, math.nan)):
        client.log_metric(run, "m", value, step=step, timestamp=step + 1)
    values = [each.value for each in client.get_metric_history(run, "m")]
    assert values[:2] == [1.0, math.inf]
    assert math.isnan(values[2])
    client.log_batch(run, [Metric(f"k{number}", number, 1, 0) for number in range(1_000)])
    client.log_batch(
        run, [Metric("h", number, number, number) for number in range(800)], [Param("p", "1")], [RunTag("t", "2")]
    )
    assert len(client.get_run(run).data.metrics) == 1_002
    assert [each.step for each in client.get_metric_history(run, "h")] == list(range(800))
    client.set_terminated(run, "FAILED")
    assert client.get_run(run).info.status == "FAILED"


@call("runs: search with filters, orders and pages; delete and restore")
def searches() -> None:
    made = client.create_experiment("searched")
    for number in range(25):
        run = client.create_run(made, run_name=f"r{number}").info.run_id
        client.log_batch(
            run, [Metric("score", number / 10, 1, 0)], [Param("half", str(number % 2))], [RunTag("Team", "Red")]
        )
    found = client.search_runs(
        [made], "metrics.score >= 1 and params.half = '0' and tags.Team ILIKE 're%' and attributes.status = 'RUNNING'",
        order_by=["metrics.score DESC"],
    )  # fmt: skip
    assert [each.info.run_name for each in found] == [f"r{number}" for number in range(24, 9, -2)]
    pages, token = [], None
    while True:
        page = client.search_runs([made], order_by=["metrics.score ASC"], max_results=10, page_token=token)
        pages += [each.info.run_name for each in page]
        token = page.token
        if not token:
            break
    assert pages == [f"r{number}" for number in range(25)]
    assert len(mlflow.search_runs([made], filter_string="params.half = '1'")) == 12
    client.delete_run(run)
    assert len(client.search_runs([made])) == 24
    client.restore_run(run)
    refused(lambda: client.search_runs([made], "metrics.score >> 1"), "INVALID_PARAMETER_VALUE")


@call("inputs: datasets")
def inputs() -> None:
    with mlflow.start_run() as run:
        mlflow.log_input(mlflow.data.from_pandas(features, name="rows"), context="training")
    kept = client.get_run(run.info.run_id).inputs.dataset_inputs
    assert [each.dataset.name for each in kept] == ["rows"]
    assert len(client.search_runs([experiment], "dataset.name = 'rows' AND dataset.context = 'training'")) == 1


@call("artifacts: files, folders, texts, figures of numbers, list, download")
def artifacts() -> None:
    with tempfile.TemporaryDirectory() as place, mlflow.start_run() as run:
        (Path(place) / "sub").mkdir()
        (Path(place) / "sub" / "large.bin").write_bytes(os.urandom(5 << 20))
        mlflow.log_artifacts(place, "folder")
        mlflow.log_text("hello", "notes/ü b.txt")
        mlflow.log_dict({"a": 1}, "numbers.json")
        mlflow.log_table({"x": [1, 2]}, "table.json")
        names = [each.path for each in client.list_artifacts(run.info.run_id)]
        assert names == ["folder", "notes", "numbers.json", "table.json"]
        got = client.download_artifacts(run.info.run_id, "folder", tempfile.mkdtemp())
        assert (Path(got) / "sub" / "large.bin").read_bytes() == (Path(place) / "sub" / "large.bin").read_bytes()
        assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/notes/ü b.txt") == "hello"


@call("sklearn: autolog, log_model, load_model")
def sklearn() -> None:
    mlflow.sklearn.autolog(log_models=False)
    with mlflow.start_run() as run:
        LogisticRegression(C=0.5).fit(features, labels)
    mlflow.sklearn.autolog(disable=True)
    kept = client.get_run(run.info.run_id)
    assert kept.data.params["C"] == "0.5"
    assert "training_accuracy_score" in kept.data.metrics
    with mlflow.start_run() as run:
        extra = {"name": "tree"} if IS_THREE else {"artifact_path": "tree"}
        info = mlflow.sklearn.log_model(model, pip_requirements=REQUIREMENTS, registered_model_name="tree", **extra)
    for uri in (info.model_uri, f"runs:/{run.info.run_id}/tree", "models:/tree/1"):
        assert (mlflow.sklearn.load_model(uri).predict(features) == model.predict(features)).all()


@call("registry: versions, aliases, stages, tags, search")
def registry() -> None:
    client.create_registered_model("stones", tags={"team": "x"}, description="of all kinds")
    for number in range(3):
        version = client.create_model_version("stones", f"s3://bucket/{number}", tags={"n": str(number)})
        assert version.version in (str(number + 1), number + 1)
    client.set_registered_model_alias("stones", "best", "2")
    assert int(client.get_model_version_by_alias("stones", "best").version) == 2
    assert client.get_registered_model("stones").aliases in ({"best": "2"}, {"best": 2})
    client.set_model_version_tag("stones", "2", "ok", "yes")
    found = client.search_model_versions("name = 'stones' AND tags.ok = 'yes'")
    assert [int(each.version) for each in found] == [2]
    client.update_model_version("stones", "2", description="good")
    client.transition_model_version_stage("stones", "3", "Production")
    assert [int(each.version) for each in client.get_latest_versions("stones", ["Production"])] == [3]
    assert client.get_model_version_download_uri("stones", "1") == "s3://bucket/0"
    names = [each.name for each in client.search_registered_models("name LIKE 's%'", order_by=["name ASC"])]
    assert "stones" in names
    client.delete_registered_model_alias("stones", "best")
    client.delete_model_version("stones", "1")
    client.rename_registered_model("stones", "rocks")
    client.delete_registered_model("rocks")
    refused(lambda: client.get_registered_model("rocks"), "RESOURCE_DOES_NOT_EXIST")


if IS_THREE:

    @call("logged models: create, params, metrics, tags, search, finalize")
    def logged_models() -> None:
        made = client.create_logged_model(experiment, name="bare", params={"depth": "3"}, tags={"team": "x"})
        with mlflow.start_run():
            mlflow.log_metric("accuracy", 0.9, model_id=made.model_id)
        client.set_logged_model_tags(made.model_id, {"more": "y"})
        client.finalize_logged_model(made.model_id, "READY")
        found = client.search_logged_models([experiment], "metrics.accuracy > 0.8 AND name = 'bare'")
        assert [each.model_id for each in found] == [made.model_id]
        assert found[0].metrics[0].value == 0.9
        assert found[0].tags["more"] == "y"
        client.delete_logged_model(made.model_id)

    @call("what is not done says so: webhooks")
    def not_done() -> None:
        refused(lambda: client.list_webhooks(), "NOT_IMPLEMENTED")


sys.exit(1 if failures else 0)
