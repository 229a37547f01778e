"""Runs and recurring runs as messages: what is taken, what is shown, and what is refused."""

from __future__ import annotations

import httpx
import pytest
from sqlalchemy import select, update

from goldenloop.control.housekeeping import Housekeeping
from goldenloop.control.platform import Platform
from goldenloop.core.json import JsonObject
from goldenloop.pipelines.runs import RunRequest, insert_run
from goldenloop.store.tables import runs


@pytest.fixture
def experiment(api: httpx.Client, namespace: str) -> str:
    """The id of an experiment in a namespace of its own."""
    made = api.post("/experiments", json={"displayName": "tests", "namespace": namespace})
    return str(made.json()["experiment_id"])


def test_names_may_be_written_in_either_form_and_unknown_ones_are_passed_over(
    api: httpx.Client, pipeline: JsonObject, experiment: str
) -> None:
    answer = api.post(
        "/runs",
        json={
            "displayName": "a run",
            "experimentId": experiment,
            "pipelineSpec": pipeline,
            "runtimeConfig": {"parameters": {"rate": 1}, "pipelineRoot": "here"},
            "serviceAccount": "me",
            "pluginsInput": {"x": {}},
            "somethingNew": 1,
        },
    )
    run = answer.json()
    assert answer.status_code == 200, run
    assert run["runtime_config"] == {"parameters": {"rate": 1}, "pipeline_root": "here"}
    assert (run["display_name"], run["service_account"], run["state"]) == ("a run", "me", "PENDING")
    assert run["pipeline_spec"] == pipeline
    shown = api.get(f"/runs/{run['run_id']}").json()
    assert {**run, "run_details": shown.get("run_details")} == {**shown, "run_details": shown.get("run_details")}
    (listed,) = api.get("/runs", params={"experiment_id": experiment}).json()["runs"]
    # A list says what the pipeline is called; who wants the rest asks for the run.
    assert listed == {**run, "pipeline_spec": {"pipelineInfo": {"name": "train"}}}


def test_a_run_goes_to_its_pipelines_namespace_or_to_the_default_one(
    api: httpx.Client, pipeline: JsonObject, namespace: str
) -> None:
    given = {"pipeline": {"name": "train", "namespace": namespace}, "pipeline_version": {"pipeline_spec": pipeline}}
    made = api.post("/pipelines/create", json=given).json()
    reference = {"pipeline_id": made["pipeline_id"]}  # of the newest version
    run = api.post("/runs", json={"display_name": "x", "pipeline_version_reference": reference}).json()
    assert run["pipeline_version_reference"]["pipeline_version_id"]
    assert "pipeline_spec" not in run
    assert api.get("/runs", params={"namespace": namespace}).json()["total_size"] == 1
    inline = api.post("/runs", json={"display_name": "x", "pipeline_spec": pipeline}).json()
    for name in ("", "default", "kubeflow"):
        experiment = api.get(f"/experiments/{inline['experiment_id']}").json()
        assert (experiment["display_name"], experiment["namespace"]) == ("Default", "default")
        found = api.get("/experiments", params={"namespace": name}).json()["experiments"]
        assert experiment["experiment_id"] in [each["experiment_id"] for each in found]
    refused = api.delete(f"/experiments/{inline['experiment_id']}")
    assert refused.status_code == 400


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"display_name": ""}, 400),
        ({"display_name": "x" * 300}, 400),
        ({"display_name": "a\x00b"}, 400),
        ({"pipeline_spec": None}, 400),
        ({"pipeline_spec": {}}, 400),
        ({"pipeline_spec": {"root": 1}}, 400),
        ({"pipeline_version_reference": {"pipeline_id": "none"}}, 400),  # beside a specification
        ({"pipeline_spec": None, "pipeline_version_reference": {"pipeline_id": "none"}}, 404),
        ({"pipeline_spec": None, "pipeline_version_id": "none"}, 404),
        ({"experiment_id": "none"}, 404),
        ({"runtime_config": {"parameters": {"rate": "fast"}}}, 400),
        ({"runtime_config": {"parameters": {"other": 1}}}, 400),
        ({"runtime_config": []}, 400),
    ],
)
def test_a_run_that_cannot_be_is_refused(
    api: httpx.Client, pipeline: JsonObject, changes: JsonObject, status: int
) -> None:
    answer = api.post("/runs", json={"display_name": "a run", "pipeline_spec": pipeline, **changes})
    assert answer.status_code == status, answer.text
    assert answer.json()["message"]


