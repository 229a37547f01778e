"""KServe's file is taken as it is; what changes nothing here is named."""

from __future__ import annotations

import pytest

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.standards.inference_service import not_acted_on, read

# From KServe's own documentation, with what a cluster's file has besides.
CLUSTER: JsonObject = {
    "predictor": {
        "minReplicas": 2,
        "serviceAccountName": "sa",
        "canaryTrafficPercent": 10,
        "model": {
            "modelFormat": {"name": "onnx"},
            "protocolVersion": "v2",
            "storageUri": "s3://models/loan",
            "resources": {"limits": {"cpu": "1"}},
        },
    },
    "transformer": {"containers": []},
}


def test_a_cluster_file_is_read() -> None:
    spec = read(CLUSTER)
    assert spec.predictor.min_replicas == 2
    assert spec.predictor.canary_traffic_percent == 10
    assert spec.predictor.model is not None
    assert spec.predictor.model.model_format.name == "onnx"
    assert spec.predictor.model.storage_uri == "s3://models/loan"


def test_what_changes_nothing_is_named() -> None:
    assert not_acted_on(CLUSTER) == [
        "predictor.canaryTrafficPercent",
        "predictor.model.protocolVersion",
        "predictor.model.resources",
        "predictor.serviceAccountName",
        "transformer",
    ]
    assert not_acted_on({"predictor": {"model": {"modelFormat": {"name": "onnx"}}}}) == []


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ({}, "spec"),
        ({"predictor": {}}, "spec.predictor.model"),
        ({"predictor": {"model": {}}}, "spec.predictor.model"),
        ({"predictor": {"model": {"modelFormat": "onnx"}}}, "spec.predictor.model.modelFormat"),
        ({"predictor": {"minReplicas": "two"}}, "spec.predictor.minReplicas"),
        (None, "spec"),
    ],
)
def test_what_is_acted_on_is_checked(spec: object, place: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        read(spec)
    assert caught.value.where == place
