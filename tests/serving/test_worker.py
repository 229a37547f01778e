"""A real worker process: protocols, errors, routing, lockstep, table changes under load, and what a killed worker leaves."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.serving.workbench import COLUMNS, Bench, Control, bench, break_version, make_version, served

from goldenloop.core.ids import is_uuid
from goldenloop.core.routing import Route, Service
from goldenloop.core.wire import Held, Hello, Nudge, Serving, Settle, Settled
from goldenloop.payloads.finding import find

pytestmark = pytest.mark.process

UP = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [2.0, 0.1, 0.1]}]}


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("versions")
    return {
        "1": make_version(folder / "1"),
        "2": make_version(folder / "2", flipped=True),
        "wide": make_version(folder / "wide", columns=[*COLUMNS, "vicprice"]),
        "broken": break_version(folder / "broken"),
    }


def elec(versions: dict[str, Path], *names: str, **rest: object) -> Service:
    names = names or ("1",)
    plain = {"namespace": "default", "name": "elec", "loop": "elec", "champion": names[0], **rest}
    return Service(versions=tuple(served(name, versions[name]) for name in names), **plain)  # type: ignore[arg-type]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as made:
        yield made


@pytest.fixture
def worker(room: Bench, versions: dict[str, Path]) -> Bench:
    room.publish(elec(versions))
    room.start()
    room.wait_ready()
    return room


def wait_for_generation(control: Control, generation: int) -> Serving:
    while True:
        message = control.expect(Serving)
        assert isinstance(message, Serving)
        if message.generation >= generation:
            return message


def test_v2(worker: Bench) -> None:
    reply = worker.call("POST", "/v2/models/elec/infer", UP)
    assert reply.status == 200
    identity = reply.headers["x-prediction-id"]
    assert is_uuid(identity)
    assert reply.json["id"] == identity
    assert (reply.json["model_name"], reply.json["model_version"]) == ("elec", "1")
    assert [(output["name"], output["datatype"], output["shape"]) for output in reply.json["outputs"]] == [  # type: ignore
        ("predict", "BYTES", [1]),
        ("probabilities", "FP32", [1, 2]),
    ]
    named = worker.call("POST", "/v2/models/elec/versions/1/infer", {**UP, "id": "mine"})
    assert named.json["id"] == "mine"
    predictions, _ = worker.records()
    assert [record.id for record in predictions] == [identity, named.headers["x-prediction-id"]]
    assert [record.alias for record in predictions] == [None, "mine"]
    assert [record.reason for record in predictions] == ["champion", "asked"]
    first = predictions[0]
    assert (first.names, first.values(0)) == (tuple(COLUMNS), (2.0, 0.1, 0.1))
    assert first.answers["1"][0][0] == "UP"
    assert first.event_us == first.arrival_us
    assert find(worker.folder / "payloads", "mine")[0] == predictions[1]


def test_v2_binary(worker: Bench) -> None:
    raw = np.array([[2, 0, 0], [-2, 0, 0]], "<f4").tobytes()
    document = {
        "inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}],
        "parameters": {"binary_data_output": True},
    }
    head = json.dumps(document).encode()
    reply = worker.call(
        "POST", "/v2/models/elec/infer", head + raw, {"Inference-Header-Content-Length": str(len(head))}
    )
    assert reply.status == 200
    length = int(reply.headers["inference-header-content-length"])
    names = struct.pack("<I2sI4s", 2, b"UP", 4, b"DOWN")
    assert json.loads(reply.body[:length])["outputs"][0]["parameters"] == {"binary_data_size": len(names)}
    assert reply.body[length : length + len(names)] == names
    assert len(reply.body) == length + len(names) + 2 * 2 * 4


def test_v1(worker: Bench) -> None:
    for instances in (
        [[2, 0, 0], [-2, 0, 0]],
        [dict(zip(COLUMNS, row, strict=True)) for row in ([2, 0, 0], [-2, 0, 0])],
    ):
        reply = worker.call("POST", "/v1/models/elec:predict", {"instances": instances})
        assert (reply.status, reply.json) == (200, {"predictions": ["UP", "DOWN"]})
        assert is_uuid(reply.headers["x-prediction-id"])
    many = worker.call("POST", "/v1/models/elec:predict", {"instances": [[2, 0, 0]] * 5000})
    assert many.json == {"predictions": ["UP"] * 5000}


def test_what_can_be_asked(worker: Bench) -> None:
    for path in ("/v2", "/v2/"):
        assert worker.call("GET", path).json["name"] == "goldenloop"
    assert worker.call("GET", "/v2/health/live").body == b'{"live":true}'
    assert worker.call("GET", "/v2/health/ready").body == b'{"ready":true}'
    metadata = worker.call("GET", "/v2/models/elec").json
    assert [entry["name"] for entry in metadata["inputs"]] == COLUMNS  # type: ignore
    assert metadata["versions"] == ["1"]
    assert worker.call("GET", "/v2/models/elec/versions/1").status == 200
    assert worker.call("GET", "/v2/models/elec/ready").json["ready"] is True
    assert worker.call("GET", "/v1/models").json == {"models": ["elec"]}
    assert worker.call("GET", "/v1/models/elec").json == {"name": "elec", "ready": True}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("POST", "/v2/models/elec/infer", b"{", 400, "cannot be read"),
        ("POST", "/v2/models/elec/infer", {"inputs": []}, 400, "no input tensor"),
        ("POST", "/v1/models/elec:predict", {"instances": [[1, 2]]}, 400, "the model takes 3"),
        (
            "POST",
            "/v1/models/elec:predict",
            {"instances": [{"price": 1, "demnd": 1, "transfer": 1}]},
            400,
            "Did you mean 'demand'",
        ),
        ("POST", "/v1/models/elec:predict", {"instances": [[1, "x", 1]]}, 400, "'demand' holds numbers"),
        ("POST", "/v2/models/none/infer", UP, 404, "no service 'none'"),
        ("GET", "/v2/models/none", None, 404, "no service 'none'"),
        ("POST", "/v2/models/elec/versions/9/infer", UP, 404, "version '9'"),
        ("GET", "/v2/models/elec/versions/9/ready", None, 404, "version '9'"),
        ("GET", "/elsewhere", None, 404, "nothing is served"),
        ("POST", "/elsewhere", None, 404, "nothing is served"),
        ("PUT", "/v2", None, 405, "PUT"),
        (
            "POST",
            "/v2/models/elec/infer",
            {**UP, "parameters": {"event_time": 5}},
            400,
            "say `replay: true` in the Loop",
        ),
        ("POST", "/v2/models/elec/infer", {**UP, "outputs": [{"name": "score"}]}, 400, "no such output"),
        ("POST", "/v1/feedback", b"[", 400, "not JSON"),
        ("POST", "/v1/feedback", [{"id": "a", "label": 1}, {"id": "b", "label": [1]}], 400, "[1].label"),
        ("POST", "/v1/feedback", [{"label": 1}], 400, "[0]"),
        ("POST", "/v1/feedback", [{"id": "a", "label": 1, "observed_at": "tomorrow"}], 400, "[0].observed_at"),
        ("POST", "/v1/feedback", [{"id": "a", "label": 1, "row": -1}], 400, "[0]"),
    ],
)
def test_errors(worker: Bench, method: str, path: str, body: object, status: int, said: str) -> None:
    reply = worker.call(method, path, body)
    assert reply.status == status
    assert set(reply.json) == {"error"}
    assert said in str(reply.json["error"])
    assert worker.records() == ([], [])
    assert worker.call("POST", "/v2/models/elec/infer", UP).status == 200


def test_bodies_that_are_too_large_or_packed(worker: Bench) -> None:
    with socket.create_connection(("127.0.0.1", worker.port)) as connection:
        connection.sendall(b"POST /v1/feedback HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        assert connection.recv(20).startswith(b"HTTP/1.1 413")
    assert worker.call("POST", "/v1/feedback", b"{}", {"Content-Encoding": "br"}).status == 415


def test_a_missing_value_that_the_model_cannot_take_is_its_failure(worker: Bench) -> None:
    reply = worker.call("POST", "/v1/models/elec:predict", {"instances": [[None, 1, 1]]})
    assert reply.status == 500
    assert "missing values" in str(reply.json["error"])
    (record,), _ = worker.records()
    assert record.answers == {}
    assert "no number" in record.failures["1"]


def test_labels(worker: Bench) -> None:
    given = [{"id": "a", "label": "UP"}, {"id": "b", "row": 3, "label": 0.5, "observed_at": "2024-01-01T00:00:00Z"}]
    reply = worker.call("POST", "/v1/feedback", given)
    assert (reply.status, reply.json) == (202, {"accepted": 2})
    assert worker.call("POST", "/v1/feedback", {"id": "c", "label": None, "observed_at": None}).json == {"accepted": 1}
    _, labels = worker.records()
    assert [(label.prediction, label.row, label.label, label.observed_us) for label in labels] == [
        ("a", 0, "UP", None),
        ("b", 3, 0.5, 1_704_067_200_000_000),
        ("c", 0, None, None),
    ]


def test_shadows_and_challengers_that_fail(room: Bench, versions: dict[str, Path]) -> None:
    # The wide version wants a column that these requests do not have.
    room.publish(elec(versions, "1", "2", "wide", shadows=("2",), routes=(Route(version="wide", percent=100),)))
    room.start()
    room.wait_ready()
    reply = room.call("POST", "/v2/models/elec/infer", UP)
    assert (reply.status, reply.json["model_version"]) == (200, "1")
    full = {"instances": [dict.fromkeys([*COLUMNS, "vicprice"], 2.0)]}
    assert room.call("POST", "/v1/models/elec:predict", full).status == 200
    predictions, _ = room.records()
    assert [(record.version, sorted(record.answers), sorted(record.failures)) for record in predictions] == [
        ("1", ["1", "2"], ["wide"]),
        ("wide", ["1", "2", "wide"], []),
    ]
    assert predictions[0].answers["1"][0][0] == "UP"
    assert predictions[0].answers["2"][0][0] == "DOWN"
    exposition = room.call("GET", "/metrics").body.decode()
    assert 'goldenloop_shadow_failures_total{model_version="wide",namespace="default",service="elec"} 1.0' in exposition


def test_routes_are_shares_and_sticky(room: Bench, versions: dict[str, Path]) -> None:
    room.publish(elec(versions, "1", "2", routes=(Route(version="2", percent=25),)))
    room.start()
    room.wait_ready()
    answered = Counter(room.call("POST", "/v2/models/elec/infer", UP).json["model_version"] for _ in range(300))
    assert 45 <= answered["2"] <= 105  # 4 standard deviations about 75
    for key in ("anna", "bert", "carl", "dora"):
        seen = {
            str(room.call("POST", "/v2/models/elec/infer", UP, {"x-route-key": key}).json["model_version"])
            for _ in range(5)
        }
        assert len(seen) == 1
    predictions, _ = room.records()
    assert all(set(record.answers) == {"1", "2"} for record in predictions)
    assert {record.reason for record in predictions if record.version == "2"} <= {"canary", "sticky"}


def test_a_version_that_does_not_load_changes_nothing(room: Bench, versions: dict[str, Path]) -> None:
    control = Control(room.socket_path)
    room.publish(elec(versions))
    process = room.start()
    hello = control.expect(Hello)
    assert isinstance(hello, Hello)
    assert (hello.worker, hello.pid) == ("worker0", process.pid)
    room.wait_ready()
    generation = room.publish(elec(versions, "broken", "1"), Service(
        namespace="default", name="new", champion="broken", versions=(served("broken", versions["broken"]),)
    ))  # fmt: skip
    control.send(Nudge(generation))
    message = wait_for_generation(control, generation)
    assert set(message.failed) == {"default/elec/broken", "default/new/broken"}
    assert "not a model" in message.failed["default/elec/broken"]
    assert room.call("POST", "/v2/models/elec/infer", UP).json["model_version"] == "1"
    reply = room.call("POST", "/v2/models/new/infer", UP)
    assert reply.status == 503
    assert "could not load" in str(reply.json["error"])
    assert room.call("GET", "/v2/health/ready").status == 503
    generation = room.publish(elec(versions, "2"))
    assert wait_for_generation(control, generation).failed == {}
    assert room.call("POST", "/v2/models/elec/infer", UP).json["model_version"] == "2"
    control.close()


def test_a_table_that_cannot_be_read_changes_nothing(worker: Bench) -> None:
    worker.table.write_bytes(b'{"generation": "half a')
    time.sleep(0.6)
    assert worker.call("POST", "/v2/models/elec/infer", UP).status == 200


def test_control_may_go_and_come_back(room: Bench, versions: dict[str, Path]) -> None:
    room.publish(elec(versions))
    room.start()
    room.wait_ready()
    for _ in range(2):
        control = Control(room.socket_path)
        control.expect(Hello)
        assert control.expect(Serving) == Serving(1, {})
        control.close()
        assert room.call("POST", "/v2/models/elec/infer", UP).status == 200


def test_lockstep(room: Bench, versions: dict[str, Path]) -> None:
    control = Control(room.socket_path)
    room.publish(elec(versions, "1", replay=True, hold_from_us=10_000_000))
    room.start()
    room.wait_ready()
    control.expect(Serving)

    def ask(seconds: float) -> str:
        body = {**UP, "parameters": {"event_time": seconds}}
        return str(room.call("POST", "/v2/models/elec/infer", body).json["model_version"])

    assert ask(9.9) == "1"
    with ThreadPoolExecutor(8) as pool:
        early = pool.submit(ask, 12)
        assert control.expect(Held) == Held("default", "elec", 12_000_000)
        late = pool.submit(ask, 30)
        assert control.expect(Held) == Held("default", "elec", 30_000_000)
        control.send(Settle(7))  # what waits is settled
        assert control.expect(Settled) == Settled(7)
        assert not early.done()
        assert "goldenloop_held_requests 2.0" in room.call("GET", "/metrics").body.decode()
        generation = room.publish(elec(versions, "2", replay=True, hold_from_us=20_000_000))
        control.send(Nudge(generation))
        assert early.result(10) == "2"  # the version in force once it was decided what lay before
        assert control.expect(Held) == Held("default", "elec", 30_000_000)
        assert not late.done()
        generation = room.publish(elec(versions, "1", replay=True))
        control.send(Nudge(generation))
        assert late.result(10) == "1"
    predictions, _ = room.records()
    assert [record.event_us for record in predictions] == [9_900_000, 12_000_000, 30_000_000]
    assert all(record.latency_us < 1_000_000 for record in predictions)
    control.close()


def test_settled_means_logged(room: Bench, versions: dict[str, Path]) -> None:
    """Requests that were sent before Settle and nobody has read the answers of are in the log at Settled."""
    control = Control(room.socket_path)
    room.publish(elec(versions, "1", "2", replay=True, shadows=("2",)))
    room.start()
    room.wait_ready()
    control.expect(Serving)
    body = msgspec.json.encode({**UP, "parameters": {"event_time": 1}})
    request = b"POST /v2/models/elec/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    sent = 0
    for number in range(20):
        connections = [socket.create_connection(("127.0.0.1", room.port)) for _ in range(16)]
        for connection in connections:
            connection.sendall(request)
            sent += 1
        control.send(Settle(number))
        assert control.expect(Settled) == Settled(number)
        assert len(room.records()[0]) == sent
        for connection in connections:
            connection.close()
    control.close()


def test_waiting_requests_are_let_go_when_the_worker_stops(room: Bench, versions: dict[str, Path]) -> None:
    control = Control(room.socket_path)
    room.publish(elec(versions, "1", replay=True, hold_from_us=0))
    process = room.start()
    room.wait_ready()
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(room.call, "POST", "/v2/models/elec/infer", UP, {"x-event-time": "5"})
        control.expect(Held)
        process.send_signal(signal.SIGTERM)
        assert reply.result(10).status == 503
        assert reply.result().headers["retry-after"] == "1"
    assert process.wait(10) == 0
    control.close()


@pytest.mark.parametrize("mode", ["interval", "durable"])
def test_a_killed_worker_loses_no_answer(room: Bench, versions: dict[str, Path], mode: str) -> None:
    room.publish(elec(versions, "1", payload_mode=mode))
    answered: list[str] = []
    for _ in range(3):
        process = room.start()
        room.wait_ready()
        killer = threading.Timer(0.15, process.kill)
        killer.start()
        body = json.dumps(UP)
        connection = http.client.HTTPConnection("127.0.0.1", room.port, timeout=5)
        try:
            while True:
                connection.request("POST", "/v2/models/elec/infer", body)
                answered.append(json.loads(connection.getresponse().read())["id"])
        except (OSError, http.client.HTTPException, ValueError):
            process.wait()
        finally:
            connection.close()
            killer.join()
    assert len(answered) > 30
    predictions, _ = room.records()
    logged = {record.id for record in predictions}
    assert set(answered) <= logged
    assert len(predictions) == len(logged)


def test_changes_under_load_fail_no_request(room: Bench, versions: dict[str, Path]) -> None:
    """Two workers on one socket; champions, routes and shadows change all the time."""
    room.publish(elec(versions))
    for name in ("worker0", "worker1"):
        room.start(name)
    room.wait_ready()
    stop = threading.Event()
    failures: list[object] = []
    counts = Counter[str]()

    def load() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", room.port, timeout=20)
        body = json.dumps(UP)
        while not stop.is_set():
            connection.request("POST", "/v2/models/elec/infer", body)
            reply = connection.getresponse()
            content = json.loads(reply.read())
            if reply.status != 200:
                failures.append(content)
                return
            # Version 2 says the opposite: the answer must be that of the version it is said to be from.
            right = {"1": "UP", "2": "DOWN"}[content["model_version"]]
            if content["outputs"][0]["data"] != [right]:
                failures.append(content)
            counts[content["model_version"]] += 1
        connection.close()

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    states = itertools.cycle(
        [
            elec(versions, "2"),
            elec(versions, "1", "2", routes=(Route(version="2", percent=50),)),
            elec(versions, "2", "1", shadows=("1",)),
            elec(versions, "1"),
        ]
    )
    end = time.monotonic() + 4
    while time.monotonic() < end:
        room.publish(next(states))
        time.sleep(0.07)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert min(counts["1"], counts["2"]) > 50
    assert len(room.records()[0]) >= sum(counts.values())
    exposition = room.call("GET", "/metrics").body.decode()
    totals = [
        float(line.rsplit(" ")[-1])
        for line in exposition.splitlines()
        if line.startswith('goldenloop_requests_total{code="200"')
    ]
    time.sleep(0.2)
    assert sum(totals) >= 0.5 * sum(counts.values())
    for process in room.processes:
        process.terminate()
    assert [process.wait(15) for process in room.processes] == [0, 0]


def test_what_cannot_be_logged_is_not_answered(room: Bench, versions: dict[str, Path]) -> None:
    """The worker's files may have no more than 2,000 bytes: the log fills up, requests get 503, the worker lives."""
    import resource

    room.publish(elec(versions))
    process = room.start()
    room.wait_ready()
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2000, 2000))
    statuses = [room.call("POST", "/v2/models/elec/infer", UP) for _ in range(40)]
    assert process.poll() is None
    refused = [reply for reply in statuses if reply.status == 503]
    assert refused
    assert "payload log cannot be written" in str(refused[0].json["error"])
    assert set(refused[0].json) == {"error"}
    assert {reply.status for reply in statuses} == {200, 503}
    answered = [reply.headers["x-prediction-id"] for reply in statuses if reply.status == 200]
    assert [record.id for record in room.records()[0]] == answered


def test_names_in_namespaces(room: Bench, versions: dict[str, Path]) -> None:
    one = served("1", versions["1"])
    two = served("2", versions["2"])

    def service(namespace: str, name: str, version: str) -> Service:
        return Service(namespace=namespace, name=name, champion=version, versions=(one if version == "1" else two,))

    room.publish(
        service("default", "a", "1"), service("blue", "a", "2"), service("blue", "b", "2"), service("blue", "c", "1"),
        service("green", "c", "2"),
    )  # fmt: skip
    room.start()
    room.wait_ready()
    assert room.call("POST", "/v2/models/a/infer", UP).json["model_version"] == "1"
    assert room.call("POST", "/v2/models/b/infer", UP).json["model_version"] == "2"
    assert room.call("POST", "/v2/models/c/infer", UP).status == 404
    assert os.path.exists(room.table)
