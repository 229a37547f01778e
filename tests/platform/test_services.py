"""Services that a person writes, on a real platform: the examples answer, and no change of a model fails a request."""

from __future__ import annotations

import http.client
import json
import runpy
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.support.platform import Platform, running, typed, wait_for

from goldenloop.core.json import JsonObject

pytestmark = pytest.mark.process
EXAMPLES = Path(__file__).parents[2] / "examples" / "serving"
FLOWER = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
CHANGES = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples, with their models."""
    made = tmp_path_factory.mktemp("examples") / "serving"
    shutil.copytree(EXAMPLES, made, ignore=shutil.ignore_patterns("models"))
    runpy.run_path(str(made / "train.py"), run_name="__main__")
    return made


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("home")) as started:
        yield started


def apply(platform: Platform, file: Path) -> None:
    done = typed("apply", "-f", str(file), home=platform.home)
    assert done.returncode == 0, done.stderr


def status(platform: Platform, kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = platform.client.get(kind, name)["status"]  # type: ignore[assignment]
    return found


def is_ready(platform: Platform, kind: str, name: str) -> bool:
    found = platform.client.get(kind, name)
    state: Any = found["status"]
    metadata: Any = found["metadata"]
    ready = {each["type"]: each["status"] for each in state.get("conditions", [])}.get("Ready")
    return ready == "True" and state.get("observedGeneration") == metadata["generation"]


def ask(platform: Platform, path: str, body: object, *, host: str = "") -> Any:
    """What a POST is answered, which has to be well."""
    parts = urlsplit(platform.inference)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request("POST", path, json.dumps(body), {"Host": host} if host else {})
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        return json.loads(content)
    finally:
        connection.close()


def test_every_example_answers(platform: Platform, folder: Path) -> None:
    for name in ("iris", "canaries", "rounding", "with-transformer", "graph", "trained-models"):
        apply(platform, folder / f"{name}.yaml")
    for kind, name in (
        *(("isvc", each) for each in ("iris", "iris-tried", "rounding", "iris-in-inches", "flowers")),
        *(("trainedmodel", each) for each in ("flowers-first", "flowers-second")),
        ("inferencegraph", "either"),
    ):
        wait_for(lambda kind=kind, name=name: is_ready(platform, kind, name), f"{kind} {name}", seconds=180)  # type: ignore[misc]
    for name in ("iris", "iris-tried", "flowers-first", "flowers-second"):
        assert ask(platform, f"/v1/models/{name}:predict", FLOWER) == {"predictions": [0]}
    assert ask(platform, "/v1/models/rounding:predict", {"instances": [[1.234]]}) == {"predictions": [[1.2]]}
    inches = {"instances": [[2.0, 1.4, 0.55, 0.1]]}
    assert ask(platform, "/v1/models/iris-in-inches:predict", inches) == {"predictions": ["setosa"]}
    either = ask(platform, "/serving/default/either", FLOWER)["predictions"]
    assert either in ([0], ["versicolor"])
    by_host = ask(platform, "/v1/models/iris:predict", FLOWER, host="iris.default.example.com")
    assert by_host == {"predictions": [0]}


def test_get_shows_what_kserves_users_know(platform: Platform) -> None:
    shown = typed("get", "isvc", "iris", home=platform.home).stdout
    assert "READY" in shown
    assert "LATEST" in shown
    assert "100" in shown


class Asking:
    """Requests in a thread, one after the other, none of them sent again: how many were answered, and what was wrong."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.answered = 0
        self.wrong: list[str] = []

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                ask(self._platform, "/v1/models/steady:predict", FLOWER)
                self.answered += 1
            except Exception as error:
                self.wrong.append(repr(error))


def test_no_change_fails_a_request_and_control_may_die_in_the_middle(platform: Platform, folder: Path) -> None:
    def spec(number: int) -> JsonObject:
        uri = str(folder / "models" / ("first" if number % 2 else "second"))
        part: JsonObject = {} if number % 3 else {"canaryTrafficPercent": 30}
        return {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": uri}, **part}}

    def write(number: int) -> bool:
        document: JsonObject = {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": "steady"},
            "spec": spec(number),
        }
        try:
            platform.client.apply(document)
        except Exception:  # control is being started again
            return False
        return True

    def settled() -> bool:
        try:
            return is_ready(platform, "isvc", "steady")
        except Exception:
            return False

    wait_for(lambda: write(0), "the first version is applied")
    wait_for(settled, "the first version answers", seconds=120)
    with Asking(platform) as asking:
        for number in range(1, CHANGES):
            wait_for(lambda number=number: write(number), "a change is applied")  # type: ignore[misc]
            if number % 8 == 0:
                platform.kill("control")
            wait_for(settled, f"change {number}", seconds=120)
        wait_for(lambda: asking.answered > 200, "answers")
    assert asking.wrong == []
    created = status(platform, "isvc", "steady")["components"]["predictor"]["latestCreatedRevision"]
    assert created == f"steady-predictor-{CHANGES:05d}"


def test_a_file_that_is_no_model_is_told_and_what_answered_goes_on(platform: Platform, folder: Path) -> None:
    broken = folder / "broken"
    broken.mkdir()
    (broken / "model.onnx").write_bytes(b"not a graph")
    (folder / "broken.yaml").write_text((folder / "iris.yaml").read_text().replace("models/first", "broken"))
    (folder / "broken.yaml").write_text((folder / "broken.yaml").read_text().replace("{name: sklearn}", "{name: onnx}"))
    apply(platform, folder / "broken.yaml")
    told = wait_for(
        lambda: status(platform, "isvc", "iris").get("modelStatus", {}).get("lastFailureInfo"), "the failure is told"
    )
    assert told["modelRevisionName"] == "iris-predictor-00002"
    assert ask(platform, "/v1/models/iris:predict", FLOWER) == {"predictions": [0]}
