"""What people do with an unmodified `kfp.Client(host=…)`."""

import itertools
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import kfp
import pytest
from kfp import compiler, dsl
from kfp_server_api import ApiException, V2beta1RecurringRun, V2beta1Run

pytestmark = [
    pytest.mark.process,
    pytest.mark.filterwarnings("ignore:This client only works with:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*base_image.*:FutureWarning"),
]


@dsl.component(base_image="python:3.11")
def add(a: int, b: int) -> int:
    return a + b


@dsl.component(base_image="python:3.11")
def until(path: str) -> str:
    """Fails as long as there is no such file."""
    import os

    if not os.path.exists(path):
        raise FileNotFoundError(path)
    return path


@dsl.component(base_image="python:3.11")
def sleep(seconds: float) -> str:
    import time

    time.sleep(seconds)
    return "slept"


@dsl.component(base_image="python:3.11")
def write(text: str, data: dsl.Output[dsl.Dataset]) -> None:
    with open(data.path, "w") as stream:
        stream.write(text)
    data.metadata["length"] = len(text)


@dsl.component(base_image="python:3.11")
def count(data: dsl.Input[dsl.Dataset]) -> int:
    with open(data.path) as stream:
        return len(stream.read())


@dsl.pipeline(name="adding")
def adding(a: int = 1, b: int = 2) -> int:
    first = add(a=a, b=b)
    return add(a=first.output, b=10).output


@dsl.pipeline(name="waiting")
def waiting(path: str) -> None:
    first = add(a=1, b=1)
    until(path=path).after(first).set_caching_options(False)


@dsl.pipeline(name="sleeping")
def sleeping(seconds: float = 30.0) -> None:
    sleep(seconds=seconds).set_caching_options(False)


@dsl.pipeline(name="writing")
def writing(text: str = "hello") -> None:
    count(data=write(text=text).output)


def wait(client: kfp.Client, run_id: str, *, state: str | None = None) -> V2beta1Run:
    """The run when it has ended, or has come into a state."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        run = client.get_run(run_id)
        if run.state == state or (state is None and run.state in ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")):
            return run
        time.sleep(0.1)
    raise AssertionError(f"the run is {run.state}")


def refused(ask: Callable[[], object], status: int) -> str:
    """The message of a call that is answered with this status, in the form that KFP's clients read."""
    with pytest.raises(ApiException) as caught:
        ask()
    body = json.loads(caught.value.body)
    assert caught.value.status == status
    assert body["error"] == body["message"]
    assert isinstance(body["code"], int)
    assert body["details"] == []
    return str(body["message"])


def test_a_token_is_taken_and_no_namespace_has_to_be_named(address: str, client: kfp.Client) -> None:
    assert client.get_kfp_healthz().multi_user is False
    assert client.get_user_namespace() == ""
    with_token = kfp.Client(host=f"{address}/", existing_token="anything")
    assert with_token.list_pipelines().total_size == client.list_pipelines().total_size


def test_a_function_runs_and_its_tasks_are_shown(client: kfp.Client, name: str) -> None:
    started = client.create_run_from_pipeline_func(adding, arguments={"a": 5}, experiment_name=name, run_name=name)
    run = client.wait_for_run_completion(started.run_id, timeout=60, sleep_duration=0.1)
    assert (run.state, run.display_name, run.storage_state) == ("SUCCEEDED", name, "AVAILABLE")
    assert run.runtime_config.parameters == {"a": 5}
    assert run.pipeline_spec["pipelineInfo"] == {"name": "adding"}
    assert [each.state for each in run.state_history] == ["PENDING", "RUNNING", "SUCCEEDED"]
    assert run.created_at <= run.finished_at
    tasks = {task.display_name: task for task in run.run_details.task_details}
    assert {shown: task.state for shown, task in tasks.items()} == {"add": "SUCCEEDED", "add-2": "SUCCEEDED"}
    assert tasks["add"].end_time <= tasks["add-2"].start_time
    assert client.get_experiment(experiment_name=name).last_run_created_at == run.created_at


