"""Whatever comes over the wire: the right status, an error that says something, and a worker that goes on. Against a real worker.

Only what a model causes may be 5xx. After every attack the healthy model answers as before.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.serving.workbench import make_version, served
from tests.support.servers import Servers, servers

from goldenloop.core.routing import Service
from goldenloop.standards.open_inference.messages import MESSAGES, SERVICE

pytestmark = pytest.mark.process
CI_EXAMPLES = 60
SOAK_EXAMPLES = 5_000
LEAK_REQUESTS = 4_000
SOAK_REQUESTS = 1_000_000
LEAK_BYTES = 32 << 20  # a worker may grow by this, whatever comes
UP = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [2.0, 0.1, 0.1]}]}
SLACK = settings(max_examples=CI_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
SOAK = settings(SLACK, max_examples=SOAK_EXAMPLES)
NAUGHTY = """
    import os, time

    class Naughty:
        def load(self):
            self.kept = []

        def predict(self, payload):
            what = payload["instances"][0]
            if what == "raise":
                raise ValueError("I do not like this row")
            if what == "hang":
                time.sleep(60)
            if what == "crash":
                os.kill(os.getpid(), 11)
            if what == "leave":
                os._exit(3)
            if what == "leak":
                while True:
                    self.kept.append(b"x" * (1 << 26))
            if what == "nonsense":
                return {"predictions": object()}
            return {"predictions": [what]}
"""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """One worker, a healthy model and a naughty one."""
    folder = tmp_path_factory.mktemp("fuzz")
    with servers(folder / "home") as made:
        naughty = made.code("1", NAUGHTY)
        healthy = served("1", make_version(folder / "healthy"))
        made.publish(
            Service(namespace="default", name="elec", champion="1", versions=(healthy,)),
            Service(
                namespace="default",
                name="naughty",
                champion="1",
                versions=(naughty,),
                timeout_seconds=2.0,
                memory_bytes=1 << 29,
            ),
        )
        made.start_host()
        made.start_worker("worker-0")
        made.wait_ready()
        yield made
        assert made.workers["worker-0"].poll() is None


@pytest.fixture(autouse=True)
def goes_on(room: Servers) -> Iterator[None]:
    """Whatever a test did, the worker lives and the healthy model answers."""
    pid = room.workers["worker-0"].pid
    yield
    assert room.workers["worker-0"].poll() is None
    assert room.workers["worker-0"].pid == pid
    status, content = post(room, "/v2/models/elec/infer", UP)
    assert (status, content["outputs"][0]["data"]) == (200, ["UP"])


def post(room: Servers, path: str, body: object, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", room.rest, timeout=30)
    try:
        connection.request("POST", path, body if isinstance(body, bytes) else json.dumps(body), headers or {})
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def check_refused(status: int, content: dict[str, Any]) -> None:
    """Answered well, or refused as the caller's fault with a reason; never a fault of ours."""
    if status != 200 and content != {"accepted": 0}:  # an empty list of labels is no fault
        assert 400 <= status < 500, (status, content)
        assert set(content) == {"error"}
        assert len(content["error"]) > 5
        assert "internal" not in content["error"]


# REST

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["NaN", "Infinity", 1e400, 2**70, -0.0]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)
DATATYPES = st.sampled_from(
    [*["BOOL", "INT8", "INT64", "UINT64", "FP16", "FP32", "FP64", "BYTES", "BF16", "fp32"], "", None, 5]
)
SIZES = st.one_of(st.integers(-3, 5), st.sampled_from([2**31, 2**63, 2**64, 10**30, 1.5, "3", None]))
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.one_of(st.sampled_from(["x", "price", "demand", "transfer"]), JSON),
        "shape": st.one_of(st.lists(SIZES, max_size=4), JSON),
        "datatype": DATATYPES,
        "data": st.one_of(st.lists(SCALARS, max_size=6), st.lists(st.lists(st.floats(), max_size=3), max_size=3), JSON),
        "parameters": st.one_of(st.fixed_dictionaries({"binary_data_size": st.one_of(SIZES, JSON)}), JSON),
    },
)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "id": JSON,
        "parameters": st.one_of(JSON, st.fixed_dictionaries({"binary_data_output": JSON})),
        "inputs": st.one_of(st.lists(TENSORS, max_size=4), JSON),
        "outputs": st.one_of(
            st.lists(st.fixed_dictionaries({}, optional={"name": JSON, "parameters": JSON}), max_size=2), JSON
        ),
        "instances": JSON,
    },
)
PATHS = st.sampled_from(
    [
        *(
            "/v2/models/elec/infer",
            "/v2/models/elec/versions/1/infer",
            "/v1/models/elec:predict",
            "/v1/models/elec:explain",
        ),
        *(
            "/v2/models/elec/versions/7/infer",
            "/v2/models/none/infer",
            "/v1/feedback",
            "/v2/repository/index",
            "/v2/logging",
        ),
        *(
            "/v2/models//infer",
            "/v2/models/elec/versions//infer",
            "/v1/models/:predict",
            "/serving/default/elec/v2/models/elec/infer",
        ),
    ]
)


