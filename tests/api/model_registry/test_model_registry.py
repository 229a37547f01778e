"""Kubeflow's Model Registry API over the wire, on the same registry as MLflow's."""

from __future__ import annotations

import itertools
from typing import Any

import httpx
import pytest

_numbers = itertools.count()
BASE = "/api/model_registry/v1alpha3"


@pytest.fixture
def name() -> str:
    return f"registered-{next(_numbers)}"


def ok(http: httpx.Client, method: str, path: str, message: object = None, **query: object) -> Any:
    answer = http.request(method, BASE + path, json=message, params=query)  # type: ignore[arg-type]  # plain values
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def made(http: httpx.Client, name: str, version: str = "v1") -> tuple[Any, Any]:
    model = ok(http, "POST", "/registered_models", {"name": name, "owner": "ann", "externalId": f"ext-{name}"})
    said = {"name": version, "registeredModelId": model["id"], "author": "ann"}
    return model, ok(http, "POST", "/model_versions", said)


@pytest.mark.parametrize("api", ["v1alpha3", "v1"])
def test_both_versions_of_the_api_answer(http: httpx.Client, api: str) -> None:
    assert http.get(f"/api/model_registry/{api}/registered_models").status_code == 200


def test_a_model_is_found_by_id_name_and_external_id(http: httpx.Client, name: str) -> None:
    model, version = made(http, name)
    assert ok(http, "GET", f"/registered_models/{model['id']}") == ok(http, "GET", "/registered_model", name=name)
    assert ok(http, "GET", "/registered_model", externalId=f"ext-{name}")["id"] == model["id"]
    found = ok(http, "GET", "/model_version", name="v1", parentResourceId=model["id"])
    assert (found["id"], found["author"], found["registeredModelId"]) == (version["id"], "ann", model["id"])
    properties = {"acc": {"metadataType": "MetadataDoubleValue", "double_value": 0.9}}
    changed = ok(
        http, "PATCH", f"/registered_models/{model['id']}", {"state": "ARCHIVED", "customProperties": properties}
    )
    assert (changed["owner"], changed["state"], changed["customProperties"]) == ("ann", "ARCHIVED", properties)


def test_what_is_registered_here_is_found_by_mlflows_clients(http: httpx.Client, name: str) -> None:
    _, version = made(http, name)
    artifact = {"artifactType": "model-artifact", "name": "files", "uri": "s3://bucket/tree"}
    kept = ok(http, "POST", f"/model_versions/{version['id']}/artifacts", artifact)
    assert kept["uri"] == "s3://bucket/tree"
    shown = http.get("/api/2.0/mlflow/model-versions/get", params={"name": name, "version": "1"}).json()[
        "model_version"
    ]
    assert shown["source"] == "s3://bucket/tree"
    ok(http, "PATCH", f"/model_artifacts/{kept['id']}", {"artifactType": "model-artifact", "uri": "s3://bucket/b"})
    uri = http.get("/api/2.0/mlflow/model-versions/get-download-uri", params={"name": name, "version": "1"}).json()
    assert uri == {"artifact_uri": "s3://bucket/b"}


def test_what_mlflows_clients_register_is_found_here(http: httpx.Client, name: str) -> None:
    http.post("/api/2.0/mlflow/registered-models/create", json={"name": name, "tags": [{"key": "team", "value": "x"}]})
    http.post("/api/2.0/mlflow/model-versions/create", json={"name": name, "source": "s3://bucket/c"})
    model = ok(http, "GET", "/registered_model", name=name)
    assert model["customProperties"]["team"]["string_value"] == "x"
    versions = ok(http, "GET", f"/registered_models/{model['id']}/versions")["items"]
    assert [each["name"] for each in versions] == ["1"]
    artifacts = ok(http, "GET", f"/model_versions/{versions[0]['id']}/artifacts")["items"]
    assert [(each["artifactType"], each["uri"]) for each in artifacts] == [("model-artifact", "s3://bucket/c")]
    assert ok(http, "GET", f"/model_artifacts/{artifacts[0]['id']}")["uri"] == "s3://bucket/c"


def test_serving_is_kept_with_what_is_served(http: httpx.Client, name: str) -> None:
    model, version = made(http, name)
    environment = ok(http, "POST", "/serving_environments", {"name": name})
    said = {"name": name, "servingEnvironmentId": environment["id"], "registeredModelId": model["id"]}
    service = ok(http, "POST", "/inference_services", said)
    assert ok(http, "GET", f"/inference_services/{service['id']}/model")["id"] == model["id"]
    assert ok(http, "GET", f"/inference_services/{service['id']}/version")["id"] == version["id"]
    serve = {"modelVersionId": version["id"], "lastKnownState": "RUNNING"}
    ok(http, "POST", f"/inference_services/{service['id']}/serves", serve)
    assert ok(http, "GET", f"/inference_services/{service['id']}/serves")["size"] == 1
    inside = ok(http, "GET", f"/serving_environments/{environment['id']}/inference_services")["items"]
    assert [each["id"] for each in inside] == [service["id"]]


@pytest.mark.parametrize("order", ["ASC", "DESC"])
def test_lists_come_in_pages(http: httpx.Client, name: str, order: str) -> None:
    model, _ = made(http, name)
    for number in range(2, 6):
        ok(http, "POST", f"/registered_models/{model['id']}/versions", {"name": f"v{number}"})
    token, found = "", []
    while True:
        query = {"pageSize": 2, "orderBy": "CREATE_TIME", "sortOrder": order, "nextPageToken": token}
        page = ok(http, "GET", f"/registered_models/{model['id']}/versions", **query)
        found += [each["name"] for each in page["items"]]
        token = page["nextPageToken"]
        if not token:
            break
    assert found == [f"v{number}" for number in range(1, 6)][:: 1 if order == "ASC" else -1]


@pytest.mark.parametrize(
    ("method", "path", "message", "status"),
    [
        ("GET", "/registered_models/999999", None, 404),
        ("GET", "/registered_models/abc", None, 404),
        ("GET", "/registered_model?name=nobody", None, 404),
        ("GET", "/model_version?name=v1", None, 400),
        ("GET", "/registered_models?pageSize=0", None, 400),
        ("GET", "/registered_models?orderBy=COLOUR", None, 400),
        ("GET", "/registered_models?nextPageToken=guess", None, 400),
        ("POST", "/registered_models", {"name": 5}, 400),
        ("POST", "/registered_models", {"name": "a/b"}, 400),
        ("POST", "/registered_models", ["a"], 400),
        ("POST", "/model_versions", {"name": "v1", "registeredModelId": "999999"}, 404),
        ("POST", "/inference_services/999999/serves", {"modelVersionId": "1"}, 404),
        ("POST", "/artifacts", {"name": "x", "uri": "y" * (1 << 20)}, 400),
        ("GET", "/nothing", None, 404),
    ],
)
def test_what_is_wrong_is_said(http: httpx.Client, method: str, path: str, message: object, status: int) -> None:
    answer = http.request(method, BASE + path, json=message)
    assert answer.status_code == status, answer.text
    assert answer.json()["message"]


def test_a_name_is_taken_once(http: httpx.Client, name: str) -> None:
    model, _ = made(http, name)
    for path, message in (
        ("/registered_models", {"name": name}),
        ("/registered_models", {"name": f"{name}-b", "externalId": f"ext-{name}"}),
        (f"/registered_models/{model['id']}/versions", {"name": "v1"}),
    ):
        assert http.post(BASE + path, json=message).status_code == 409
