"""The Open Inference Protocol through a real worker: packed bodies, repository, statistics, hosts, graphs, models of any tensors."""

from __future__ import annotations

import gzip
import json
import struct
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.serving.workbench import Bench, Control, Reply, bench, make_version, served

from goldenloop.core.routing import Graph, Logger, Node, RoutingTable, Service, Step
from goldenloop.core.served import SERVED_FILE, ServedForm, TensorSpec
from goldenloop.core.wire import Wanted
from goldenloop.payloads.log import PayloadReader
from goldenloop.payloads.records import Exchange

pytestmark = pytest.mark.process

UP = {"instances": [[1.0, 0.0, 0.0]]}
DOWN = {"instances": [[-1.0, 0.0, 0.0]]}


def make_image_model(folder: Path) -> Path:
    """Two classes of 4x4 pictures: the mean of the left half, and of the right half."""
    folder.mkdir(parents=True)
    weights = np.zeros((16, 2), np.float32)
    for place in range(16):
        weights[place, 0 if place % 4 < 2 else 1] = 1 / 8
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["pixels"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
        ],
        "halves",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 4, 4])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor("weights", TensorProto.FLOAT, [16, 2], weights.flatten())],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx"
    )
    form = ServedForm(
        form="tensors",
        runtime="onnx",
        loader="onnx",
        format="onnx",
        inputs=(TensorSpec("pixels", "FP32", (-1, 4, 4)),),
        outputs=(TensorSpec("scores", "FP32", (-1, 2)),),
        batching=True,
    )
    (folder / SERVED_FILE).write_bytes(msgspec.json.encode(form))
    return folder


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("versions")
    return {
        "up": make_version(folder / "up"),
        "flipped": make_version(folder / "flipped", flipped=True),
        "image": make_image_model(folder / "image"),
        "pair": make_version(folder / "pair", columns=["left", "right"]),
    }


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as made:
        yield made


def service(name: str, path: Path, **rest: object) -> Service:
    return Service(namespace="default", name=name, champion="1", versions=(served("1", path),), **rest)  # type: ignore[arg-type]


def start(room: Bench, *services: Service, graphs: tuple[Graph, ...] = ()) -> Bench:
    room.generation += 1
    table = RoutingTable(generation=room.generation, services=services, graphs=graphs)
    room.table.write_bytes(msgspec.json.encode(table))
    room.start()
    room.wait_ready()
    return room


def predictions(reply: Reply) -> object:
    assert reply.status == 200, reply.body
    return reply.json["predictions"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "bare deflate", "identity"])
def test_packed_requests(room: Bench, versions: dict[str, Path], encoding: str) -> None:
    start(room, service("m", versions["up"]))
    plain = json.dumps(UP).encode()
    bare = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = {
        "gzip": gzip.compress(plain),
        "deflate": zlib.compress(plain),
        "bare deflate": bare.compress(plain) + bare.flush(),
        "identity": plain,
    }[encoding]
    headers = {"content-encoding": encoding.removeprefix("bare ")}
    assert predictions(room.call("POST", "/v1/models/m:predict", packed, headers)) == ["UP"]
    broken = room.call("POST", "/v1/models/m:predict", packed[:-3], headers)
    assert broken.status == 400
    assert "error" in broken.json


def test_a_body_that_grows_without_end_is_refused(room: Bench, versions: dict[str, Path]) -> None:
    start(room, service("m", versions["up"]))
    bomb = gzip.compress(b" " * (65 * 1024 * 1024))
    reply = room.call("POST", "/v1/models/m:predict", bomb, {"content-encoding": "gzip"})
    assert reply.status == 413
    assert room.call("POST", "/v1/models/m:predict", b"x", {"content-encoding": "br"}).status == 415


def test_packed_answers(room: Bench, versions: dict[str, Path]) -> None:
    start(room, service("m", versions["up"]))
    many = {"instances": [[1.0, 0.0, 0.0]] * 2000}
    reply = room.call("POST", "/v1/models/m:predict", many, {"accept-encoding": "gzip, deflate"})
    assert reply.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(reply.body)) == {"predictions": ["UP"] * 2000}
    small = room.call("POST", "/v1/models/m:predict", UP, {"accept-encoding": "gzip"})
    assert "content-encoding" not in small.headers


