"""Watching requests: the access log, and traces sent to an OTLP receiver; and that neither is there unless it is asked for."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests.serving.workbench import Bench, bench, make_version, served

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.routing import Service
from goldenloop.serving.access_log import LARGEST_KEPT, AccessLog
from goldenloop.serving.grpc.methods import Answer, Method
from goldenloop.serving.watching import Watch, watched_methods

UP = {"instances": [[1.0, 0.0, 0.0]]}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FIELDS = {
    "time", "protocol", "method", "path", "status", "service", "version", "prediction", "received", "sent", "microseconds", "client",
}  # fmt: skip


class Receiver:
    """An OTLP receiver over HTTP."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.path == "/v1/traces"
                if self.headers.get("content-encoding") == "gzip":
                    import gzip

                    body = gzip.decompress(body)
                outer.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Bench]:
    version = make_version(tmp_path / "version")
    with bench(tmp_path) as made:
        made.publish(Service(namespace="default", name="flow", champion="7", versions=(served("7", version),)))
        yield made


def facts(span: Any) -> dict[str, Any]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


@pytest.mark.process
def test_a_request_is_logged_and_traced(room: Bench, receiver: Receiver, tmp_path: Path) -> None:
    log = tmp_path / "access.jsonl"
    worker = room.start(options=["--access-log", str(log), "--otel", receiver.address])
    room.wait_ready()
    parent = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    reply = room.call("POST", "/v1/models/flow:predict", UP, parent)
    assert reply.status == 200
    assert room.call("POST", "/v1/models/flow:predict", b"{").status == 400
    assert room.call("POST", "/v1/models/nothing:predict", UP, {"traceparent": f"00-{TRACE}-{PARENT}-00"}).status == 404
    identity = reply.headers["x-prediction-id"]
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0

    lines = [json.loads(line) for line in log.read_text().splitlines()]
    posts = [line for line in lines if line["method"] == "POST"]
    assert all(line.keys() == FIELDS for line in lines)
    assert [line["status"] for line in posts] == [200, 400, 404]
    first = posts[0]
    assert (first["service"], first["version"], first["prediction"]) == ("default/flow", "7", identity)
    assert first["sent"] == len(reply.body)
    assert first["received"] == len(json.dumps(UP, separators=(",", ":")))
    assert re.fullmatch(r"127\.0\.0\.1:\d+", first["client"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", first["time"])
    assert 0 < first["microseconds"] < 20_000_000
    assert posts[1]["prediction"] == ""

    (span,) = [each for each in receiver.spans if each.name == "infer default/flow"]
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert facts(span)["goldenloop.prediction_id"] == identity
    assert facts(span)["goldenloop.model_version"] == "7"
    assert facts(span)["http.response.status_code"] == 200
    inside = sorted(
        (each for each in receiver.spans if each.parent_span_id == span.span_id),
        key=lambda each: each.start_time_unix_nano,
    )
    assert [each.name for each in inside] == ["route", "queue", "score", "log"]
    for one, following in pairwise(inside):
        assert one.end_time_unix_nano == following.start_time_unix_nano
    assert span.start_time_unix_nano == inside[0].start_time_unix_nano
    assert inside[-1].end_time_unix_nano <= span.end_time_unix_nano
    # What its caller does not sample is not sent; what is not a known service has no name of the caller's choice.
    paths = [facts(each).get("url.path") for each in receiver.spans]
    assert "/v1/models/nothing:predict" not in paths
    assert {each.name for each in receiver.spans} == {
        "infer default/flow",
        "route",
        "queue",
        "score",
        "log",
        "GET",
        "POST",
    }


@pytest.mark.process
def test_a_receiver_and_a_file_that_are_away_fail_no_request(room: Bench, tmp_path: Path) -> None:
    worker = room.start(options=["--access-log", str(tmp_path / "no" / "folder"), "--otel", "http://127.0.0.1:1"])
    room.wait_ready()
    assert room.call("POST", "/v1/models/flow:predict", UP).status == 200
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0


def test_nothing_of_it_is_loaded_unless_asked_for() -> None:
    program = (
        "import sys\n"
        "from goldenloop.serving.worker import watchers_of\n"
        "import goldenloop.serving.rest, goldenloop.serving.endpoints\n"
        "assert watchers_of(None, None) == []\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "[]", done.stderr


class Seen:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.watches: list[Watch] = []

    def saw(self, watch: Watch) -> None:
        self.watches.append(watch)

    def close(self) -> None:
        pass


def test_calls_of_grpc_are_watched() -> None:
    async def well(content: Any, _headers: Any) -> Answer:
        return Answer(bytes(content) * 2)

    async def badly(_content: Any, _headers: Any) -> Answer:
        raise InvalidSpecError("wrong")

    seen = Seen()
    methods = watched_methods({"/a/Well": Method(single=well), "/a/Badly": Method(single=badly)}, [seen])

    async def ask(path: str) -> None:
        single = methods[path].single
        assert single is not None
        await single(b"four", {})

    asyncio.run(ask("/a/Well"))
    with pytest.raises(InvalidSpecError):
        asyncio.run(ask("/a/Badly"))
    told = [(watch.path, watch.status, watch.received, watch.sent) for watch in seen.watches]
    assert told == [("/a/Well", 200, 4, 8), ("/a/Badly", 400, 4, 0)]


def test_lines_are_kept_until_there_are_many(tmp_path: Path) -> None:
    file = tmp_path / "log"

    async def write() -> int:
        log = AccessLog(str(file))
        count = 0
        while not file.exists():
            log.saw(Watch(protocol="http", method="GET", path="/" + "x" * 9_999, client="", headers={}))
            count += 1
        file.rename(tmp_path / "moved")  # as who keeps old logs does
        log.saw(Watch(protocol="http", method="GET", path="/last", client="", headers={}))
        log.close()
        return count

    count = asyncio.run(write())
    first = (tmp_path / "moved").read_bytes()
    assert first.count(b"\n") == count
    assert LARGEST_KEPT <= len(first) < LARGEST_KEPT + 1_000
    assert json.loads(file.read_text())["path"] == "/last"
