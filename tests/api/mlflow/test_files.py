"""Files through us: whole or not at all, and never outside of their tree; and what is not answered."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from goldenloop.control.platform import Platform

BASE = "/api/2.0/mlflow-artifacts/artifacts"


def test_what_is_sent_is_listed_and_comes_back(mlflow: Any, http: httpx.Client, experiment: str, new_run: Any) -> None:
    run = new_run()
    root = f"{experiment}/{run}/artifacts"
    content = bytes(range(256)) * 20_000
    for name in ("model/a b.bin", "model/sub/ü.bin"):
        assert http.put(f"{BASE}/{root}/{name}", content=content).status_code == 200
        assert http.get(f"{BASE}/{root}/{name}").content == content
    listed = http.get(BASE, params={"path": f"{root}/model"}).json()["files"]
    assert listed == [{"path": "a b.bin", "is_dir": False, "file_size": len(content)}, {"path": "sub", "is_dir": True}]
    shown = mlflow.ok("GET", "artifacts/list", run_id=run, path="model")
    assert shown["root_uri"] == f"mlflow-artifacts:/{root}"
    assert [each["path"] for each in shown["files"]] == ["model/a b.bin", "model/sub"]
    assert mlflow.ok("GET", "artifacts/list", run_id=run, path="nothing")["files"] == []
    assert http.delete(f"{BASE}/{root}/model").status_code == 200
    assert http.get(f"{BASE}/{root}/model/a b.bin").status_code == 404


def test_a_file_is_replaced_whole(http: httpx.Client, name: str) -> None:
    for content in (b"first" * 1_000, b"second"):
        http.put(f"{BASE}/{name}/file", content=content)
    assert http.get(f"{BASE}/{name}/file").content == b"second"


@pytest.mark.parametrize(
    "path",
    [
        "..%2f..%2fstate.db",
        "a/..%2f..%2fb",
        "%2e%2e/x",
        "a//b",
        "a%00b",
        "a%5cb",
        ".staging/x",
        "x" * 300,
        "/".join(["y" * 200] * 6),
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(http: httpx.Client, platform: Platform, path: str) -> None:
    before = sorted(Path(platform.home.path).rglob("*"))
    for method in ("GET", "PUT", "DELETE"):
        answer = http.request(method, f"{BASE}/{path}", content=b"x" if method == "PUT" else None)
        assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert sorted(Path(platform.home.path).rglob("*")) == before


def test_listing_outside_is_refused(http: httpx.Client, mlflow: Any, new_run: Any) -> None:
    assert http.get(BASE, params={"path": "../.."}).status_code == 400
    assert mlflow.refused("GET", "artifacts/list", run_id=new_run(), path="../../..")[0] == 400


def test_an_upload_that_breaks_off_leaves_nothing(
    address: str, http: httpx.Client, platform: Platform, name: str
) -> None:
    place = urlsplit(address)
    with socket.create_connection((str(place.hostname), int(place.port or 0))) as connection:
        head = f"PUT {BASE}/{name}/half HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: 1000000\r\n\r\n"
        connection.sendall(head.encode() + b"x" * 1_000)
    assert http.get(f"{BASE}/{name}/half").status_code == 404
    for _ in range(100):
        if not list((Path(platform.home.artifacts) / "mlflow" / ".staging").glob("*")):
            break
        http.get("/health")
    assert list((Path(platform.home.artifacts) / "mlflow" / ".staging").glob("*")) == []
    assert http.get(BASE, params={"path": name}).json()["files"] == []


def test_a_file_in_the_place_of_a_folder(http: httpx.Client, name: str) -> None:
    http.put(f"{BASE}/{name}/a", content=b"x")
    answer = http.put(f"{BASE}/{name}/a/b", content=b"x")
    assert (answer.status_code, answer.json()["error_code"]) == (400, "RESOURCE_ALREADY_EXISTS")
    http.put(f"{BASE}/{name}/c/d", content=b"x")
    assert http.put(f"{BASE}/{name}/c", content=b"x").status_code == 400
    assert http.get(f"{BASE}/{name}/c/d").content == b"x"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/3.0/mlflow/traces"),
        ("GET", "/api/2.0/mlflow/traces"),
        ("POST", "/api/3.0/mlflow/gateway/endpoints/create"),
        ("GET", "/api/2.0/mlflow/webhooks"),
        ("POST", "/api/3.0/mlflow/scorers/register"),
        ("POST", "/api/2.0/mlflow-artifacts/mpu/create/1/x"),
        ("GET", "/api/2.0/mlflow-artifacts/presigned/1/x"),
    ],
)
def test_what_is_not_done_says_so_and_is_not_tried_again(http: httpx.Client, method: str, path: str) -> None:
    answer = http.request(method, path)
    assert (answer.status_code, answer.json()["error_code"]) == (501, "NOT_IMPLEMENTED")
    assert "goldenloop does not do this" in answer.json()["message"]


def test_what_nobody_has_is_not_found(http: httpx.Client) -> None:
    answer = http.post("/api/2.0/mlflow/runs/explode", json={})
    assert (answer.status_code, answer.json()["error_code"]) == (404, "ENDPOINT_NOT_FOUND")


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b'{"run_id": "a\\u0000b"}', b'{"run_id": 5}'])
def test_a_body_that_is_no_message(http: httpx.Client, body: bytes) -> None:
    answer = http.post("/api/2.0/mlflow/runs/delete", content=body)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_health_and_version(http: httpx.Client) -> None:
    assert http.get("/health").text == "OK"
    assert http.get("/version", headers={"User-Agent": "mlflow-python-client/3.17"}).text == "3.0.0"
    assert "gitVersion" in http.get("/version").json()
