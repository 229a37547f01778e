"""Runs and their values over the wire."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

NewRun = Callable[..., str]


def run_of(mlflow: Any, run: str) -> Any:
    return mlflow.ok("GET", "runs/get", run_id=run)["run"]


def values_of(run: Any) -> dict[str, Any]:
    return {each["key"]: each["value"] for each in run["data"]["metrics"]}


def test_a_run_has_what_was_said_of_it(mlflow: Any, new_run: NewRun, experiment: str) -> None:
    run = new_run(run_name="mine", user_id="ann", start_time=5, tags=[{"key": "team", "value": "x"}])
    mlflow.ok("POST", "runs/update", run_id=run, status="FINISHED", end_time="9")
    info = run_of(mlflow, run)["info"]
    assert info == {
        "run_id": run, "run_uuid": run, "run_name": "mine", "experiment_id": experiment, "user_id": "ann", "status": "FINISHED",
        "start_time": 5, "end_time": 9, "artifact_uri": f"mlflow-artifacts:/{experiment}/{run}/artifacts", "lifecycle_stage": "active",
    }  # fmt: skip
    tags = {each["key"]: each["value"] for each in run_of(mlflow, run)["data"]["tags"]}
    assert tags == {"team": "x", "mlflow.runName": "mine"}


def test_a_run_without_a_name_gets_one(mlflow: Any, new_run: NewRun) -> None:
    assert run_of(mlflow, new_run())["info"]["run_name"].count("-") == 2


def test_of_a_metric_the_highest_step_counts_and_the_history_has_all(mlflow: Any, new_run: NewRun) -> None:
    run = new_run()
    for step, value, timestamp in ((2, 0.5, 20), (1, 9.0, 30), (2, 0.25, 10), (0, "NaN", 1)):
        mlflow.ok("POST", "runs/log-metric", run_id=run, key="loss", value=value, step=step, timestamp=timestamp)
    assert values_of(run_of(mlflow, run)) == {"loss": 0.5}
    history = mlflow.ok("GET", "metrics/get-history", run_id=run, metric_key="loss")["metrics"]
    assert [(each["timestamp"], each["step"], each["value"]) for each in history] == [
        (1, 0, "NaN"), (10, 2, 0.25), (20, 2, 0.5), (30, 1, 9.0),
    ]  # fmt: skip


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", 1e308, -0.0, 5])
def test_every_number_comes_back(mlflow: Any, new_run: NewRun, value: float | str) -> None:
    run = new_run()
    mlflow.ok("POST", "runs/log-metric", run_id=run, key="m", value=value, timestamp=1)
    assert values_of(run_of(mlflow, run)) == {"m": value}


def test_the_same_value_again_is_one_value(mlflow: Any, new_run: NewRun) -> None:
    run = new_run()
    for _ in range(2):
        mlflow.ok("POST", "runs/log-metric", run_id=run, key="m", value=1, timestamp=1, step=1)
    assert len(mlflow.ok("GET", "metrics/get-history", run_id=run, metric_key="m")["metrics"]) == 1


def test_a_history_comes_in_pages(mlflow: Any, new_run: NewRun) -> None:
    run = new_run()
    metrics = [{"key": "m", "value": step, "timestamp": 7, "step": step} for step in range(10)]
    mlflow.ok("POST", "runs/log-batch", run_id=run, metrics=metrics)
    token, steps = "", []
    while True:
        page = mlflow.ok("GET", "metrics/get-history", run_id=run, metric_key="m", max_results=4, page_token=token)
        steps += [each["step"] for each in page["metrics"]]
        token = page.get("next_page_token", "")
        if not token:
            break
    assert steps == list(range(10))


def test_a_batch_is_kept_whole_or_not_at_all(mlflow: Any, new_run: NewRun) -> None:
    run = new_run()
    mlflow.ok("POST", "runs/log-parameter", run_id=run, key="rate", value="0.1")
    batch = {
        "metrics": [{"key": f"m{number}", "value": number, "timestamp": 1} for number in range(900)],
        "tags": [{"key": "t", "value": "1"}],
    }
    status, code, told = mlflow.refused(
        "POST", "runs/log-batch", run_id=run, params=[{"key": "rate", "value": "0.2"}], **batch
    )
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert "'0.1'" in told
    assert "do not change" in told
    assert values_of(run_of(mlflow, run)) == {}
    mlflow.ok("POST", "runs/log-batch", run_id=run, params=[{"key": "rate", "value": "0.1"}], **batch)
    assert len(values_of(run_of(mlflow, run))) == 900


def test_many_writers_at_once_lose_nothing(mlflow: Any, new_run: NewRun) -> None:
    run = new_run()

    def log(step: int) -> None:
        mlflow.ok("POST", "runs/log-metric", run_id=run, key="m", value=step, timestamp=step, step=step)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(log, range(80)))
    assert len(mlflow.ok("GET", "metrics/get-history", run_id=run, metric_key="m")["metrics"]) == 80
    assert values_of(run_of(mlflow, run)) == {"m": 79}


def test_a_deleted_run_is_not_written_to_and_comes_back(mlflow: Any, new_run: NewRun, experiment: str) -> None:
    run = new_run()
    mlflow.ok("POST", "runs/delete", run_id=run)
    status, code, told = mlflow.refused("POST", "runs/set-tag", run_id=run, key="a", value="b")
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert "deleted" in told
    assert mlflow.ok("POST", "runs/search", experiment_ids=[experiment])["runs"] == []
    gone = mlflow.ok("POST", "runs/search", experiment_ids=[experiment], run_view_type="DELETED_ONLY")["runs"]
    assert [each["info"]["run_id"] for each in gone] == [run]
    mlflow.ok("POST", "runs/restore", run_id=run)
    mlflow.ok("POST", "runs/set-tag", run_id=run, key="a", value="b")


def test_datasets_are_kept_once_and_found(mlflow: Any, new_run: NewRun, experiment: str) -> None:
    dataset = {"name": "rows", "digest": "d1", "source_type": "local", "source": "{}"}
    context = [{"key": "mlflow.data.context", "value": "training"}]
    runs = [new_run(), new_run()]
    for run in (*runs, runs[0]):
        mlflow.ok("POST", "runs/log-inputs", run_id=run, datasets=[{"dataset": dataset, "tags": context}])
    shown = run_of(mlflow, runs[0])["inputs"]["dataset_inputs"]
    assert [(each["dataset"]["name"], each["tags"]) for each in shown] == [("rows", context)]
    found = mlflow.ok("POST", "experiments/search-datasets", experiment_ids=[experiment])["dataset_summaries"]
    assert found == [{"experiment_id": experiment, "name": "rows", "digest": "d1", "context": "training"}]
    searched = mlflow.ok("POST", "runs/search", experiment_ids=[experiment], filter="dataset.name LIKE 'ro%'")["runs"]
    assert len(searched) == 2


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("runs/log-metric", {"key": "k" * 251, "value": 1, "timestamp": 1}),
        ("runs/log-metric", {"key": "../../etc", "value": 1, "timestamp": 1}),
        ("runs/log-metric", {"key": "", "value": 1, "timestamp": 1}),
        ("runs/log-metric", {"key": "m", "value": "much", "timestamp": 1}),
        ("runs/log-metric", {"key": "m", "value": None, "timestamp": 1}),
        ("runs/log-metric", {"key": "m", "value": 1, "timestamp": 1 << 70}),
        ("runs/log-parameter", {"key": "p", "value": "v" * 6_001}),
        ("runs/log-parameter", {"key": "p", "value": ["a"]}),
        ("runs/log-parameter", {"key": "p", "value": "a\0b"}),
        ("runs/set-tag", {"key": "t", "value": "v" * 8_001}),
        ("runs/set-tag", {"key": "a;b", "value": "v"}),
        ("runs/update", {"status": "DONE"}),
        ("runs/log-batch", {"metrics": [{"key": "m", "value": 1, "timestamp": 1}] * 1_001}),
        ("runs/log-batch", {"params": [{"key": f"p{number}", "value": ""} for number in range(101)]}),
        ("runs/log-batch", {"params": [{"key": "p", "value": "1"}, {"key": "p", "value": "2"}]}),
        ("runs/log-inputs", {"datasets": [{"dataset": {"name": "", "digest": "d"}}]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_named_and_nothing_is_kept(
    mlflow: Any, new_run: NewRun, path: str, message: dict[str, object]
) -> None:
    run = new_run()
    before = run_of(mlflow, run)
    status, code, told = mlflow.refused("POST", path, run_id=run, **message)
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert told
    assert run_of(mlflow, run) == before


@pytest.mark.parametrize("path", ["runs/log-metric", "runs/set-tag", "runs/delete", "runs/update"])
def test_an_unknown_run_is_not_there(mlflow: Any, path: str) -> None:
    extra = {"key": "k", "value": "1", "timestamp": 1}
    assert mlflow.refused("POST", path, run_id="0" * 32, **extra)[:2] == (404, "RESOURCE_DOES_NOT_EXIST")


def test_a_null_is_as_good_as_nothing_and_unknown_fields_pass(mlflow: Any, new_run: NewRun) -> None:
    run = new_run(user_id=None, more={"a": 1})
    metric = {"key": "m", "value": 1.5, "timestamp": "3", "step": None}
    mlflow.ok("POST", "runs/log-batch", run_uuid=run, metrics=[metric], params=None)
    assert values_of(run_of(mlflow, run)) == {"m": 1.5}
