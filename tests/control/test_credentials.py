"""What reaches a model's storage comes from secrets in folders, as KServe's resources name them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from goldenloop.control.services.credentials import environment_of, place_of
from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.core.json import JsonObject
from goldenloop.standards.inference_service.records import Storage, Variable, read_inference_service
from goldenloop.standards.inference_service.sources import ModelSource, source_of_predictor


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    return tmp_path / "secrets"


def keep(secrets: Path, name: str, **keys: str) -> None:
    (secrets / name).mkdir(parents=True, exist_ok=True)
    for key, text in keys.items():
        (secrets / name / key.replace("__", "-").replace("_DOT_", ".")).write_text(text)


def source(**changes: Any) -> ModelSource:
    return ModelSource(where="predictor.model", format="sklearn", **changes)


def variable(name: str, secret: str, key: str, **more: Any) -> Variable:
    return Variable(name=name, value_from={"secretKeyRef": {"name": secret, "key": key, **more}})


def test_variables_come_from_the_service_account_from_secrets_and_from_the_file(secrets: Path) -> None:
    keep(secrets, "sa", AWS_ACCESS_KEY_ID="account\n", AWS_REGION="north", notes="no variable")
    keep(secrets, "extra", AWS_REGION="south", HF_TOKEN="t")
    keep(secrets, "one", password="p\n")
    spec = {
        "predictor": {
            "serviceAccountName": "sa",
            "model": {
                "storageUri": "s3://m",
                "env": [
                    {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "one", "key": "password"}}},
                    {"name": "HF_TOKEN", "value": "mine"},
                    {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                ],
                "envFrom": [{"secretRef": {"name": "extra"}}, {"configMapRef": {"name": "no-secret"}}],
            },
        }
    }
    found = environment_of(source_of_predictor(read_inference_service(spec).predictor), secrets)
    assert found == {"AWS_ACCESS_KEY_ID": "account", "AWS_REGION": "south", "HF_TOKEN": "mine", "PASSWORD": "p"}


def test_a_key_of_google_is_a_file(secrets: Path) -> None:
    keep(secrets, "sa", **{"gcloud__application__credentials_DOT_json": "{}"})
    path = secrets / "sa" / "gcloud-application-credentials.json"
    assert environment_of(source(service_account="sa"), secrets) == {"GOOGLE_APPLICATION_CREDENTIALS": str(path)}


def test_a_service_account_without_secrets_is_none(secrets: Path) -> None:
    assert environment_of(source(service_account="default"), secrets) == {}


def test_a_secret_that_is_not_there_is_named_unless_it_is_optional(secrets: Path) -> None:
    with pytest.raises(NotFoundError, match="one/key"):
        environment_of(source(env=(variable("A", "one", "key"),)), secrets)
    with pytest.raises(NotFoundError, match="all"):
        environment_of(source(env_from=({"secretRef": {"name": "all"}},)), secrets)
    optional: JsonObject = {"secretRef": {"name": "all", "optional": True}}
    assert (
        environment_of(source(env=(variable("A", "one", "key", optional=True),), env_from=(optional,)), secrets) == {}
    )


@pytest.mark.parametrize("name", ["..", "../sa", "a/b", "", None, 3])
def test_a_secret_is_never_a_path(secrets: Path, name: object) -> None:
    keep(secrets, "sa", key="k")
    for given in (("sa", name), (name, "key")):
        with pytest.raises(InvalidSpecError):
            environment_of(source(env=(variable("A", *given),)), secrets)  # type: ignore[arg-type]


def test_a_storage_is_what_its_key_says_and_the_file_adds(secrets: Path) -> None:
    document = {"type": "s3", "access_key_id": "id", "secret_access_key": "key", "endpoint_url": "http://minio", "bucket": "b"}  # fmt: skip
    keep(secrets, "storage-config", minio=json.dumps(document))
    place, environment = place_of(Storage(key="minio", path="/models/iris"), secrets)
    assert place.uri == "s3://b/models/iris"
    assert environment == {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "key",
        "AWS_ENDPOINT_URL": "http://minio",
    }
    other = Storage(key="minio", path="iris", parameters={"bucket": "other", "region": "north"})
    place, environment = place_of(other, secrets)
    assert place.uri == "s3://other/iris"
    assert environment["AWS_DEFAULT_REGION"] == "north"


def test_a_storage_without_a_key_uses_the_default_one_if_there_is_one(secrets: Path) -> None:
    storage = Storage(path="iris", parameters={"type": "gs", "bucket": "b"})
    assert place_of(storage, secrets)[0].uri == "gs://b/iris"
    keep(secrets, "storage-config", default_gs=json.dumps({"type": "gs", "region": "x"}))
    assert place_of(storage, secrets)[1] == {"AWS_DEFAULT_REGION": "x"}


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        (Storage(key="gone", path="x"), "no key 'gone'"),
        (Storage(path="x"), "type"),
        (Storage(path="x", parameters={"type": "s3"}), "bucket"),
        (Storage(key="broken", path="x"), "not JSON"),
        (Storage(key="list", path="x"), "not a JSON object"),
    ],
)
def test_a_storage_that_is_not_complete_says_what_is_missing(secrets: Path, storage: Storage, words: str) -> None:
    keep(secrets, "storage-config", broken="{", list="[]")
    with pytest.raises((InvalidSpecError, NotFoundError), match=words):
        place_of(storage, secrets)
