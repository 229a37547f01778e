"""Services that people write: from their files to the routing table and to the status that KServe's clients read."""

from __future__ import annotations

from pathlib import Path

import pytest
from service_worlds import ISVC, NAMESPACE, ServiceWorld, model

from goldenloop.core.clock import SECOND
from goldenloop.core.errors import GoldenloopError, RefusedError, UnavailableError
from goldenloop.core.json import JsonObject
from goldenloop.store import memories, resources

A, B, C = "s3://models/a", "s3://models/b", "s3://models/c"


@pytest.fixture
def world(tmp_path: Path) -> ServiceWorld:
    return ServiceWorld(tmp_path)


# the way of a model


def test_a_model_is_examined_published_and_ready_once_every_worker_has_it(world: ServiceWorld) -> None:
    world.workers.take_tables = False
    world.apply("iris", model(A))
    world.look()
    assert world.status("iris")["modelStatus"]["states"] == {
        "activeModelState": "Pending",
        "targetModelState": "Pending",
    }
    world.run()
    assert world.entry("iris").champion == "1"
    assert world.is_ready("iris") == "Unknown", "no worker has said that it has loaded it"
    assert world.status("iris")["modelStatus"]["states"]["targetModelState"] == "Loading"
    world.workers.take_tables = True
    world.run()
    status = world.status("iris")
    assert world.is_ready("iris") == "True"
    assert status["url"] == "http://iris.default.example.com"
    assert status["address"] == {"url": "http://127.0.0.1:8000/serving/default/iris"}
    assert status["observedGeneration"] == 1
    assert status["components"]["predictor"]["latestReadyRevision"] == "iris-predictor-00001"
    assert status["components"]["predictor"]["traffic"] == [
        {"revisionName": "iris-predictor-00001", "latestRevision": True, "percent": 100}
    ]
    assert status["modelStatus"] == {
        "transitionStatus": "UpToDate",
        "states": {"activeModelState": "Loaded", "targetModelState": "Loaded"},
        "copies": {"failedCopies": 0, "totalCopies": 2},
    }
    assert {each["type"]: each["status"] for each in status["conditions"]} == {
        "PredictorReady": "True",
        "IngressReady": "True",
        "Ready": "True",
        "Stopped": "False",
    }


def test_without_workers_nothing_is_ready(world: ServiceWorld) -> None:
    world.workers.are_there = False
    world.apply("iris", model(A))
    world.run()
    assert world.is_ready("iris") == "Unknown"


def test_a_new_model_takes_over_only_once_it_is_loaded(world: ServiceWorld) -> None:
    world.apply("iris", model(A))
    world.run()
    world.workers.take_tables = False
    world.apply("iris", model(B))
    world.run()
    entry = world.entry("iris")
    assert entry.champion == "1"
    assert {route.version: route.percent for route in entry.routes} == {"2": 0}, "it is loaded, and answers nobody yet"
    assert world.is_ready("iris") == "Unknown"
    world.workers.take_tables = True
    world.run()
    assert world.parts("iris") == {"2": 100}
    assert "1" in {served.version for served in world.entry("iris").versions}, "the way back stays loaded"
    predictor = world.status("iris")["components"]["predictor"]
    assert predictor["latestRolledoutRevision"] == "iris-predictor-00002"
    assert predictor["previousRolledoutRevision"] == "iris-predictor-00001"


@pytest.mark.parametrize(
    ("error", "reason", "transition"),
    [
        (UnavailableError("no such bucket"), "ModelLoadFailed", "BlockedByFailedLoad"),
        (RefusedError("a pickle is code"), "NoSupportingRuntime", "BlockedByFailedLoad"),
    ],
)
def test_a_failure_is_told_and_the_last_ready_revision_goes_on(
    world: ServiceWorld, error: GoldenloopError, reason: str, transition: str
) -> None:
    world.apply("iris", model(A))
    world.run()
    world.jobs.failing[B] = error
    world.apply("iris", model(B))
    world.run()
    assert world.parts("iris") == {"1": 100}
    ready = world.condition("iris", "Ready")
    assert (ready["status"], ready["reason"]) == ("False", reason)
    assert error.what in ready["message"]
    assert "the one before goes on" in ready["message"]
    told = world.status("iris")["modelStatus"]
    assert told["transitionStatus"] == transition
    assert told["lastFailureInfo"]["modelRevisionName"] == "iris-predictor-00002"
    assert told["states"] == {"activeModelState": "Loaded", "targetModelState": "FailedToLoad"}


