"""The examples that are no tables, on a real platform: pictures and texts, by V1, V2 in JSON and in binary; a table explained; features."""

from __future__ import annotations

import json
import runpy
import shutil
import struct
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from tests.support.platform import Platform, running, typed, wait_for

pytestmark = pytest.mark.process
EXAMPLES = Path(__file__).parents[2] / "examples"
SENTENCES = ["A lovely room, and friendly people", "Rude staff and cold soup"]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with the examples applied."""
    folder = tmp_path_factory.mktemp("examples")
    for name in ("digits", "sentiment", "serving"):
        shutil.copytree(EXAMPLES / name, folder / name, ignore=shutil.ignore_patterns("models"))
        runpy.run_path(str(folder / name / "train.py"), run_name="__main__")
    with running(tmp_path_factory.mktemp("home"), workers=1) as started:
        for file in ("digits/digits.yaml", "sentiment/sentiment.yaml", "serving/iris.yaml"):
            done = typed("apply", "-f", str(folder / file), home=started.home)
            assert done.returncode == 0, done.stderr
        for name in ("digits", "sentiment", "iris"):
            wait_for(lambda name=name: is_ready(started, name), name, seconds=180)  # type: ignore[misc]
        yield started


def is_ready(platform: Platform, name: str) -> bool:
    state: Any = platform.client.get("isvc", name)["status"]
    return {each["type"]: each["status"] for each in state.get("conditions", [])}.get("Ready") == "True"


def post(platform: Platform, path: str, body: bytes, headers: dict[str, str] | None = None) -> tuple[bytes, Any]:
    request = urllib.request.Request(platform.inference + path, body, headers or {})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read(), answer.headers


def asked(platform: Platform, path: str, body: object) -> Any:
    return json.loads(post(platform, path, json.dumps(body).encode())[0])


def in_binary(platform: Platform, name: str, tensor: dict[str, Any], raw: bytes, output: str) -> bytes:
    """What a V2 request in binary gives for one output."""
    head = json.dumps(
        {
            "inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}],
            "outputs": [{"name": output, "parameters": {"binary_data": True}}],
        }
    ).encode()
    path = f"/v2/models/{name}/infer"
    content, headers = post(platform, path, head + raw, {"Inference-Header-Content-Length": str(len(head))})
    return content[int(headers["Inference-Header-Content-Length"]) :]


def test_pictures(platform: Platform) -> None:
    pictures, digits = load_digits(return_X_y=True)
    some = pictures[:20].reshape(-1, 8, 8).astype(np.float32)
    rows = asked(platform, "/v1/models/digits:predict", {"instances": some.tolist()})["predictions"]
    by_v1 = [row["digit"] for row in rows]
    tensor: dict[str, Any] = {"name": "pixels", "datatype": "FP32", "shape": [20, 8, 8]}
    document = {"inputs": [{**tensor, "data": some.reshape(-1).tolist()}]}
    outputs = {each["name"]: each for each in asked(platform, "/v2/models/digits/infer", document)["outputs"]}
    assert outputs["probabilities"]["shape"] == [20, 10]
    by_binary = np.frombuffer(in_binary(platform, "digits", tensor, some.tobytes(), "digit"), "<i8").tolist()
    assert by_v1 == outputs["digit"]["data"] == by_binary
    assert np.mean(np.array(by_v1) == digits[:20]) >= 0.95


def test_texts(platform: Platform) -> None:
    rows = asked(platform, "/v1/models/sentiment:predict", {"instances": [[each] for each in SENTENCES]})["predictions"]
    assert [row["label"] for row in rows] == ["glad", "sorry"]
    tensor: dict[str, Any] = {"name": "text", "datatype": "BYTES", "shape": [2, 1]}
    document = {"inputs": [{**tensor, "data": SENTENCES}], "outputs": [{"name": "label"}]}
    (label,) = asked(platform, "/v2/models/sentiment/infer", document)["outputs"]
    assert label["data"] == ["glad", "sorry"]
    raw = b"".join(struct.pack("<I", len(each)) + each.encode() for each in SENTENCES)
    expected = b"".join(struct.pack("<I", len(each)) + each for each in (b"glad", b"sorry"))
    assert in_binary(platform, "sentiment", tensor, raw, "label") == expected


def test_a_model_applied_by_hand_is_explained_and_traced_alike(platform: Platform) -> None:
    flower = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
    _, headers = post(platform, "/v1/models/iris:predict", json.dumps(flower).encode())
    told = asked(platform, "/v1/models/iris:explain", flower)["explanations"][0]
    traced = typed("trace", headers["x-prediction-id"], "--output", "json", home=platform.home)
    assert traced.returncode == 0, traced.stderr
    later = {part["feature"]: part["contribution"] for part in json.loads(traced.stdout)["attributions"]}
    assert later == told["attributions"]
    assert told["method"] == "linear"
    assert told["background"] == "made-up rows"


ENRICHING = """
class Enriching:
    def predict(self, payload):
        return {"predictions": self.features.get("customer", payload["instances"])["income"]}
"""


def test_code_looks_features_up(platform: Platform, tmp_path: Path) -> None:
    pd.DataFrame({"customer": ["ann", "bob"], "income": [30.0, 50.0]}).to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "model.py").write_text(ENRICHING)
    service = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": "enriching",
            "annotations": {"goldenloop.dev/features": f"{tmp_path / 'rows.parquet'}#customer"},
        },
        "spec": {"predictor": {"model": {"modelFormat": {"name": "python"}, "storageUri": "code"}}},
    }
    (tmp_path / "enriching.yaml").write_text(json.dumps(service))  # JSON is YAML
    done = typed("apply", "-f", str(tmp_path / "enriching.yaml"), home=platform.home)
    assert done.returncode == 0, done.stderr
    wait_for(lambda: is_ready(platform, "enriching"), "enriching", seconds=120)
    told = asked(platform, "/v1/models/enriching:predict", {"instances": ["bob", "eve"]})
    assert told == {"predictions": [50.0, None]}
    service["metadata"]["annotations"] = {"goldenloop.dev/features": "rows.parquet"}  # type: ignore[index]
    (tmp_path / "enriching.yaml").write_text(json.dumps(service))
    refused = typed("apply", "-f", str(tmp_path / "enriching.yaml"), home=platform.home)
    assert refused.returncode != 0
    assert "by which column" in refused.stderr + refused.stdout