def attack_rest(room: Servers, path: str, document: object) -> None:
    check_refused(*post(room, path, json.dumps(document).encode()))


@SLACK
@given(path=PATHS, document=st.one_of(REQUESTS, JSON))
def test_any_json(room: Servers, path: str, document: object) -> None:
    attack_rest(room, path, document)


@pytest.mark.soak
@SOAK
@given(path=PATHS, document=st.one_of(REQUESTS, JSON))
def test_much_json(room: Servers, path: str, document: object) -> None:
    attack_rest(room, path, document)


@SLACK
@given(
    path=PATHS,
    body=st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)),
    head=st.one_of(st.none(), st.integers(-5, 300).map(str), st.sampled_from(["", "x", "9" * 30, "1e3", "0x10", "+4"])),
    encoding=st.sampled_from([None, "gzip", "deflate", "br", "gzip, gzip", ""]),
)
def test_any_bytes(room: Servers, path: str, body: bytes, head: str | None, encoding: str | None) -> None:
    headers = {} if head is None else {"Inference-Header-Content-Length": head}
    headers |= {} if encoding is None else {"Content-Encoding": encoding}
    check_refused(*post(room, path, body, headers))


@SLACK
@given(
    said=st.one_of(st.integers(-10, 200), st.sampled_from([2**31, 2**63, 10**20])),
    there=st.integers(0, 100),
    rows=st.one_of(st.integers(-2, 5), st.sampled_from([2**40, 2**62])),
    datatype=st.sampled_from(["FP32", "FP64", "BYTES", "BOOL", "INT8", "FP16"]),
    more=st.integers(-20, 20),
)
def test_lengths_that_lie(room: Servers, said: int, there: int, rows: int, datatype: str, more: int) -> None:
    tensor = {"name": "x", "shape": [rows, 3], "datatype": datatype, "parameters": {"binary_data_size": said}}
    head = json.dumps({"inputs": [tensor]}).encode()
    check_refused(
        *post(
            room,
            "/v2/models/elec/infer",
            head + b"\x07" * there,
            {"Inference-Header-Content-Length": str(len(head) + more)},
        )
    )