def test_a_failure_is_tried_again_after_a_while_that_doubles(world: ServiceWorld) -> None:
    world.jobs.failing[A] = UnavailableError("the storage is away")
    world.apply("iris", model(A))
    world.run()
    assert len(world.jobs.asked) == 1
    world.clock.advance(10 * SECOND)
    world.run()
    assert len(world.jobs.asked) == 2
    world.clock.advance(10 * SECOND)
    world.run()
    assert len(world.jobs.asked) == 2, "the second time it waits for longer"
    del world.jobs.failing[A]
    world.clock.advance(10 * SECOND)
    world.run()
    assert world.is_ready("iris") == "True"


def test_what_no_worker_can_load_never_takes_over(world: ServiceWorld) -> None:
    world.apply("iris", model(A))
    world.run()
    world.workers.broken[B] = "the graph is broken"
    world.apply("iris", model(B))
    world.run()
    assert all(table.services[0].champion == "1" for table in world.workers.published)
    assert world.parts("iris") == {"1": 100}
    assert [served.version for served in world.entry("iris").versions] == ["1"]
    assert "the graph is broken" in world.condition("iris", "PredictorReady")["message"]
    del world.workers.broken[B]
    world.clock.advance(10 * SECOND)
    world.run()
    assert world.parts("iris") == {"2": 100}
    assert len(world.jobs.asked) == 2, "what was made is not made again"


def test_the_model_before_comes_back_without_being_fetched(world: ServiceWorld) -> None:
    for uri in (A, B, A):
        world.apply("iris", model(uri))
        world.run()
    assert len(world.jobs.asked) == 2
    assert world.parts("iris") == {"3": 100}
    assert world.entry("iris").versions[0].digest != world.entry("iris").versions[1].digest


def test_how_a_model_is_served_makes_no_new_revision(world: ServiceWorld) -> None:
    world.apply("iris", model(A))
    world.run()
    batcher: JsonObject = {"maxBatchSize": 8, "maxLatency": 20}
    logger: JsonObject = {"url": "http://sink", "mode": "request"}
    world.apply(
        "iris",
        model(A, minReplicas=0, maxReplicas=3, timeout=7, containerConcurrency=5, batcher=batcher, logger=logger),
        annotations={"goldenloop.dev/payload-log": "off"},
    )
    world.run()
    entry = world.entry("iris")
    assert (entry.champion, entry.min_replicas, entry.max_replicas, entry.concurrency) == ("1", 0, 3, 5)
    assert entry.timeout_seconds == 7
    assert entry.batcher is not None
    assert (entry.batcher.max_batch_size, entry.batcher.max_latency_ms) == (8, 20)
    assert entry.logger is not None
    assert (entry.logger.url, entry.logger.mode) == ("http://sink", "request")
    assert not entry.log_payloads
    assert len(world.jobs.asked) == 1


def test_limits_are_those_of_the_models_container(world: ServiceWorld) -> None:
    spec = model(A)
    predictor = spec["predictor"]
    assert isinstance(predictor, dict)
    assert isinstance(predictor["model"], dict)
    predictor["model"]["resources"] = {"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": 1}}
    world.apply("iris", spec)
    world.run()
    assert (world.entry("iris").cpu, world.entry("iris").memory_bytes) == (0.5, 2**30)


def test_few_examinations_run_at_once(world: ServiceWorld) -> None:
    for number in range(7):
        world.apply(f"iris-{number}", model(f"s3://models/{number}"))
    world.run(100)
    assert len(world.names) == 7
    assert world.jobs.most_at_once == 2


def test_an_examination_that_nobody_waits_for_makes_room(world: ServiceWorld) -> None:
    world.jobs.stuck |= {A, B}
    world.apply("one", model(A))
    world.apply("two", model(B))
    world.apply("zoo", model(C))
    for _ in range(5):
        world.look()
    assert world.names == []
    world.delete("one")
    world.apply("two", model(C))
    world.run()
    assert sorted(world.names) == ["two", "zoo"]
    assert world.jobs.running == {}


