"""Who answers how much, what stands beside a predictor, and the kinds that rest on services: graphs and trained models."""

from __future__ import annotations

from pathlib import Path

import pytest
from service_worlds import GRAPH, TRAINED, ServiceWorld, model

from goldenloop.core.clock import MINUTE
from goldenloop.core.errors import UnavailableError
from goldenloop.core.json import JsonObject

A, B, C = "s3://models/a", "s3://models/b", "s3://models/c"


@pytest.fixture
def world(tmp_path: Path) -> ServiceWorld:
    return ServiceWorld(tmp_path)


# traffic


def test_a_canary_takes_its_part_is_promoted_and_pinned_back(world: ServiceWorld) -> None:
    world.apply("iris", model(A))
    world.run()
    world.apply("iris", model(B, canaryTrafficPercent=10))
    world.run()
    assert world.parts("iris") == {"1": 90, "2": 10}
    traffic = world.status("iris")["components"]["predictor"]["traffic"]
    assert [(each["revisionName"], each["latestRevision"], each["percent"]) for each in traffic] == [
        ("iris-predictor-00002", True, 10),
        ("iris-predictor-00001", False, 90),
    ]
    assert traffic[1]["tag"] == "prev"
    assert traffic[1]["url"] == "http://127.0.0.1:8000/serving/default/iris/v2/models/iris/versions/1"
    world.apply("iris", model(B))
    world.run()
    assert world.parts("iris") == {"2": 100}
    world.apply("iris", model(B, canaryTrafficPercent=0))
    world.run()
    assert world.parts("iris") == {"1": 100}, "a part of 0 for what is rolled out takes it back"
    world.apply("iris", model(B))
    world.run()
    assert world.parts("iris") == {"2": 100}
    assert len(world.jobs.asked) == 2


def test_a_canary_in_the_first_file_has_nothing_to_share_with(world: ServiceWorld) -> None:
    world.apply("iris", model(A, canaryTrafficPercent=10))
    world.run()
    assert world.parts("iris") == {"1": 100}


def test_a_canary_beside_a_failing_newer_model_keeps_its_part(world: ServiceWorld) -> None:
    world.apply("iris", model(A))
    world.run()
    world.apply("iris", model(B, canaryTrafficPercent=30))
    world.run()
    world.jobs.failing[C] = UnavailableError("away")
    world.apply("iris", model(C, canaryTrafficPercent=30))
    world.run()
    assert world.parts("iris") == {"1": 70, "2": 30}


def test_several_canaries_stand_beside_the_stable_predictor(world: ServiceWorld) -> None:
    def canary(name: str, uri: str, percent: int) -> JsonObject:
        predictor: JsonObject = {"name": name, "sklearn": {"storageUri": uri}}
        return {"predictor": predictor, "trafficPercent": percent}

    world.jobs.failing[C] = UnavailableError("away")
    world.apply("iris", {**model(A), "canary": [canary("tuned", B, 15), canary("wild", C, 5)]})
    world.run()
    assert world.parts("iris") == {"1": 85, "canary-tuned-1": 15}
    assert world.is_ready("iris") == "True", "the stable predictor answers"
    statuses = world.status("iris")["canaryStatuses"]
    assert [(each["name"], each["ready"], each["trafficPercent"]) for each in statuses] == [
        ("tuned", True, 15),
        ("wild", False, 0),
    ]
    world.apply("iris", model(A))
    world.run()
    assert world.parts("iris") == {"1": 100}
    assert "canaryStatuses" not in world.status("iris")


# transformers, explainers, code


def code(uri: str, name: str = "own") -> JsonObject:
    """A component that is a class of the user's own."""
    return {"containers": [{"name": name, "image": "team/own:1", "env": [{"name": "STORAGE_URI", "value": uri}]}]}


def test_a_transformer_and_its_predictor_change_together(world: ServiceWorld) -> None:
    world.apply("iris", {**model(A), "transformer": code("s3://code/1")})
    world.run()
    first = world.entry("iris")
    assert first.transformer is not None
    assert first.transformer.version == "transformer-1"
    assert world.is_ready("iris") == "True"
    world.jobs.stuck.add("s3://code/2")
    world.apply("iris", {**model(B), "transformer": code("s3://code/2")})
    for _ in range(10):
        world.look()
    entry = world.entry("iris")
    assert (entry.champion, entry.transformer) == ("1", first.transformer), "half of the change answers nobody"
    world.jobs.stuck.clear()
    world.run()
    entry = world.entry("iris")
    assert entry.champion == "2"
    assert entry.transformer is not None
    assert entry.transformer.version == "transformer-2"
    pairs = {
        (t.services[0].champion, t.services[0].transformer.version)
        for t in world.workers.published
        if t.services and t.services[0].transformer
    }
    assert pairs == {("1", "transformer-1"), ("2", "transformer-2")}
    world.apply("iris", model(B))
    world.run()
    assert world.entry("iris").transformer is None