def check_no_number(status: int, content: dict[str, Any]) -> None:
    """As `check_refused`, but where the model itself has no answer to a missing value, that is its failure."""
    if status == 500:
        assert "the model gives no number for row 0" in content["error"]
    else:
        check_refused(status, content)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_answered_or_refused(room: Servers, value: float) -> None:
    for document in (json.dumps({"instances": [[value, 0, 0]]}).encode(), b'{"instances": [[1e999, 0, 0]]}'):
        check_no_number(*post(room, "/v1/models/elec:predict", document))
    raw = np.array([[value, 0, 0]]).tobytes()
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP64", "parameters": {"binary_data_size": len(raw)}}
    for parameters in ({}, {"binary_data_output": True}):
        head = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
        connection = http.client.HTTPConnection("127.0.0.1", room.rest, timeout=30)
        connection.request(
            "POST", "/v2/models/elec/infer", head + raw, {"Inference-Header-Content-Length": str(len(head))}
        )
        reply = connection.getresponse()
        content = reply.read()
        if not parameters or reply.status != 200:
            check_no_number(
                reply.status, json.loads(content, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
            )
        connection.close()


def test_depth_and_size_have_bounds(room: Servers) -> None:
    for path in ("/v2/models/elec/infer", "/v1/models/elec:predict", "/v1/feedback", "/v2/repository/index"):
        for body in (b"[" * 200_000, b'{"instances":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b'{"inputs":' * 50_000):
            status, content = post(room, path, body)
            check_refused(status, content)
            assert status == 400
    with socket.create_connection(("127.0.0.1", room.rest), timeout=30) as connection:
        connection.sendall(b"POST /v2/models/elec/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")


# Connections


def exchange(room: Servers, sent: bytes, *, half_close: bool = False) -> bytes:
    """Everything that comes back until the other side closes or is silent."""
    with socket.create_connection(("127.0.0.1", room.rest), timeout=2) as connection:
        connection.sendall(sent)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        found = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            while part := connection.recv(1 << 16):
                found += part
                if b'"error"' in found or b'"outputs"' in found:
                    break
        return found


def test_what_is_no_http(room: Servers) -> None:
    for sent in (
        b"\x16\x03\x01\x02\x00\x01",
        b"GET\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"\0" * 5000,
    ):
        assert not exchange(room, sent).startswith(b"HTTP/1.1 5")
    for sent in (
        b"POST /v1/models/elec:predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/models/elec:predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc",
    ):
        assert not exchange(room, sent).startswith(b"HTTP/1.1 5")


def test_slow_half_open_and_vanishing_clients_hold_up_nobody(room: Servers) -> None:
    body = json.dumps(UP).encode()
    whole = b"POST /v2/models/elec/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    opened = []
    for number in range(200):
        connection = socket.create_connection(("127.0.0.1", room.rest))
        connection.sendall(whole[: 1 + number % (len(whole) - 1)])
        opened.append(connection)
    begun = time.monotonic()
    assert post(room, "/v2/models/elec/infer", UP)[0] == 200
    assert time.monotonic() - begun < 5
    for number, connection in enumerate(opened):
        if number % 2:  # a reset instead of an end
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    answered = exchange(room, whole, half_close=True)
    assert answered == b"" or b"200 OK" in answered


# gRPC


@contextlib.contextmanager
def channel(room: Servers) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{room.grpc}", options=[("grpc.use_local_subchannel_pool", 1)]) as made:
        yield made


CALLERS_FAULT = {
    grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.OUT_OF_RANGE,
}  # fmt: skip


def attack_grpc(room: Servers, method: str, content: bytes) -> None:
    with channel(room) as opened:
        try:
            opened.unary_unary(f"/{SERVICE}/{method}")(content, timeout=20)
        except grpc.RpcError as error:
            assert error.code() in CALLERS_FAULT, (error.code(), error.details())


METHODS = st.sampled_from(
    [
        "ServerLive",
        "ServerReady",
        "ModelReady",
        "ServerMetadata",
        "ModelMetadata",
        "ModelInfer",
        "ModelConfig",
        "ModelStatistics",
        "RepositoryIndex",
        "LogSettings",
        "SystemSharedMemoryStatus",
        "TraceSetting",
        "Nothing",
    ]
)


@SLACK
@given(method=METHODS, content=st.binary(max_size=120))
def test_any_bytes_as_messages(room: Servers, method: str, content: bytes) -> None:
    attack_grpc(room, method, content)


@SLACK
@given(
    name=st.sampled_from(["elec", "none", "", "e" * 5000]),
    version=st.sampled_from(["", "1", "9", "x"]),
    tensor=st.sampled_from(["x", "price", ""]),
    datatype=st.sampled_from(["FP32", "FP64", "BYTES", "BOOL", "NONE", "", "FP16"]),
    shape=st.lists(st.one_of(st.integers(-2, 5), st.sampled_from([2**31, 2**62])), max_size=4),
    raw=st.one_of(st.none(), st.binary(max_size=80)),
    contents=st.one_of(
        st.none(),
        st.fixed_dictionaries({"fp64_contents": st.lists(st.floats(), max_size=6)}),
        st.fixed_dictionaries({"bytes_contents": st.lists(st.binary(max_size=9), max_size=6)}),
    ),
    times=st.integers(0, 3),
)
def test_any_infer(
    room: Servers, name: str, version: str, tensor: str, datatype: str, shape: list[int], raw: bytes | None,
    contents: dict[str, Any] | None, times: int,
) -> None:  # fmt: skip
    given_tensor: dict[str, Any] = {"name": tensor, "datatype": datatype, "shape": shape}
    if contents is not None:
        given_tensor["contents"] = contents
    raws = [] if raw is None else [raw]
    content = MESSAGES.write(
        "ModelInferRequest",
        model_name=name,
        model_version=version,
        inputs=[given_tensor] * times,
        raw_input_contents=raws,
    )
    attack_grpc(room, "ModelInfer", content)


# Models


@pytest.mark.parametrize(
    ("what", "statuses"),
    [
        ("raise", {500}),
        ("hang", {504}),
        ("crash", {500, 503}),
        ("leave", {500, 503}),
        ("leak", {500, 503, 504}),
        ("nonsense", {500}),
    ],
)
def test_a_model_that_misbehaves_hurts_only_itself(room: Servers, what: str, statuses: set[int]) -> None:
    seen: list[tuple[int, dict[str, Any]]] = []
    attack = threading.Thread(
        target=lambda: seen.append(post(room, "/v1/models/naughty:predict", {"instances": [what]}))
    )
    attack.start()
    others = 0
    while attack.is_alive() or others < 5:
        begun = time.monotonic()
        assert post(room, "/v2/models/elec/infer", UP)[0] == 200
        assert time.monotonic() - begun < 5
        others += 1
    ((status, content),) = seen
    assert status in statuses, (status, content)
    assert set(content) == {"error"}
    assert content["error"]
    if what == "raise":
        assert "I do not like this row" in content["error"]
    assert str(room.home) not in content["error"]
    end = time.monotonic() + 60
    while True:  # it comes back, after its back-off
        status, content = post(room, "/v1/models/naughty:predict", {"instances": ["well"]})
        if status == 200:
            assert content == {"predictions": ["well"]}
            return
        assert status in (503, 504, 500), content
        assert time.monotonic() < end, content
        time.sleep(0.2)


# Leaks


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def hammer(room: Servers, count: int) -> None:
    """Good and bad requests, pipelined on a few connections, some of which are torn down in the middle."""
    good = json.dumps(UP).encode()
    bodies = [good, b'{"instances": [[1, 2]]}', b"{", good, json.dumps({"inputs": []}).encode(), good]
    requests = [
        b"POST /v2/models/%s/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (name, len(body)) + body
        for body in bodies
        for name in (b"elec", b"none")
    ]
    sent = 0
    while sent < count:
        with (
            socket.create_connection(("127.0.0.1", room.rest), timeout=60) as connection,
            connection.makefile("rb") as answers,
        ):
            for _ in range(8):
                connection.sendall(b"".join(requests))
                for _ in requests:
                    status = answers.readline()
                    assert status[9:12] in (b"200", b"400", b"404"), status
                    length = 0
                    while (line := answers.readline()) != b"\r\n":
                        if line.lower().startswith(b"content-length:"):
                            length = int(line.split(b":")[1])
                    answers.read(length)
                sent += len(requests)
            connection.sendall(requests[0][: sent % 60 + 1])


def check_growth(room: Servers, count: int) -> None:
    pid = room.workers["worker-0"].pid
    hammer(room, max(1_000, count // 10))
    before = resident_bytes(pid)
    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    hammer(room, count)
    grown = resident_bytes(pid) - before
    assert grown < LEAK_BYTES, f"the worker grew by {grown / 1e6:.0f} MB in {count} requests"
    end = time.monotonic() + 10
    while len(os.listdir(f"/proc/{pid}/fd")) > descriptors + 4:
        assert time.monotonic() < end, "connections stay open"
        time.sleep(0.1)


def test_nothing_leaks(room: Servers) -> None:
    check_growth(room, LEAK_REQUESTS)


@pytest.mark.soak
def test_nothing_leaks_over_a_million_requests(room: Servers) -> None:
    check_growth(room, SOAK_REQUESTS)


# The protocol's own description


def test_the_protocols_openapi(room: Servers) -> None:
    """schemathesis over the Open Inference Protocol's OpenAPI: GOLDENLOOP_OIP=DIR is a checkout of kserve/open-inference-protocol."""
    found = (
        sorted(Path(os.environ["GOLDENLOOP_OIP"]).rglob("*inference_rest*.y*ml"))
        if "GOLDENLOOP_OIP" in os.environ
        else []
    )
    if not found:
        pytest.skip("NO OPENAPI: say where a checkout of kserve/open-inference-protocol is: GOLDENLOOP_OIP=DIR")
    schemathesis = pytest.importorskip("schemathesis", reason="NO SCHEMATHESIS: pip install schemathesis")
    schema = schemathesis.openapi.from_path(str(found[0]))

    @settings(max_examples=CI_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=st.one_of([operation.ok().as_strategy() for operation in schema.get_all_operations()]))
    def attack(case: Any) -> None:
        reply = case.call(base_url=f"http://127.0.0.1:{room.rest}")
        assert reply.status_code < 500 or reply.status_code == 501, (case, reply.text)

    attack()