def test_a_package_runs_in_each_of_its_forms(client: kfp.Client, name: str, tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    compiler.Compiler().compile(adding, str(path))
    run = client.create_run_from_pipeline_package(str(path), arguments={"b": 3}, experiment_name=name)
    assert wait(client, run.run_id).state == "SUCCEEDED"


def test_artifacts_and_tasks_are_shown_in_their_coming_form(client: kfp.Client, address: str, name: str) -> None:
    run = client.create_run_from_pipeline_func(writing, experiment_name=name, enable_caching=False)
    ended = wait(client, run.run_id)
    assert ended.state == "SUCCEEDED"
    by_name = {task.display_name: task for task in ended.run_details.task_details}
    (made,) = by_name["write"].outputs["data"].artifact_ids
    assert by_name["count"].inputs["data"].artifact_ids == [made]
    api = httpx.Client(base_url=f"{address}/apis/v2beta1")
    artifact = api.get(f"/artifacts/{made}").json()
    assert (artifact["type"], artifact["namespace"], artifact["metadata"]["length"]) == ("Dataset", "default", 5)
    assert artifact in api.get("/artifacts", params={"page_size": 1000}).json()["artifacts"]
    tasks = {task["name"]: task for task in api.get(f"/runs/{run.run_id}/tasks").json()["tasks"]}
    assert tasks["write"]["inputs"]["parameters"] == [
        {"parameter_key": "text", "value": "hello", "type": "COMPONENT_INPUT"}
    ]
    assert tasks["count"]["outputs"]["parameters"][0]["value"] == 5
    one = tasks["write"]["task_id"]
    assert api.get(f"/runs/{run.run_id}/tasks/{one}").json() == tasks["write"]
    arrows = api.get("/artifact_tasks", params={"run_ids": run.run_id}).json()
    assert {(arrow["task_id"], arrow["type"], arrow["artifact_id"]) for arrow in arrows["artifact_tasks"]} == {
        (one, "OUTPUT", made),
        (tasks["count"]["task_id"], "COMPONENT_INPUT", made),
    }
    outputs = api.get("/artifact_tasks", params={"artifact_ids": made, "type": "OUTPUT"}).json()
    assert [arrow["producer"] for arrow in outputs["artifact_tasks"]] == [{"task_name": "write"}]


def test_pipelines_and_versions_are_uploaded_listed_run_and_deleted(client: kfp.Client, name: str) -> None:
    pipeline = client.upload_pipeline_from_pipeline_func(adding, pipeline_name=name, description="adds")
    assert (pipeline.name, pipeline.display_name, pipeline.description) == (name, name, "adds")
    assert client.get_pipeline_id(name) == pipeline.pipeline_id
    (first,) = client.list_pipeline_versions(pipeline.pipeline_id).pipeline_versions
    assert first.display_name == name
    second = client.upload_pipeline_version_from_pipeline_func(writing, "second", pipeline_name=name)
    shown = client.get_pipeline_version(pipeline.pipeline_id, second.pipeline_version_id)
    assert shown.pipeline_spec["pipelineInfo"] == {"name": "writing"}
    newest = client.list_pipeline_versions(pipeline.pipeline_id, sort_by="created_at desc", page_size=1)
    assert [version.display_name for version in newest.pipeline_versions] == ["second"]
    assert newest.total_size == 2

    experiment = client.create_experiment(name)
    run = client.run_pipeline(
        experiment.experiment_id, name, pipeline_id=pipeline.pipeline_id, version_id=first.pipeline_version_id
    )
    assert run.pipeline_version_reference.pipeline_version_id == first.pipeline_version_id
    assert wait(client, run.run_id).state == "SUCCEEDED"

    assert "cascade" in refused(lambda: client.delete_pipeline(pipeline.pipeline_id), 400)
    assert "already" in refused(lambda: client.upload_pipeline_from_pipeline_func(adding, pipeline_name=name), 409)
    for version in (first, second):
        client.delete_pipeline_version(pipeline.pipeline_id, version.pipeline_version_id)
    client.delete_pipeline(pipeline.pipeline_id)
    assert client.get_pipeline_id(name) is None
    assert client.get_run(run.run_id).state == "SUCCEEDED"  # it keeps its copy


def test_an_experiment_is_made_archived_brought_back_and_deleted(client: kfp.Client, name: str) -> None:
    experiment = client.create_experiment(name, description="of a test")
    assert client.create_experiment(name).experiment_id == experiment.experiment_id
    assert client.get_experiment(experiment_name=name).description == "of a test"
    run = client.create_run_from_pipeline_func(adding, experiment_name=name)
    assert wait(client, run.run_id).state == "SUCCEEDED"
    client.archive_experiment(experiment.experiment_id)
    assert client.get_experiment(experiment.experiment_id).storage_state == "ARCHIVED"
    assert client.get_run(run.run_id).storage_state == "ARCHIVED"
    assert "archived" in refused(lambda: client.create_run_from_pipeline_func(adding, experiment_name=name), 409)
    client.unarchive_experiment(experiment.experiment_id)
    client.unarchive_run(run.run_id)
    assert client.get_run(run.run_id).storage_state == "AVAILABLE"
    client.delete_experiment(experiment.experiment_id)
    refused(lambda: client.get_experiment(experiment.experiment_id), 404)
    assert client.get_run(run.run_id).state == "SUCCEEDED"


def test_runs_are_listed_by_filter_order_and_page(client: kfp.Client, name: str) -> None:
    experiment = client.create_experiment(name)
    assert client.list_runs(experiment_id=experiment.experiment_id).runs is None  # an empty list is left out
    started = [
        client.create_run_from_pipeline_func(adding, experiment_name=name, run_name=f"{name}-{letter}").run_id
        for letter in "abcde"
    ]
    for run_id in started:
        wait(client, run_id)

    def listed(**asked: object) -> list[str]:
        answer = client.list_runs(experiment_id=experiment.experiment_id, **asked)
        return [run.display_name.removeprefix(f"{name}-") for run in answer.runs or []]

    def predicate(key: str, operation: object, **value: object) -> str:
        return json.dumps({"predicates": [{"key": key, "operation": operation, **value}]})

    assert listed() == list("abcde")
    assert listed(sort_by="display_name desc") == list("edcba")
    assert listed(filter=predicate("display_name", "EQUALS", stringValue=f"{name}-b")) == ["b"]
    assert listed(filter=predicate("display_name", 1, string_value=f"{name}-b")) == ["b"]
    assert listed(filter=predicate("display_name", "IS_SUBSTRING", stringValue="-C")) == ["c"]
    assert listed(filter=predicate("run_id", 8, stringValues={"values": started[3:]})) == ["d", "e"]
    assert listed(filter=predicate("state", "NOT_EQUALS", stringValue="SUCCEEDED")) == []
    after = client.get_run(started[1]).created_at.isoformat()
    assert listed(filter=predicate("created_at", "GREATER_THAN", timestampValue=after)) == ["c", "d", "e"]

    pages, token = [], ""
    while True:
        answer = client.list_runs(
            experiment_id=experiment.experiment_id, page_size=2, sort_by="created_at desc", page_token=token
        )
        assert answer.total_size == 5
        pages.append([run.display_name[-1] for run in answer.runs])
        token = answer.next_page_token
        if not token:
            break
    assert pages == [["e", "d"], ["c", "b"], ["a"]]
    assert "Did you mean 'state'" in refused(lambda: listed(sort_by="stat"), 400)


def test_a_run_is_terminated(client: kfp.Client, name: str) -> None:
    run = client.create_run_from_pipeline_func(sleeping, experiment_name=name)
    wait(client, run.run_id, state="RUNNING")
    client.terminate_run(run.run_id)
    assert client.get_run(run.run_id).state == "CANCELED"
    assert "ended already" in refused(lambda: client.terminate_run(run.run_id), 400)


def test_a_failed_run_is_tried_again_from_its_failed_step(client: kfp.Client, name: str, tmp_path: Path) -> None:
    path = tmp_path / "there"
    run = client.create_run_from_pipeline_func(waiting, arguments={"path": str(path)}, experiment_name=name)
    failed = wait(client, run.run_id)
    assert failed.state == "FAILED"
    assert failed.error.message
    before = {task.display_name: task for task in failed.run_details.task_details}
    assert (before["add"].state, before["until"].state) == ("SUCCEEDED", "FAILED")
    path.touch()
    client.runs.run_service_retry_run(run_id=run.run_id)
    again = wait(client, run.run_id)
    after = {task.display_name: task for task in again.run_details.task_details}
    assert again.state == "SUCCEEDED"
    assert after["add"].end_time == before["add"].end_time  # what was done is not done again
    assert "succeeded" in refused(lambda: client.runs.run_service_retry_run(run_id=run.run_id), 400)


def test_a_run_is_archived_and_deleted(client: kfp.Client, name: str) -> None:
    run = client.create_run_from_pipeline_func(sleeping, experiment_name=name)
    client.archive_run(run.run_id)
    assert client.get_run(run.run_id).storage_state == "ARCHIVED"
    client.delete_run(run.run_id)
    assert "there is no run" in refused(lambda: client.get_run(run.run_id), 404)
    experiment_id = client.get_experiment(experiment_name=name).experiment_id
    assert client.list_runs(experiment_id=experiment_id).runs is None


def test_a_recurring_run_takes_each_slot_once(client: kfp.Client, name: str) -> None:
    experiment = client.create_experiment(name)
    pipeline = client.upload_pipeline_from_pipeline_func(writing, pipeline_name=name)
    version = client.list_pipeline_versions(pipeline.pipeline_id).pipeline_versions[0]
    recurring = client.create_recurring_run(
        experiment.experiment_id,
        name,
        cron_expression="* * * * * *",
        pipeline_id=pipeline.pipeline_id,
        version_id=version.pipeline_version_id,
        params={"text": "[[ScheduledTime]]"},
        max_concurrency=10,
    )
    assert (recurring.status, recurring.mode, recurring.max_concurrency) == ("ENABLED", "ENABLE", "10")
    time.sleep(4)
    client.disable_recurring_run(recurring.recurring_run_id)
    found = client.list_runs(experiment_id=experiment.experiment_id, page_size=100).runs
    slots = [run.scheduled_at for run in found]
    assert len(slots) >= 2
    assert {(later - earlier).total_seconds() for earlier, later in itertools.pairwise(slots)} == {1.0}
    assert all(run.recurring_run_id == recurring.recurring_run_id for run in found)
    assert [run.runtime_config.parameters["text"] for run in found] == [slot.strftime("%Y%m%d%H%M%S") for slot in slots]
    time.sleep(1.5)
    assert client.list_runs(experiment_id=experiment.experiment_id).total_size == len(found)
    (shown,) = client.list_recurring_runs(experiment_id=experiment.experiment_id).recurring_runs
    assert (shown.status, shown.trigger.cron_schedule.cron) == ("DISABLED", "* * * * * *")
    client.enable_recurring_run(recurring.recurring_run_id)
    assert client.get_recurring_run(recurring.recurring_run_id).status == "ENABLED"
    client.delete_recurring_run(recurring.recurring_run_id)
    assert client.list_recurring_runs(experiment_id=experiment.experiment_id).recurring_runs is None


def test_intervals_have_bounds_and_concurrency(client: kfp.Client, name: str, tmp_path: Path) -> None:
    experiment = client.create_experiment(name)
    path = tmp_path / "pipeline.yaml"
    compiler.Compiler().compile(sleeping, str(path))

    def recur(**given: object) -> V2beta1RecurringRun:
        return client.create_recurring_run(
            experiment.experiment_id, name, pipeline_package_path=str(path), params={"seconds": 20.0}, **given
        )

    recurring = recur(interval_second=1, max_concurrency=2, start_time="2026-01-01T00:00:00Z", no_catchup=True)
    assert recurring.trigger.periodic_schedule.interval_second == "1"
    assert recurring.no_catchup is True
    time.sleep(4)
    assert client.list_runs(experiment_id=experiment.experiment_id).total_size == 2
    client.delete_recurring_run(recurring.recurring_run_id)
    for run in client.list_runs(experiment_id=experiment.experiment_id).runs:
        client.terminate_run(run.run_id)
    bounds = {"start_time": "2026-01-02T00:00:00Z", "end_time": "2026-01-01T00:00:00Z"}
    assert "before the start" in refused(lambda: recur(interval_second=1, **bounds), 400)
    assert "cron" in refused(lambda: recur(cron_expression="61 * * * * *"), 400)
    assert "1 to 10" in refused(lambda: recur(interval_second=1, max_concurrency=11), 400)


def test_namespaces_are_kept_apart(client: kfp.Client, name: str) -> None:
    here, there = f"{name}-here", f"{name}-there"
    first = client.create_experiment(name, namespace=here)
    second = client.create_experiment(name, namespace=there)
    assert first.experiment_id != second.experiment_id
    assert (first.namespace, second.namespace) == (here, there)
    assert [each.namespace for each in client.list_experiments(namespace=here).experiments] == [here]
    run = client.create_run_from_pipeline_func(adding, experiment_name=name, namespace=here)
    assert [each.run_id for each in client.list_runs(namespace=here).runs] == [run.run_id]
    assert client.list_runs(namespace=there).runs is None
    client.set_user_namespace(here)
    assert client.get_experiment(experiment_name=name).experiment_id == first.experiment_id
    wait(client, run.run_id)


def test_what_is_not_there_or_not_right_is_said(client: kfp.Client, name: str) -> None:
    assert "there is no run" in refused(lambda: client.get_run("none"), 404)
    assert "there is no pipeline" in refused(lambda: client.get_pipeline("none"), 404)
    assert "there is no recurring run" in refused(lambda: client.delete_recurring_run("none"), 404)
    message = refused(lambda: client.create_run_from_pipeline_func(adding, {"c": 1}, experiment_name=name), 400)
    assert "the pipeline has no parameter 'c'" in message


def test_the_links_that_the_client_prints_lead_to_pages(
    client: kfp.Client, address: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    client.create_run_from_pipeline_func(adding, experiment_name=name)
    printed = capsys.readouterr().out
    links = re.findall(r"(http://\S+)", printed)
    assert [link.removeprefix(address).rpartition("/")[0] for link in links] == [
        "/#/experiments/details",
        "/#/runs/details",
    ]
    assert "<script" in httpx.get(links[0].partition("#")[0]).text