def test_the_repository(room: Bench, versions: dict[str, Path]) -> None:
    control = Control(room.socket_path)
    start(room, service("m", versions["up"]))
    index = [{"name": "m", "version": "1", "state": "READY", "reason": ""}]
    for body in (None, b"", b"{}", b'{"ready": true}'):
        assert json.loads(room.call("POST", "/v2/repository/index", body).body) == index

    def obey() -> None:
        for loaded in (False, True):
            wanted = control.expect(Wanted)
            assert wanted == Wanted("default", "m", loaded)
            room.publish(service("m", versions["up"], loaded=loaded))

    obeying = threading.Thread(target=obey)
    obeying.start()
    assert room.call("POST", "/v2/repository/models/m/unload").status == 200
    assert room.call("GET", "/v2/models/m/ready").status == 503
    assert room.call("POST", "/v1/models/m:predict", UP).status == 503
    assert json.loads(room.call("POST", "/v2/repository/index").body)[0]["state"] == "UNAVAILABLE"
    assert json.loads(room.call("POST", "/v2/repository/index", b'{"ready": true}').body) == []
    assert room.call("POST", "/v2/repository/models/m/load", b"{}").status == 200
    assert predictions(room.call("POST", "/v1/models/m:predict", UP)) == ["UP"]
    obeying.join(10)
    assert room.call("POST", "/v2/repository/models/nope/load").status == 404
    control.close()


def test_configuration_and_statistics(room: Bench, versions: dict[str, Path]) -> None:
    start(room, service("m", versions["up"]))
    config = room.call("GET", "/v2/models/m/config").json
    assert config["name"] == "m"
    assert cast("list[dict[str, object]]", config["input"])[0] == {
        "name": "price",
        "data_type": "TYPE_FP64",
        "dims": [-1, 1],
    }
    for _ in range(3):
        room.call("POST", "/v1/models/m:predict", {"instances": [[1, 0, 0], [2, 0, 0]]})
    for path in ("/v2/models/stats", "/v2/models/m/stats", "/v2/models/m/versions/1/stats"):
        (told,) = cast("list[dict[str, object]]", room.call("GET", path).json["model_stats"])
        assert (told["name"], told["version"], told["inference_count"], told["execution_count"]) == ("m", "1", 6, 3)
        assert cast("dict[str, dict[str, int]]", told["inference_stats"])["success"]["count"] == 3
    assert room.call("GET", "/v2/models/m/versions/7/stats").status == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/systemsharedmemory/status"), ("POST", "/v2/cudasharedmemory/region/a/register"), ("GET", "/v2/trace/setting"),
        ("POST", "/v2/models/m/trace/setting"),
    ],
)  # fmt: skip
def test_what_is_not_served_says_so(room: Bench, versions: dict[str, Path], method: str, path: str) -> None:
    start(room, service("m", versions["up"]))
    reply = room.call(method, path, b"{}" if method == "POST" else None)
    assert reply.status == 501
    assert "not served" in str(reply.json["error"])


def test_hosts_and_paths_name_a_service(room: Bench, versions: dict[str, Path]) -> None:
    ours = service("m", versions["up"], hosts=("m.default.example.com",))
    theirs = Service(
        namespace="other",
        name="m",
        champion="1",
        versions=(served("1", versions["flipped"]),),
        hosts=("m.other.example.com",),
    )
    start(room, ours, theirs)
    path = "/v1/models/m:predict"
    assert predictions(room.call("POST", path, UP)) == ["UP"]
    assert predictions(room.call("POST", path, UP, {"host": "m.other.example.com"})) == ["DOWN"]
    assert predictions(room.call("POST", path, UP, {"host": "m.default.example.com:8000"})) == ["UP"]
    assert predictions(room.call("POST", f"/serving/other/m{path}", UP)) == ["DOWN"]
    assert room.call("POST", f"/serving/nowhere/m{path}", UP).status == 404


