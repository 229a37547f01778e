"""Pipelines and versions: uploads in every form, names, and what is refused."""

from __future__ import annotations

import functools
import http.server
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from goldenloop.core.json import JsonObject


def upload(
    api: httpx.Client, file: str, content: bytes, path: str = "/pipelines/upload", **asked: str
) -> httpx.Response:
    return api.post(path, params=asked, files={"uploadfile": (file, content, "application/octet-stream")})


def packed(kind: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("pipeline.yaml", content)
    else:
        with tarfile.open(fileobj=stream, mode="w:gz") as tar:
            entry = tarfile.TarInfo("pipeline.yaml")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


@pytest.fixture
def served(tmp_path: Path, pipeline: JsonObject) -> Iterator[str]:
    """A pipeline behind an address."""
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(pipeline))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/pipeline.yaml"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_upload_says_in_its_address_what_it_is_called(
    api: httpx.Client, pipeline: JsonObject, namespace: str
) -> None:
    asked = {"name": "train", "display_name": "Training", "description": "fits", "namespace": namespace}
    made = upload(api, "p.yaml", yaml.safe_dump(pipeline).encode(), tags='{"team": "ml"}', **asked).json()
    assert {name: made[name] for name in asked} == asked
    assert made["tags"] == {"team": "ml"}
    assert api.get("/pipelines/names/train", params={"namespace": namespace}).json() == made
    first = api.get(f"/pipelines/{made['pipeline_id']}/versions").json()["pipeline_versions"]
    assert [(version["name"], version["display_name"]) for version in first] == [("train", "Training")]
    assert first[0]["pipeline_spec"] == pipeline
    listed = json.dumps({"predicates": [{"operation": "EQUALS", "key": "tags.team", "stringValue": "ml"}]})
    assert api.get("/pipelines", params={"namespace": namespace, "filter": listed}).json()["total_size"] == 1


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_is_unpacked(api: httpx.Client, pipeline: JsonObject, namespace: str, kind: str) -> None:
    content = packed(kind, yaml.safe_dump(pipeline).encode())
    made = upload(api, f"p.{kind}", content, name="packed", namespace=namespace).json()
    asked = {"pipelineid": made["pipeline_id"], "name": "v2", "code_source_url": "https://example.org/code"}
    version = upload(api, f"p.{kind}", content, "/pipelines/upload_version", **asked).json()
    assert (version["name"], version["code_source_url"]) == ("v2", "https://example.org/code")
    assert version["pipeline_spec"] == pipeline


def test_a_version_comes_inline_or_from_an_address(
    api: httpx.Client, pipeline: JsonObject, namespace: str, served: str
) -> None:
    platform: JsonObject = {"platforms": {"kubernetes": {}}}
    given: JsonObject = {
        "pipeline": {"displayName": "train", "namespace": namespace},
        "pipelineVersion": {"pipelineSpec": {"pipeline_spec": pipeline, "platform_spec": platform}},
    }
    made = api.post("/pipelines/create", json=given).json()
    (inline,) = api.get(f"/pipelines/{made['pipeline_id']}/versions").json()["pipeline_versions"]
    assert inline["pipeline_spec"] == {"pipeline_spec": pipeline, "platform_spec": platform}
    versions = f"/pipelines/{made['pipeline_id']}/versions"
    fetched = api.post(versions, json={"display_name": "v2", "package_url": {"pipeline_url": served}})
    assert fetched.json()["pipeline_spec"] == pipeline
    assert fetched.json()["package_url"] == {"pipeline_url": served}
    for address in (f"{served}/no", "file:///etc/passwd", "http://["):
        refused = api.post(versions, json={"display_name": "v3", "package_url": {"pipeline_url": address}})
        assert refused.status_code == 400, address
    silent = api.post(versions, json={"display_name": "v3", "package_url": {"pipeline_url": "http://127.0.0.1:9/x"}})
    assert silent.status_code == 503


def test_what_is_shown_can_be_changed_and_what_runs_cannot(
    api: httpx.Client, pipeline: JsonObject, namespace: str
) -> None:
    made = upload(api, "p.json", json.dumps(pipeline).encode(), name="train", namespace=namespace).json()
    path = f"/pipelines/{made['pipeline_id']}"
    assert api.patch(path, json={"display_name": "Shown"}).json()["display_name"] == "Shown"
    (version,) = api.get(f"{path}/versions").json()["pipeline_versions"]
    versioned = f"{path}/versions/{version['pipeline_version_id']}"
    changed = api.patch(versioned, json={"display_name": "one", "pipeline_spec": {}, "tags": {"a": "b"}}).json()
    assert changed == {**version, "display_name": "one", "tags": {"a": "b"}}
    assert api.get(versioned).json() == changed
    assert api.delete(path).status_code == 400
    assert api.delete(path, params={"cascade": "true"}).json() == {}
    assert api.get(versioned).status_code == 404


def test_a_name_is_taken_once(api: httpx.Client, pipeline: JsonObject, namespace: str) -> None:
    content = json.dumps(pipeline).encode()
    made = upload(api, "p.json", content, name="train", namespace=namespace).json()
    again = upload(api, "p.json", content, name="train", namespace=namespace)
    assert (again.status_code, again.json()["code"]) == (409, 6)
    assert api.get("/pipelines", params={"namespace": namespace}).json()["total_size"] == 1
    version = {"pipelineid": made["pipeline_id"], "name": "train"}
    assert upload(api, "p.json", content, "/pipelines/upload_version", **version).status_code == 409


def test_an_upload_that_fails_leaves_no_pipeline_without_a_version(
    api: httpx.Client, pipeline: JsonObject, namespace: str
) -> None:
    broken = json.dumps({**pipeline, "components": {}}).encode()
    assert upload(api, "p.json", broken, name="broken", namespace=namespace).status_code == 400
    assert "pipelines" not in api.get("/pipelines", params={"namespace": namespace}).json()


@pytest.mark.parametrize(
    ("name", "content", "asked"),
    [
        ("p.yaml", b"", {}),
        ("p.yaml", b"a: [", {}),
        ("p.zip", b"PK\x03\x04 broken", {}),
        ("p.yaml", b"{}", {"tags": "not json"}),
        ("p.yaml", b"{}", {"namespace": "No Such"}),
        ("p.yaml", b"{}", {"name": "n" * 300}),
        ("p.yaml", b"{}", {"name": " "}),
    ],
)
def test_what_is_no_upload_is_refused(api: httpx.Client, name: str, content: bytes, asked: dict[str, str]) -> None:
    answer = upload(api, name, content, **asked)
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] == 3


def test_an_upload_without_a_file_is_refused(api: httpx.Client, pipeline: JsonObject) -> None:
    for answer in (
        api.post("/pipelines/upload", params={"name": "x"}, json=pipeline),
        api.post("/pipelines/upload", params={"name": "x"}),
        api.post("/pipelines/upload", params={"name": "x"}, files={"other": ("p.yaml", b"{}")}),
        api.post("/pipelines/upload", content=b"--x", headers={"content-type": "multipart/form-data; boundary=x"}),
    ):
        assert answer.status_code == 400
        assert "uploadfile" in answer.json()["message"]
