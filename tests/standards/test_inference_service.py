"""KServe's files are taken as they are: what is acted on is checked, what is not is named, and where a model comes from is found."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.standards.inference_service.fields import (
    INFERENCE_SERVICE,
    annotations_not_acted_on,
    not_acted_on,
    service_fields_not_acted_on,
)
from goldenloop.standards.inference_service.records import FRAMEWORKS, folder_of, read_inference_service
from goldenloop.standards.inference_service.sources import (
    ModelSource,
    source_of_explainer,
    source_of_predictor,
    source_of_transformer,
)
from goldenloop.standards.inference_service.trained_model import read_trained_model

# With what a cluster's file has besides.
CLUSTER: JsonObject = {
    "predictor": {
        "minReplicas": 2,
        "serviceAccountName": "sa",
        "canaryTrafficPercent": 10,
        "nodeSelector": {"disk": "ssd"},
        "model": {
            "modelFormat": {"name": "onnx"},
            "protocolVersion": "v2",
            "storageUri": "s3://models/loan",
            "runtimeVersion": "1.5",
            "resources": {"limits": {"cpu": "1", "nvidia.com/gpu": 1}, "requests": {"cpu": "1"}},
        },
    },
    "transformer": {"containers": [{"name": "own", "image": "team/own:1", "args": ["--port=1"]}]},
}


def source(spec: dict[str, Any]) -> ModelSource:
    return source_of_predictor(read_inference_service(spec).predictor)


# reading


def test_a_cluster_file_is_read() -> None:
    predictor = read_inference_service(CLUSTER).predictor
    assert (predictor.min_replicas, predictor.canary_traffic_percent) == (2, 10)
    assert predictor.model is not None
    assert predictor.model.model_format is not None
    assert (predictor.model.model_format.name, predictor.model.storage_uri) == ("onnx", "s3://models/loan")


def test_fields_that_are_null_are_not_there() -> None:
    spec = {"predictor": {"sklearn": {"storageUri": "/m", "storage": None, "env": None}, "logger": None, "model": None}}
    assert read_inference_service(spec).predictor.implementations()[0][0] == "sklearn"
    assert not_acted_on(spec) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ({}, "spec"),
        (None, "spec"),
        ({"predictor": {}}, "spec.predictor.model"),
        ({"predictor": {"model": {}}}, "spec.predictor.model"),
        ({"predictor": {"model": {"modelFormat": "onnx"}}}, "spec.predictor.model.modelFormat"),
        ({"predictor": {"minReplicas": "two"}}, "spec.predictor.minReplicas"),
        ({"predictor": {"sklearn": {}, "minReplicas": -1}}, "spec.predictor.minReplicas"),
        ({"predictor": {"sklearn": {}, "minReplicas": 3, "maxReplicas": 2}}, "spec.predictor.minReplicas"),
        ({"predictor": {"sklearn": {}, "canaryTrafficPercent": 101}}, "spec.predictor.canaryTrafficPercent"),
        ({"predictor": {"sklearn": {}, "containerConcurrency": -1}}, "spec.predictor.containerConcurrency"),
        ({"predictor": {"sklearn": {}, "logger": {"mode": "some"}}}, "spec.predictor.logger.mode"),
        ({"predictor": {"sklearn": {}, "batcher": {"maxBatchSize": 0}}}, "spec.predictor.batcher.maxBatchSize"),
        ({"predictor": {"sklearn": {}, "xgboost": {}}}, "spec.predictor"),
        (
            {"predictor": {"sklearn": {"storageUri": "/a"}, "storageUris": [{"uri": "/b"}]}},
            "spec.predictor.sklearn.storageUri",
        ),
        (
            {"predictor": {"sklearn": {}, "storageUris": [{"uri": "/b", "mountPath": "x"}]}},
            "spec.predictor.storageUris[0].mountPath",
        ),
        (
            {"predictor": {"sklearn": {"resources": {"limits": {"memory": "much"}}}}},
            "spec.predictor.sklearn.resources.limits.memory",
        ),
        (
            {"predictor": {"containers": [{"resources": {"limits": {"cpu": "-1"}}}]}},
            "spec.predictor.containers[0].resources.limits.cpu",
        ),
        ({"predictor": {"containers": [{"name": "transformer-container"}]}}, "spec.predictor.model"),
        (
            {"predictor": {"sklearn": {}}, "canary": [{"predictor": {"sklearn": {}}, "trafficPercent": 1}]},
            "spec.canary[0].predictor.name",
        ),
    ],
)
def test_what_is_acted_on_is_checked(spec: object, place: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        read_inference_service(spec)
    assert caught.value.where == place


@pytest.mark.parametrize(("names", "parts"), [(("a", "a"), (1, 1)), (("a", "b"), (60, 41))])
def test_canaries_have_names_of_their_own_and_share_a_hundred(names: tuple[str, str], parts: tuple[int, int]) -> None:
    canaries = [
        {"predictor": {"name": name, "sklearn": {"storageUri": "/m"}}, "trafficPercent": part}
        for name, part in zip(names, parts, strict=True)
    ]
    with pytest.raises(InvalidSpecError):
        read_inference_service({"predictor": {"sklearn": {}}, "canary": canaries})


# what nothing acts on


def test_what_changes_nothing_is_named() -> None:
    assert not_acted_on(CLUSTER) == [
        "predictor.model.resources.limits.nvidia.com/gpu",
        "predictor.model.resources.requests",
        "predictor.model.runtimeVersion",
        "predictor.nodeSelector",
        "transformer.containers[0].args",
        "transformer.containers[0].image",
    ]
    assert not_acted_on({"predictor": {"model": {"modelFormat": {"name": "onnx"}}}}) == []


def test_a_field_that_nobody_knows_is_kept_and_named_with_the_one_that_was_meant() -> None:
    spec: JsonObject = {"predictor": {"sklearn": {"storageUri": "/m"}, "minReplica": 3}, "transformr": {}}
    read_inference_service(spec)
    assert not_acted_on(spec) == [
        "predictor.minReplica (unknown: did you mean 'minReplicas'?)",
        "transformr (unknown: did you mean 'transformer'?)",
    ]


def test_what_is_acted_on_elsewhere_is_named_where_it_is_not() -> None:
    spec: JsonObject = {
        "predictor": {
            "sklearn": {"storageUri": "/m", "protocolVersion": "grpc-v1"},
            "containers": [{"name": "kserve-container", "env": [{"name": "A", "value": "1"}]}],
            "canaryTrafficPercent": 3,
            "logger": {"mode": "all"},
        },
        "canary": [{"predictor": {"name": "b", "sklearn": {"storageUri": "/n"}}, "trafficPercent": 5}],
    }
    assert service_fields_not_acted_on(spec, read_inference_service(spec)) == [
        "predictor.canaryTrafficPercent (there are canaries)",
        "predictor.containers[0]",
        "predictor.logger (it has no url)",
        "predictor.sklearn.protocolVersion",
    ]


def test_annotations_for_model_servers_are_named_and_those_for_others_are_not() -> None:
    given = {"serving.kserve.io/stop": "true", "serving.kserve.io/metrics": "cpu", "sidecar.istio.io/inject": "true"}
    assert annotations_not_acted_on(given) == ["metadata.annotations[serving.kserve.io/metrics]"]


@given(
    st.recursive(
        st.none() | st.text(max_size=3), lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner)
    )
)
def test_any_document_can_be_looked_through(document: object) -> None:
    for name in INFERENCE_SERVICE.acted:
        found = not_acted_on({name: document})  # type: ignore[dict-item]
        assert found == sorted(found)


# sources


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_model_under_the_name_of_its_framework_is_that_model(framework: str) -> None:
    short = source({"predictor": {framework: {"storageUri": "s3://m"}}})
    long = source({"predictor": {"model": {"modelFormat": {"name": framework}, "storageUri": "s3://m"}}})
    assert short.format == long.format == framework
    assert short.uris == long.uris


def test_the_format_may_be_left_to_the_files() -> None:
    assert source({"predictor": {"model": {"storageUri": "/m"}}}).format is None


def test_code_of_the_users_own_says_where_it_is() -> None:
    container = {"name": "kserve-container", "env": [{"name": "STORAGE_URI", "value": "s3://code"}, {"name": "CLASS"}]}
    found = source({"predictor": {"containers": [container]}})
    assert [each.uri for each in found.uris] == ["s3://code"]
    assert found.where == "predictor.containers[0]"
    assert not source({"predictor": {"containers": [{"name": "kserve-container", "image": "own"}]}}).has_files


def test_a_predictor_without_files_takes_trained_models_unless_its_server_fetches_them() -> None:
    assert source({"predictor": {"sklearn": {"protocolVersion": "v1"}}}).is_shell
    assert not source({"predictor": {"sklearn": {"storage": {"key": "minio", "path": "m"}}}}).is_shell
    assert not source({"predictor": {"huggingface": {}}}).is_shell
    assert not source({"predictor": {"containers": [{"image": "own"}]}}).is_shell


def test_several_places_go_into_one_folder() -> None:
    uris = [{"uri": "s3://a"}, {"uri": "s3://b", "mountPath": "/mnt/models/tokens"}]
    found = source({"predictor": {"model": {"modelFormat": {"name": "x"}}, "storageUris": uris}})
    assert [(each.uri, folder_of(each.mount_path)) for each in found.uris] == [("s3://a", ""), ("s3://b", "tokens")]


def test_what_stands_beside_the_predictor_is_found() -> None:
    beside: JsonObject = {"name": "transformer-container", "env": [{"name": "STORAGE_URI", "value": "/code"}]}
    own: JsonObject = {"name": "kserve-container", "env": [{"name": "STORAGE_URI", "value": "/model"}]}
    collocated = read_inference_service({"predictor": {"containers": [own, beside]}})
    assert [each.uri for each in source_of_predictor(collocated.predictor).uris] == ["/model"]
    transformer = source_of_transformer(collocated)
    assert transformer is not None
    assert [each.uri for each in transformer.uris] == ["/code"]
    explained = read_inference_service({"predictor": {"sklearn": {}}, "explainer": {"art": {"type": "x"}}})
    assert source_of_transformer(explained) is None
    explainer = source_of_explainer(explained)
    assert explainer is not None
    assert not explainer.has_files


def test_only_what_decides_the_model_decides_the_fingerprint() -> None:
    def fingerprint(**changes: Any) -> str:
        model = {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://m", **changes.pop("model", {})}
        return source({"predictor": {"model": model, **changes}}).fingerprint

    same = fingerprint()
    assert fingerprint(minReplicas=4, timeout=3, nodeSelector={"a": "b"}, canaryTrafficPercent=4) == same
    assert fingerprint(model={"resources": {"limits": {"cpu": 1}}}) == same
    assert fingerprint(model={"storageUri": "s3://n"}) != same
    assert fingerprint(model={"modelFormat": {"name": "sklearn", "version": "1"}}) != same
    assert fingerprint(model={"env": [{"name": "AWS_REGION", "value": "x"}]}) != same
    assert fingerprint(annotations={"fetched": "again"}) != same


# trained models


def test_a_trained_model_says_how_much_memory_it_takes() -> None:
    document: JsonObject = {
        "inferenceService": "shell",
        "model": {"storageUri": "gs://m", "framework": "sklearn", "memory": "1.5Gi"},
    }
    read = read_trained_model(document)
    assert (read.memory_bytes, read.source.format) == (3 * 2**29, "sklearn")
    assert isinstance(document["model"], dict)
    document["model"]["memory"] = "lots"
    with pytest.raises(InvalidSpecError) as caught:
        read_trained_model(document)
    assert caught.value.where == "spec.model.memory"