def test_a_model_of_pictures(room: Bench, versions: dict[str, Path]) -> None:
    start(room, service("halves", versions["image"]))
    picture = np.zeros((1, 4, 4), np.float32)
    picture[:, :, 2:] = 1.0
    metadata = room.call("GET", "/v2/models/halves").json
    assert metadata["inputs"] == [{"name": "pixels", "datatype": "FP32", "shape": [-1, 4, 4]}]
    assert predictions(room.call("POST", "/v1/models/halves:predict", {"instances": picture.tolist()})) == [[0.0, 1.0]]
    tensor = {"name": "anything", "shape": [1, 4, 4], "datatype": "FP32", "data": picture.tolist()}
    (output,) = cast(
        "list[dict[str, object]]", room.call("POST", "/v2/models/halves/infer", {"inputs": [tensor]}).json["outputs"]
    )
    assert output == {"name": "scores", "shape": [1, 2], "datatype": "FP32", "data": [0.0, 1.0]}
    raw = picture.tobytes()
    head = json.dumps(
        {
            "inputs": [
                {"name": "pixels", "shape": [1, 4, 4], "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}
            ],
            "outputs": [{"name": "scores", "parameters": {"classification": 1}}],
        }
    ).encode()
    reply = room.call(
        "POST", "/v2/models/halves/infer", head + raw, {"inference-header-content-length": str(len(head))}
    )
    assert cast("list[dict[str, object]]", reply.json["outputs"])[0]["data"] == ["1.000000:1"]
    for wrong in ([1, 4, 5], [16], [1, 4]):
        bad = {"inputs": [{"name": "pixels", "shape": wrong, "datatype": "FP32", "data": [0] * int(np.prod(wrong))}]}
        reply = room.call("POST", "/v2/models/halves/infer", bad)
        assert reply.status == 400
        assert "the model takes [-1, 4, 4]" in str(reply.json["error"])
    records = [record for record in PayloadReader(room.folder / "payloads").read() if isinstance(record, Exchange)]
    assert len(records) == 3
    (name, datatype, shape, content) = cast("tuple[tuple[str, str, tuple[int, ...], bytes], ...]", records[2].request)[
        0
    ]
    assert (name, datatype, shape, content) == ("pixels", "FP32", (1, 4, 4), raw)
    answer = cast("tuple[tuple[str, str, tuple[int, ...], bytes], ...]", records[2].answers["1"])[0]
    assert struct.unpack("<2f", answer[3]) == (0.0, 1.0)


def test_a_service_that_is_loaded_by_its_first_request(room: Bench, versions: dict[str, Path]) -> None:
    start(room, service("m", versions["up"], min_replicas=0, idle_seconds=0.2))

    def unloads() -> str:
        lines = room.call("GET", "/metrics").body.decode().splitlines()
        return next((line.split()[-1] for line in lines if line.startswith("goldenloop_model_unloads_total")), "0")

    assert predictions(room.call("POST", "/v1/models/m:predict", UP)) == ["UP"]
    for _ in range(100):
        if unloads() == "1.0":
            break
        threading.Event().wait(0.05)
    assert unloads() == "1.0"
    assert predictions(room.call("POST", "/v1/models/m:predict", DOWN)) == ["DOWN"]


def test_graphs(room: Bench, versions: dict[str, Path]) -> None:
    up, flipped = service("up", versions["up"]), service("flipped", versions["flipped"])
    halves, pair = service("halves", versions["image"]), service("pair", versions["pair"])
    nodes = {
        "sequence": Node(
            router_type="Sequence",
            steps=(
                Step(service="up"),
                Step(service="flipped", condition='[@this].#(predictions.0=="UP")'),
            ),
        ),
        "switch": Node(
            router_type="Switch",
            steps=(
                Step(service="up", condition='[@this].#(ask=="up")'),
                Step(service="flipped", condition='[@this].#(ask=="flipped")'),
            ),
        ),
        "ensemble": Node(
            router_type="Ensemble", steps=(Step(name="a", service="up"), Step(name="b", service="flipped"))
        ),
        "splitter": Node(
            router_type="Splitter", steps=(Step(service="up", weight=100), Step(service="flipped", weight=0))
        ),
        "hard": Node(router_type="Sequence", steps=(Step(service="gone", dependency="Hard"), Step(service="up"))),
        "soft": Node(router_type="Sequence", steps=(Step(service="gone"), Step(service="up"))),
        "nested": Node(router_type="Sequence", steps=(Step(node="ensemble"),)),
        "chained": Node(
            router_type="Sequence",
            steps=(
                Step(service="halves"),
                Step(service="pair", data="$response", predictions_to_instances=True),
            ),
        ),
        "loop": Node(router_type="Sequence", steps=(Step(node="root"),)),
    }
    graphs = tuple(
        Graph(namespace="default", name=name, nodes={**nodes, "root": node}, hosts=(f"{name}.default.example.com",))
        for name, node in nodes.items()
    )
    start(room, up, flipped, halves, pair, graphs=graphs)

    def ask(name: str, document: object) -> Reply:
        return room.call("POST", "/", document, {"host": f"{name}.default.example.com"})

    assert predictions(ask("sequence", UP)) == ["DOWN"]
    assert predictions(ask("sequence", DOWN)) == ["DOWN"]  # the condition does not hold: the first step's answer
    assert predictions(ask("switch", {**UP, "ask": "up"})) == ["UP"]
    assert predictions(ask("switch", {**UP, "ask": "flipped"})) == ["DOWN"]
    assert ask("switch", UP).status == 404
    assert ask("ensemble", UP).json == {"a": {"predictions": ["UP"]}, "b": {"predictions": ["DOWN"]}}
    assert ask("nested", UP).json == {"a": {"predictions": ["UP"]}, "b": {"predictions": ["DOWN"]}}
    assert predictions(ask("splitter", UP)) == ["UP"]
    assert ask("hard", UP).status == 404
    assert predictions(ask("soft", UP)) == ["UP"]
    assert predictions(ask("chained", {"instances": np.ones((1, 4, 4)).tolist()})) == ["UP"]
    assert ask("loop", UP).status == 500
    assert ask("sequence", b"{").status == 400


@pytest.fixture
def receiver() -> Iterator[tuple[HTTPServer, list[tuple[dict[str, str], bytes]]]]:
    taken: list[tuple[dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            taken.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server, taken
    server.shutdown()
    server.server_close()


def test_notices_of_requests_and_answers(
    room: Bench, versions: dict[str, Path], receiver: tuple[HTTPServer, list[tuple[dict[str, str], bytes]]]
) -> None:
    server, taken = receiver
    url = f"http://127.0.0.1:{server.server_port}/"
    start(room, service("m", versions["up"], logger=Logger(url=url, metadata_headers=("x-tenant",))))
    reply = room.call("POST", "/v1/models/m:predict", UP, {"x-tenant": "a"})
    room.call("POST", "/v1/models/m:predict", {"instances": [[1]]})
    room.call("POST", "/v1/models/m:predict", b"{")
    for _ in range(200):
        if len(taken) == 6:
            break
        threading.Event().wait(0.02)
    kinds = [(headers["ce-type"].rsplit(".", 1)[1], headers.get("ce-status")) for headers, _ in taken]
    assert kinds == [
        ("request", None), ("response", "200"), ("request", None), ("response", "400"), ("request", None), ("response", "400"),
    ]  # fmt: skip
    question, answer = taken[0], taken[1]
    assert question[0]["ce-id"] == answer[0]["ce-id"] == reply.headers["x-prediction-id"]
    assert json.loads(question[1]) == UP
    assert json.loads(answer[1]) == {"predictions": ["UP"]}
    assert (answer[0]["ce-modelversion"], answer[0]["ce-inferenceservicename"], answer[0]["ce-namespace"]) == (
        "1",
        "m",
        "default",
    )
    assert json.loads(answer[0]["ce-metadata"]) == {"x-tenant": "a"}
    assert "error" in json.loads(taken[3][1])
