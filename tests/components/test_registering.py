"""A model is registered once with whoever keeps models, or its record stands alone."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from goldenloop.components.registering import ModelRecord, register
from goldenloop.core.errors import InvalidSpecError, RefusedError, UnavailableError


class Keeper:
    """As much of a Kubeflow Model Registry as registering a model needs."""

    def __init__(self) -> None:
        self.kept: dict[str, list[dict[str, object]]] = {"registered_models": [], "model_versions": [], "artifacts": []}
        self.answers_with = 200

    def get(self, path: str, query: dict[str, str]) -> object:
        if path.endswith("/artifacts"):
            return {"items": [one for one in self.kept["artifacts"] if one["version"] == path.split("/")[-2]]}
        room = {"registered_model": "registered_models", "model_version": "model_versions"}[path.rsplit("/", 1)[1]]
        for one in self.kept[room]:
            if one["name"] == query["name"] and one.get("registeredModelId") == query.get("parentResourceId"):
                return one
        return None

    def post(self, path: str, body: dict[str, object]) -> object:
        room = path.rsplit("/", 1)[1]
        body["id"] = str(sum(map(len, self.kept.values())) + 1)
        if room == "artifacts":
            body["version"] = path.split("/")[-2]
        self.kept[room].append(body)
        return body


@pytest.fixture
def keeper() -> Iterator[tuple[Keeper, str]]:
    kept = Keeper()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            self.answer(kept.get(parts.path, {name: value[0] for name, value in parse_qs(parts.query).items()}))

        def do_POST(self) -> None:
            self.answer(kept.post(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

        def answer(self, found: object) -> None:
            content = json.dumps(found or {"message": "not there"}).encode()
            self.send_response(kept.answers_with if kept.answers_with != 200 else 200 if found else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield kept, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOLDENLOOP_HOME", raising=False)


def go(folder: Path, *, version: str = "", refused: str = "", registry: str = "") -> ModelRecord:
    model = folder / "model"
    model.mkdir(exist_ok=True)
    (model / "model.joblib").write_bytes(b"a model")
    properties = {"framework": "scikit-learn", "accuracy": 0.9, "rows": 10, "trusted": True, "columns": {"a": "1"}}
    return register(
        folder=model,
        uri="s3://models/taxi",
        name="taxi",
        version=version,
        properties=properties,  # type: ignore[arg-type]
        refused=refused,
        registry=registry,
    )


def test_alone_it_writes_the_record(tmp_path: Path) -> None:
    record = go(tmp_path)
    assert (record.outcome, record.entry) == ("recorded", None)
    assert record.version == record.digest[:12]
    assert go(tmp_path).digest == record.digest
    (tmp_path / "model" / "more").write_bytes(b"more")
    assert go(tmp_path).digest != record.digest
    assert go(tmp_path, version="7").version == "7"


def test_a_registry_gets_model_version_and_artifact_once(tmp_path: Path, keeper: tuple[Keeper, str]) -> None:
    kept, address = keeper
    first, again = go(tmp_path, registry=address), go(tmp_path, registry=f"{address}/")
    assert first.outcome == "registered"
    assert first.entry == again.entry
    assert {room: len(things) for room, things in kept.kept.items()} == {
        "registered_models": 1,
        "model_versions": 1,
        "artifacts": 1,
    }
    [version] = kept.kept["model_versions"]
    assert version["customProperties"] == {
        "framework": {"metadataType": "MetadataStringValue", "string_value": "scikit-learn"},
        "accuracy": {"metadataType": "MetadataDoubleValue", "double_value": 0.9},
        "rows": {"metadataType": "MetadataDoubleValue", "double_value": 10.0},
        "trusted": {"metadataType": "MetadataBoolValue", "bool_value": True},
        "columns": {"metadataType": "MetadataStringValue", "string_value": '{"a": "1"}'},
    }
    assert go(tmp_path, version="2", registry=address).entry.model == first.entry.model  # type: ignore[union-attr]
    assert len(kept.kept["model_versions"]) == 2


def test_what_was_not_blessed_is_not_registered(tmp_path: Path, keeper: tuple[Keeper, str]) -> None:
    kept, address = keeper
    record = go(tmp_path, refused="not blessed: too weak", registry=address)
    assert (record.outcome, record.reason) == ("refused", "not blessed: too weak")
    assert not any(kept.kept.values())


def test_a_named_registry_must_answer(tmp_path: Path, keeper: tuple[Keeper, str]) -> None:
    kept, address = keeper
    with pytest.raises(UnavailableError, match="the registry does not answer"):
        go(tmp_path, registry="http://127.0.0.1:9")
    with pytest.raises(InvalidSpecError, match="'taxi' is no address"):
        go(tmp_path, registry="taxi")
    for status, error in ((500, UnavailableError), (403, RefusedError), (422, InvalidSpecError)):
        kept.answers_with = status
        with pytest.raises(error, match=f"the registry answered {status}"):
            go(tmp_path, registry=address)


def test_the_running_installation_is_asked(
    tmp_path: Path, keeper: tuple[Keeper, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, address = keeper
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("GOLDENLOOP_HOME", str(home))
    assert go(tmp_path).outcome == "recorded", "none runs there"
    addresses = {
        "home": str(home),
        "http": address,
        "inference": address,
        "grpc": None,
        "mlmd": None,
        "pid": os.getpid(),
    }
    (home / "addresses.json").write_text(json.dumps(addresses))
    kept.answers_with = 404
    record = go(tmp_path)
    assert (record.outcome, record.entry) == ("recorded", None)
    assert "keeps no models this way" in record.reason
    kept.answers_with = 200
    assert go(tmp_path).outcome == "registered"


def test_it_needs_a_name_and_a_model(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpecError, match="there is no model"):
        register(folder=tmp_path, uri="x", name="taxi", properties={})
    with pytest.raises(InvalidSpecError, match="needs a name"):
        register(folder=tmp_path, uri="x", name=" ", properties={})