def test_images_are_named_and_nothing_answers_in_their_place(world: ServiceWorld) -> None:
    world.apply("simple", {"predictor": {"containers": [{"name": "kserve-container", "image": "team/own:1"}]}})
    world.apply("iris", {**model(A), "transformer": {"containers": [{"name": "own", "image": "team/own:1"}]}})
    world.run()
    assert world.names == []
    for name, component in (("simple", "PredictorReady"), ("iris", "TransformerReady")):
        failed = world.condition(name, component)
        assert failed["status"] == "False"
        assert "images are not run" in failed["message"]
        assert ".image" in world.condition(name, "NotActedOn")["message"]
    world.clock.advance(30 * MINUTE)
    world.run()
    assert [request.sources[0].uri for request in world.jobs.asked] == [A]


def test_an_explainer_stands_beside(world: ServiceWorld) -> None:
    world.apply("iris", {**model(A), "explainer": {"storageUris": [{"uri": "s3://code/x"}]}})
    world.run()
    explainer = world.entry("iris").explainer
    assert explainer is not None
    assert explainer.version == "explainer-1"
    assert world.condition("iris", "ExplainerReady")["status"] == "True"


def test_a_model_that_is_no_code_is_given_no_features(world: ServiceWorld) -> None:
    world.apply("iris", model(A), annotations={"goldenloop.dev/features": "/data/rows.parquet#customer"})
    world.run()
    assert world.is_ready("iris") == "True"
    assert world.entry("iris").versions[0].environment == {}


# what is said about what is not acted on


def test_what_nothing_acts_on_is_named_and_does_not_look_like_a_fault(world: ServiceWorld) -> None:
    spec = model(A, nodeSelector={"disk": "ssd"}, scaleTarget=3)
    world.apply("iris", spec, annotations={"serving.kserve.io/autoscalerClass": "hpa", "team": "risk"})
    world.run()
    told = world.condition("iris", "NotActedOn")
    assert (told["status"], told["severity"]) == ("True", "Info")
    for path in ("predictor.nodeSelector", "predictor.scaleTarget", "metadata.annotations[serving.kserve.io/autoscalerClass]"):  # fmt: skip
        assert path in told["message"]
    assert "team" not in told["message"]
    assert world.is_ready("iris") == "True"
    world.apply("iris", model(A))
    world.run()
    assert world.condition("iris", "NotActedOn") == {}


# trained models


def trained(parent: str, uri: str) -> JsonObject:
    return {"inferenceService": parent, "model": {"storageUri": uri, "framework": "sklearn", "memory": "256Mi"}}


def test_trained_models_answer_in_an_inference_service_without_a_model(world: ServiceWorld) -> None:
    world.apply("one", trained("shell", A), kind=TRAINED)
    world.run()
    assert world.names == []
    assert "no InferenceService 'shell'" in world.condition("one", "InferenceServiceReady", of=TRAINED)["message"]
    world.apply("shell", {"predictor": {"sklearn": {"protocolVersion": "v1"}}})
    world.run()
    assert world.is_ready("shell") == "True"
    assert world.names == ["one"]
    assert world.entry("one").memory_bytes == 256 * 2**20
    assert world.is_ready("one", kind=TRAINED) == "True"
    status = world.status("one", kind=TRAINED)
    assert status["url"] == "http://shell.default.example.com/v1/models/one:predict"
    world.delete("shell")
    world.run()
    assert world.names == []
    assert world.is_ready("one", kind=TRAINED) == "False"


def test_a_trained_model_does_not_take_the_name_of_a_service(world: ServiceWorld) -> None:
    world.apply("iris", model(A))
    world.apply("iris", trained("iris", B), kind=TRAINED)
    world.run()
    assert world.names == ["iris"]
    assert world.is_ready("iris") == "True"
    assert world.condition("iris", "Ready", of=TRAINED)["reason"] == "Conflict"


# graphs


def test_a_graph_is_ready_when_its_services_are(world: ServiceWorld) -> None:
    steps: JsonObject = {
        "routerType": "Sequence",
        "steps": [{"serviceName": "iris"}, {"serviceName": "wine", "data": "$response"}],
    }
    world.apply("chain", {"nodes": {"root": steps}, "timeout": 3}, kind=GRAPH)
    world.apply("iris", model(A))
    world.run()
    graph = world.graph("chain")
    assert [step.service for step in graph.nodes["root"].steps] == ["iris", "wine"]
    assert (graph.hosts[0], graph.timeout_seconds) == ("chain.default.example.com", 3)
    assert "no InferenceService 'wine'" in world.condition("chain", "Ready", of=GRAPH)["message"]
    world.apply("wine", model(B))
    world.run()
    assert world.is_ready("chain", kind=GRAPH) == "True"
    world.delete("chain", kind=GRAPH)
    world.run()
    assert world.workers.table.graphs == ()