def test_nothing_is_asked_of_the_store_when_nothing_changes(
    world: ServiceWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.apply("iris", model(A))
    world.run()
    monkeypatch.setattr(resources, "listing", lambda *_: pytest.fail("all resources are read"))
    monkeypatch.setattr(memories, "recall_all", lambda *_: pytest.fail("all memories are read"))
    assert not world.look()
    assert world.names == ["iris"]


# restarts


def test_a_restart_at_any_moment_ends_alike(world: ServiceWorld) -> None:
    world.apply("iris", model(A))
    for _ in range(12):
        world.restart()
        world.look()
    world.run()
    assert world.parts("iris") == {"1": 100}
    world.apply("iris", model(B, canaryTrafficPercent=20))
    for _ in range(12):
        world.restart()
        world.look()
    assert world.parts("iris") == {"1": 80, "2": 20}
    assert world.is_ready("iris") == "True"


def test_a_restart_takes_nothing_from_the_table(world: ServiceWorld) -> None:
    world.apply("iris", model(A))
    world.run()
    published = len(world.workers.published)
    world.restart()
    world.workers.are_there = False
    world.run()
    assert len(world.workers.published) == published


def test_a_broken_service_leaves_the_others_and_itself_as_they_were(world: ServiceWorld) -> None:
    world.apply("iris", model(A))
    world.apply("wine", model(B))
    world.run()
    with world.world.database.write() as transaction:  # as a version to come may have written it
        document = resources.get(transaction, ISVC, NAMESPACE, "iris")
        resources.replace(transaction, ISVC, NAMESPACE, "iris", {**document, "spec": {"predictor": {"model": 3}}})
    world.apply("wine", model(C))
    world.run()
    assert world.parts("iris") == {"1": 100}
    assert world.parts("wine") == {"2": 100}


# going and coming


def test_a_deleted_service_goes_and_its_name_begins_anew(world: ServiceWorld) -> None:
    world.apply("iris", model(A))
    world.run()
    world.delete("iris")
    world.run()
    assert world.names == []
    with world.world.database.read() as transaction:
        for name in ("inference-service", "repository"):
            assert memories.recall_all(transaction, name, dict) == {}  # type: ignore[type-var]
    world.apply("iris", model(B))
    world.run()
    assert world.parts("iris") == {"1": 100}


def test_a_service_deleted_and_made_again_between_two_looks_begins_anew(world: ServiceWorld) -> None:
    world.apply("iris", model(A))
    world.run()
    world.delete("iris")
    world.apply("iris", model(B))
    world.run()
    assert world.parts("iris") == {"1": 100}
    assert len(world.jobs.asked) == 2
    assert world.is_ready("iris") == "True"


def test_a_stopped_service_is_kept_and_comes_back_at_once(world: ServiceWorld) -> None:
    world.apply("iris", model(A))
    world.run()
    world.apply("iris", model(A), annotations={"serving.kserve.io/stop": "true"})
    world.run()
    assert world.names == []
    assert world.condition("iris", "Stopped")["status"] == "True"
    assert world.is_ready("iris") == "False"
    world.apply("iris", model(A))
    world.run()
    assert world.parts("iris") == {"1": 100}
    assert world.condition("iris", "Stopped")["status"] == "False"
    assert len(world.jobs.asked) == 1


def test_what_a_client_of_the_repository_asked_for_is_remembered(world: ServiceWorld) -> None:
    world.apply("iris", model(A))
    world.run()
    world.workers.wishes["default", "iris"] = False
    world.run()
    assert not world.entry("iris").loaded
    assert world.workers.wishes == {}
    assert world.condition("iris", "Ready")["reason"] == "Unloaded"
    assert world.status("iris")["modelStatus"]["states"]["activeModelState"] == "Standby"
    world.restart()
    world.run()
    assert not world.entry("iris").loaded
    world.workers.wishes["default", "iris"] = True
    world.run()
    assert world.entry("iris").loaded
    assert world.is_ready("iris") == "True"