def test_a_deleted_run_is_hidden_at_once_and_gone_soon(
    api: httpx.Client, platform: Platform, pipeline: JsonObject, experiment: str
) -> None:
    run = api.post("/runs", json={"display_name": "x", "experiment_id": experiment, "pipeline_spec": pipeline}).json()
    identity = run["run_id"]
    folder = platform.home.runs / identity
    folder.mkdir(parents=True)
    assert api.delete(f"/runs/{identity}").json() == {}
    for answer in (
        api.get(f"/runs/{identity}"),
        api.post(f"/runs/{identity}:archive"),
        api.delete(f"/runs/{identity}"),
    ):
        assert answer.status_code == 404
    assert "runs" not in api.get("/runs", params={"experiment_id": experiment}).json()

    def is_there() -> bool:
        with platform.database.read() as transaction:
            return transaction.scalar(select(runs.c.id).where(runs.c.id == identity)) is not None

    Housekeeping(platform.world, platform.home.runs, platform.home.payloads).advance()
    assert is_there()  # a step of it may still be ending
    with platform.database.write() as transaction:
        transaction.execute(update(runs).where(runs.c.id == identity).values(finished_us=1))
    Housekeeping(platform.world, platform.home.runs, platform.home.payloads).advance()
    assert not is_there()
    assert not folder.exists()


def test_a_run_of_a_loop_is_not_deleted(api: httpx.Client, platform: Platform, pipeline: JsonObject) -> None:
    request = RunRequest(namespace="default", name="loan 1", pipeline=pipeline, loop="loan")
    with platform.database.write() as transaction:
        run_id = insert_run(transaction, request, now_us=1)
    assert api.get(f"/runs/{run_id}").json()["display_name"] == "loan 1"
    refused = api.delete(f"/runs/{run_id}")
    assert (refused.status_code, refused.json()["code"]) == (403, 7)
    assert "Loop 'loan'" in refused.json()["message"]


def test_a_run_of_an_archived_experiment_stays_in_the_archive(
    api: httpx.Client, pipeline: JsonObject, experiment: str
) -> None:
    run = api.post("/runs", json={"display_name": "x", "experiment_id": experiment, "pipeline_spec": pipeline}).json()
    api.post(f"/experiments/{experiment}:archive")
    assert api.post(f"/runs/{run['run_id']}:unarchive").status_code == 400
    api.post(f"/experiments/{experiment}:unarchive")
    assert api.get(f"/runs/{run['run_id']}").json()["storage_state"] == "ARCHIVED"


def recurring(pipeline: JsonObject, **changes: object) -> dict[str, object]:
    cron = {"cron_schedule": {"cron": "0 0 9 ? * 2-6", "start_time": "2030-01-01T00:00:00Z"}}
    return {"display_name": "daily", "pipeline_spec": pipeline, "trigger": cron, **changes}


def test_a_recurring_run_is_shown_as_it_was_written(
    api: httpx.Client, pipeline: JsonObject, experiment: str, namespace: str
) -> None:
    made = api.post("/recurringruns", json=recurring(pipeline, experiment_id=experiment, max_concurrency="3")).json()
    assert made["trigger"] == {"cron_schedule": {"cron": "0 0 9 ? * 2-6", "start_time": "2030-01-01T00:00:00Z"}}
    assert (made["namespace"], made["max_concurrency"], made["no_catchup"]) == (namespace, "3", False)
    assert made["pipeline_spec"] == pipeline
    every = {"periodicSchedule": {"intervalSecond": "3600", "endTime": "2030-01-02T00:00:00Z"}}
    other = api.post(
        "/recurringruns",
        json=recurring(pipeline, experiment_id=experiment, trigger=every, mode="DISABLE", no_catchup=True),
    ).json()
    assert other["trigger"] == {"periodic_schedule": {"interval_second": "3600", "end_time": "2030-01-02T00:00:00Z"}}
    assert (other["mode"], other["status"], other["no_catchup"]) == ("DISABLE", "DISABLED", True)
    listed = api.get("/recurringruns", params={"namespace": namespace, "sort_by": "created_at desc"}).json()
    assert [each["recurring_run_id"] for each in listed["recurringRuns"]] == [
        other["recurring_run_id"],
        made["recurring_run_id"],
    ]
    api.post(f"/experiments/{experiment}:archive")  # and nothing of it starts any more
    assert api.get(f"/recurringruns/{made['recurring_run_id']}").json()["status"] == "DISABLED"


@pytest.mark.parametrize(
    "changes",
    [
        {"display_name": ""},
        {"trigger": {}},
        {"trigger": {"cron_schedule": {"cron": "never"}}},
        {"trigger": {"cron_schedule": {"cron": "* * * * * *", "start_time": "soon"}}},
        {"trigger": {"periodic_schedule": {"interval_second": 0}}},
        {"trigger": {"periodic_schedule": {"interval_second": 10**18}}},
        {"trigger": {"cron_schedule": {"cron": "* * * * * *"}, "periodic_schedule": {"interval_second": 5}}},
        {"max_concurrency": 11},
        {"max_concurrency": -1},
        {"runtime_config": {"parameters": {"other": 1}}},
        {"mode": "MAYBE"},
    ],
)
def test_a_recurring_run_that_cannot_be_is_refused(
    api: httpx.Client, pipeline: JsonObject, changes: dict[str, object]
) -> None:
    answer = api.post("/recurringruns", json=recurring(pipeline, **changes))
    assert answer.status_code == 400, answer.text
