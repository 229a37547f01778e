"""gRPC over real sockets, with gRPC's own client: every kind of call, statuses, deadlines, compression, large messages, draining."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
import pytest
import uvloop
from tests.serving.http2_bench import BEGIN, REQUEST, Frame, data, frames_of, headers
from tests.serving.workbench import Bench, bench, make_version, served

from goldenloop.core.errors import InvalidSpecError, NotFoundError, UnavailableError
from goldenloop.core.routing import Service
from goldenloop.core.served import TensorSpec
from goldenloop.serving.endpoints import Endpoints, IndexEntry, ServerMetadata
from goldenloop.serving.grpc import calls, frames, health, inbox, listening, server
from goldenloop.serving.grpc.coding import framed
from goldenloop.serving.grpc.hpack import Field, encode
from goldenloop.serving.grpc.methods import Answer, Headers, Incoming, Method
from goldenloop.serving.grpc.server import GrpcServer
from goldenloop.serving.grpc.streams import Stream
from goldenloop.standards.grpc_services import HEALTH, REFLECTIONS
from goldenloop.standards.open_inference.messages import MESSAGES, REFUSED, SERVICE
from goldenloop.standards.open_inference.records import InferRequest, InferResponse, ModelMetadata
from goldenloop.standards.open_inference.tensors import Tensor

INFER = f"/{SERVICE}/ModelInfer"
STREAM = f"/{SERVICE}/ModelStreamInfer"
ID = "01930000-0000-7000-8000-000000000001"


class Plane:
    is_ready = True
    has_hosts = False
    begun = 0

    def begin(self) -> None:
        self.begun += 1


class Echo:
    """Endpoints that answer with their inputs; the model's name says what else is to happen."""

    def __init__(self) -> None:
        self.plane = Plane()
        self.log_settings: dict[str, object] = {"log_info": True, "log_verbose_level": 0}
        self.seen: list[Mapping[str, str]] = []
        self.cancelled = threading.Event()
        self.running = 0
        self.most_running = 0
        self.wanted: list[tuple[str, bool]] = []

    async def infer(self, request: InferRequest, headers: Headers, *, namespace: str | None = None) -> InferResponse:
        assert namespace is None
        self.seen.append(dict(headers))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if request.model.startswith("slow"):
                await asyncio.sleep(float(request.model[4:] or 30))
            if request.model == "missing":
                raise NotFoundError("there is no service 'missing'", mend="50% of them are ☃.")
            if request.model == "bug":
                raise ZeroDivisionError("a bug")
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.running -= 1
        outputs = [Tensor(each.name, each.datatype, each.shape, each.array()) for each in request.inputs]
        return InferResponse(
            model_name=request.model, model_version="1", id=request.id or ID, outputs=outputs, prediction=ID
        )

    def server(self) -> ServerMetadata:
        return ServerMetadata("goldenloop", "1", ("a", "b"))

    def is_ready(self, name: str, version: str = "", *, namespace: str | None = None) -> bool:
        if name == "missing":
            raise NotFoundError("there is none")
        return (version, namespace) == ("", None)

    async def metadata(self, name: str, version: str = "", **_namespace: object) -> ModelMetadata:
        return ModelMetadata(
            name, (version, "9"), "p", (TensorSpec("x", "FP32", (-1, 3)),), (TensorSpec("y", "BYTES", (-1,)),)
        )

    async def config(self, name: str, _version: str = "", **_namespace: object) -> dict[str, object]:
        return {"name": name, "max_batch_size": 7, "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1]}]}

    def statistics(self, name: str = "", version: str = "", **_namespace: object) -> list[dict[str, object]]:
        return [
            {
                "name": name,
                "version": version,
                "inference_count": 5,
                "inference_stats": {"success": {"count": 5, "ns": 9}},
            }
        ]

    def index(self, *, ready: bool = False) -> list[IndexEntry]:
        return [IndexEntry("m", "1", "READY")] + ([] if ready else [IndexEntry("n", "2", "UNAVAILABLE", "broken")])

    async def load(self, name: str) -> None:
        self.wanted.append((name, True))

    async def unload(self, name: str) -> None:
        self.wanted.append((name, False))
        raise UnavailableError("control is away")


class Room:
    """A server in a thread of its own, on its own event loop."""

    def __init__(self) -> None:
        self.endpoints = Echo()
        self.faults: list[dict[str, Any]] = []
        self.loop = uvloop.new_event_loop()
        self.loop.set_exception_handler(lambda _loop, context: self.faults.append(context))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.server: GrpcServer
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.do(self._start())

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    async def _start(self) -> None:
        self.server = GrpcServer(cast(Endpoints, self.endpoints))
        await self.server.start(self.listener)

    def do(self, work: Any, seconds: float = 20) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(seconds)

    def call(self, function: Callable[[], object]) -> object:
        async def run() -> object:
            return function()

        return self.do(run())

    def sweep(self, later: float) -> None:
        """Look at all connections as if so many seconds had passed."""
        self.call(lambda: [client.sweep(self.loop.time() + later) for client in list(self.server._clients)])

    def close(self) -> None:
        self.do(self.server.drain(2))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()

    @contextlib.contextmanager
    def channel(self, **options: object) -> Iterator[grpc.Channel]:
        given = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        with grpc.insecure_channel(f"127.0.0.1:{self.port}", options=[*given, *options.items()]) as channel:
            yield channel

    @contextlib.contextmanager
    def raw(self, sent: bytes = BEGIN) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(sent)
            yield connection


@pytest.fixture
def room() -> Iterator[Room]:
    made = Room()
    yield made
    made.close()
    assert made.faults == []
    large, small = made.server._budgets.large, made.server._budgets.small
    assert (large.left, small.left) == (inbox.LARGEST_BUDGET, inbox.SMALL_BUDGET)  # everything was given back


def question(model: str = "m", values: np.ndarray | None = None, **fields: object) -> bytes:
    array = np.array([[1.0, 2.0]]) if values is None else values
    described = {"name": "x", "datatype": "FP64", "shape": array.shape}
    return MESSAGES.write(
        "ModelInferRequest", model_name=model, inputs=[described], raw_input_contents=[array.tobytes()], **fields
    )


def read(content: bytes, name: str = "ModelInferResponse") -> Any:
    return MESSAGES.read(content, name, Any)


def ask(channel: grpc.Channel, method: str, **fields: object) -> Any:
    content = MESSAGES.write(f"{method}Request", **fields)
    return read(channel.unary_unary(f"/{SERVICE}/{method}")(content, timeout=10), f"{method}Response")


def failure(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details() or ""


def test_a_call_is_answered_with_its_prediction_id(room: Room) -> None:
    with room.channel() as channel:
        answer, call = channel.unary_unary(INFER).with_call(
            question(id="mine"), metadata=[("x-route-key", "a"), ("x-event-time", "5")], timeout=10
        )
    said = read(answer)
    assert (said.model_name, said.id) == ("m", "mine")
    assert np.frombuffer(said.raw_output_contents[0]).tolist() == [1.0, 2.0]
    assert dict(call.initial_metadata())["x-prediction-id"] == ID
    (seen,) = room.endpoints.seen
    assert (seen["x-route-key"], seen["x-event-time"], seen["host"]) == ("a", "5", f"127.0.0.1:{room.port}")
    assert room.endpoints.plane.begun == 1


def test_every_other_method(room: Room) -> None:
    with room.channel() as channel:
        assert ask(channel, "ServerLive").live
        assert ask(channel, "ServerReady").ready
        assert list(ask(channel, "ServerMetadata").extensions) == ["a", "b"]
        assert ask(channel, "ModelReady", name="m").ready
        assert not ask(channel, "ModelReady", name="missing").ready
        metadata = ask(channel, "ModelMetadata", name="m", version="3")
        assert (metadata.name, list(metadata.versions), list(metadata.inputs[0].shape)) == ("m", ["3", "9"], [-1, 3])
        assert ask(channel, "ModelConfig", name="m").config.max_batch_size == 7
        (stats,) = ask(channel, "ModelStatistics", name="m", version="1").model_stats
        assert (stats.inference_count, stats.inference_stats.success.ns) == (5, 9)
        assert [entry.state for entry in ask(channel, "RepositoryIndex").models] == ["READY", "UNAVAILABLE"]
        assert len(ask(channel, "RepositoryIndex", ready=True).models) == 1
        assert ask(channel, "RepositoryModelLoad", model_name="m").isLoaded
        assert ask(channel, "RepositoryModelLoad", repository_name="kserve's field").model_name == "kserve's field"
        assert room.endpoints.wanted == [("m", True), ("kserve's field", True)]
        settings = ask(
            channel, "LogSettings", settings={"log_verbose_level": {"uint32_param": 2}, "unknown": {"bool_param": True}}
        )
        assert settings.settings["log_verbose_level"].uint32_param == 2
        assert "unknown" not in settings.settings


def test_every_wrong_call_has_its_status(room: Room) -> None:
    with room.channel() as channel:
        infer = channel.unary_unary(INFER)
        code, text = failure(lambda: infer(question("missing"), timeout=10))
        assert (code, text) == (grpc.StatusCode.NOT_FOUND, "there is no service 'missing'. 50% of them are ☃.")
        assert failure(lambda: infer(b"\xff", timeout=10))[0] == grpc.StatusCode.INVALID_ARGUMENT
        assert failure(lambda: ask(channel, "RepositoryModelLoad"))[0] == grpc.StatusCode.INVALID_ARGUMENT
        files = {"file:1/model.onnx": {"bytes_param": b"x"}}
        code, text = failure(lambda: ask(channel, "RepositoryModelLoad", model_name="m", parameters=files))
        assert (code, "storageUri" in text) == (grpc.StatusCode.INVALID_ARGUMENT, True)
        assert failure(lambda: ask(channel, "RepositoryModelUnload", model_name="m"))[0] == grpc.StatusCode.UNAVAILABLE
        for name in REFUSED:
            code, text = failure(lambda name=name: channel.unary_unary(f"/{SERVICE}/{name}")(b"", timeout=10))
            assert (code, "not served" in text) == (grpc.StatusCode.UNIMPLEMENTED, True)
        code, text = failure(lambda: channel.unary_unary("/a.B/C")(b"", timeout=10))
        assert (code, "/a.B/C" in text) == (grpc.StatusCode.UNIMPLEMENTED, True)
        several = channel.stream_unary(INFER)
        assert failure(lambda: several(iter([question(), question()]), timeout=10))[0] == grpc.StatusCode.UNIMPLEMENTED
        assert failure(lambda: several(iter([]), timeout=10))[0] == grpc.StatusCode.UNIMPLEMENTED
        assert read(infer(question(), timeout=10)).model_name == "m"


def test_a_bug_is_told_and_reported_and_the_server_lives(room: Room) -> None:
    with room.channel() as channel:
        code, text = failure(lambda: channel.unary_unary(INFER)(question("bug"), timeout=10))
        assert (code, text) == (grpc.StatusCode.INTERNAL, "internal error: ZeroDivisionError: a bug")
        assert ask(channel, "ServerLive").live
    assert [type(fault["exception"]) for fault in room.faults] == [ZeroDivisionError]
    room.faults.clear()


def test_deadlines_pass_and_the_work_is_cancelled(room: Room) -> None:
    with room.channel() as channel:
        code, _ = failure(lambda: channel.unary_unary(INFER)(question("slow"), timeout=0.2))
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert room.endpoints.cancelled.wait(5)


def test_the_server_says_that_a_deadline_has_passed(room: Room) -> None:
    fields: list[Field] = [*REQUEST[:2], (b":path", INFER.encode()), *REQUEST[3:], (b"grpc-timeout", b"100m")]
    with room.raw() as connection:
        connection.sendall(headers(1, encode(fields)) + data(1, framed(question("slow"))))
        assert status_in(connection, 1) == (4, "the call's deadline has passed. Wait longer.")
        connection.sendall(headers(3, encode([*fields[:-1], (b"grpc-timeout", b"soon")])) + data(3, framed(question())))
        assert status_in(connection, 3)[0] == 3
    assert room.endpoints.cancelled.wait(5)


def test_a_cancelled_call_is_given_up(room: Room) -> None:
    with room.channel() as channel:
        future = channel.unary_unary(INFER).future(question("slow"))
        until(lambda: room.endpoints.running == 1)
        future.cancel()
        assert room.endpoints.cancelled.wait(5)
        assert ask(channel, "ServerLive").live


@pytest.mark.parametrize(
    "compression", [grpc.Compression.Gzip, grpc.Compression.Deflate, grpc.Compression.NoCompression]
)
def test_compression_both_ways(room: Room, compression: grpc.Compression) -> None:
    values = np.zeros((400, 100))
    with room.channel() as channel:
        answer, call = channel.unary_unary(INFER).with_call(
            question(values=values), compression=compression, timeout=10
        )
    assert np.frombuffer(read(answer).raw_output_contents[0]).size == 40_000
    expected = {grpc.Compression.Gzip: "gzip", grpc.Compression.Deflate: "deflate"}.get(compression)
    assert room.endpoints.seen[0].get("grpc-encoding") == expected
    assert "x-prediction-id" in dict(call.initial_metadata())


def test_an_answer_is_compressed_as_the_question_was(room: Room) -> None:
    from goldenloop.serving.grpc.coding import packed, unpacked

    fields: list[Field] = [*REQUEST[:2], (b":path", INFER.encode()), *REQUEST[3:], (b"grpc-encoding", b"gzip")]
    values = np.zeros((100, 100))
    for accepted, flag in ((b"gzip", 1), (b"identity", 0)):
        with room.raw() as connection:
            block = encode([*fields, (b"grpc-accept-encoding", accepted)])
            connection.sendall(headers(1, block) + window(1 << 20) + data(1, packed(question(values=values), "gzip")))
            body = b"".join(each.payload for each in until_end(connection, 1) if each.kind == frames.DATA)
        assert body[0] == flag
        content = unpacked(body[5:], "gzip") if flag else body[5:]
        assert np.frombuffer(read(content).raw_output_contents[0]).size == 10_000


def window(size: int) -> bytes:
    return frames.settings({frames.INITIAL_WINDOW_SIZE: size}) + frames.window_update(0, size)


def test_messages_of_many_megabytes_pass_side_by_side(room: Room) -> None:
    values = np.random.default_rng(1).normal(size=(30, 100_000))  # 24 MB
    with room.channel() as channel:
        futures = [channel.unary_unary(INFER).future(question(values=values), timeout=60) for _ in range(4)]
        small = channel.unary_unary(INFER)(question(), timeout=10)
        assert read(small).model_name == "m"
        for future in futures:
            assert read(future.result()).raw_output_contents[0] == values.tobytes()


def test_a_message_that_is_too_large_is_refused_before_it_has_come(room: Room) -> None:
    with room.channel() as channel:
        code, text = failure(lambda: channel.unary_unary(INFER)(bytes(inbox.LARGEST_MESSAGE + 1), timeout=20))
        assert (code, str(inbox.LARGEST_MESSAGE) in text) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
        assert ask(channel, "ServerLive").live


def test_many_calls_at_once_on_one_connection(room: Room) -> None:
    with room.channel() as channel:
        futures = [
            channel.unary_unary(INFER).future(question("slow0.05", id=str(place)), timeout=30) for place in range(600)
        ]
        assert [read(future.result()).id for future in futures] == [str(place) for place in range(600)]
    assert room.endpoints.most_running > 100


def test_calls_that_are_over_are_gone_without_a_collector(room: Room) -> None:
    def count() -> int:
        return sum(isinstance(each, calls.Call | calls.Conversing | Stream) for each in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        with room.channel() as channel:
            for place in range(20):
                channel.unary_unary(INFER)(question(), timeout=10)
                failure(lambda: channel.unary_unary(INFER)(question("missing"), timeout=10))
                failure(lambda: channel.unary_unary(INFER)(question("slow"), timeout=0.02))
                list(channel.stream_stream(STREAM)(iter([question(id=str(place))]), timeout=10))
            until(lambda: count() < 5)
    finally:
        gc.enable()


def test_a_stream_is_answered_in_order_and_goes_on_after_errors(room: Room) -> None:
    def questions() -> Iterator[bytes]:
        for place in range(100):
            yield question("slow0.02" if place % 7 == 0 else "m", id=str(place))
        yield question("missing", id="bad")
        yield b"\xff"
        yield question(id="last", parameters={"triton_enable_empty_final_response": {"bool_param": True}})

    with room.channel() as channel:
        answers = [
            read(each, "ModelStreamInferResponse") for each in channel.stream_stream(STREAM)(questions(), timeout=20)
        ]
    assert [answer.infer_response.id for answer in answers[:100]] == [str(place) for place in range(100)]
    assert (answers[100].infer_response.id, "no service" in answers[100].error_message) == ("bad", True)
    assert "no ModelInferRequest" in answers[101].error_message
    assert answers[102].infer_response.parameters["triton_final_response"].bool_param
    assert len(answers) == 103
    assert 2 <= room.endpoints.most_running <= 16


def test_a_stream_whose_client_does_not_read_takes_no_more(room: Room) -> None:
    values = np.zeros((100, 1000))  # 800 kB
    sent = 0

    def questions() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(200):
            sent += 1
            yield question(values=values)

    with room.channel() as channel:
        answers = channel.stream_stream(STREAM)(questions(), timeout=60)
        until(lambda: sent > 5)
        time.sleep(1.0)
        assert sent < 100
        assert len(list(answers)) == 200


def test_a_stream_that_is_cancelled_stops_its_work(room: Room) -> None:
    with room.channel() as channel:
        answers = channel.stream_stream(STREAM)(iter([question(), question("slow")]))
        next(answers)
        until(lambda: room.endpoints.running == 1)
        answers.cancel()
        assert room.endpoints.cancelled.wait(5)
    until(lambda: room.endpoints.running == 0)


def test_keepalive_pings_are_answered(room: Room) -> None:
    options = {
        "grpc.keepalive_time_ms": 100,
        "grpc.keepalive_timeout_ms": 500,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.http2.max_pings_without_data": 0,
    }
    with room.channel(**options) as channel:
        assert ask(channel, "ServerLive").live
        time.sleep(1.5)
        assert len(room.server._clients) == 1
        assert ask(channel, "ServerLive").live


def test_health(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "WATCH_SECONDS", 0.05)

    def status(content: bytes) -> int:
        return cast(int, HEALTH.read(content, "HealthCheckResponse", Any).status)

    with room.channel() as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        for service in ("", SERVICE):
            assert status(check(HEALTH.write("HealthCheckRequest", service=service), timeout=10)) == 1
        code, _ = failure(lambda: check(HEALTH.write("HealthCheckRequest", service="other"), timeout=10))
        assert code == grpc.StatusCode.NOT_FOUND
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(HEALTH.write("HealthCheckRequest"), timeout=20)
        assert status(next(watch)) == 1
        room.endpoints.plane.is_ready = False
        assert status(next(watch)) == 2
        watch.cancel()
        other = channel.unary_stream("/grpc.health.v1.Health/Watch")(
            HEALTH.write("HealthCheckRequest", service="x"), timeout=20
        )
        assert status(next(other)) == 3
        other.cancel()


@pytest.mark.parametrize("place", [0, 1])
def test_reflection(room: Room, place: int) -> None:
    messages = REFLECTIONS[place]
    path = f"/{messages.services[0]}/ServerReflectionInfo"

    def told(**fields: object) -> Any:
        content = messages.write("ServerReflectionRequest", **fields)
        (answer,) = channel.stream_stream(path)(iter([content]), timeout=10)
        return messages.read(answer, "ServerReflectionResponse", Any)

    with room.channel() as channel:
        services = told(list_services="").list_services_response.service
        assert {SERVICE, "grpc.health.v1.Health", *messages.services} <= {each.name for each in services}
        for fields in ({"file_containing_symbol": SERVICE}, {"file_by_filename": "grpc_service.proto"}):
            assert list(told(**fields).file_descriptor_response.file_descriptor_proto) == [MESSAGES.description]
        assert told(file_containing_symbol="a.B").error_response.error_code == 5
        assert told(file_containing_extension={"containing_type": "x"}).error_response.error_code == 5


def test_what_is_no_grpc_call(room: Room) -> None:
    for fields in (
        [*REQUEST[:5]],
        [(b":method", b"GET"), *REQUEST[1:]],
        [*REQUEST[:5], (b"content-type", b"application/json")],
    ):
        with room.raw() as connection:
            connection.sendall(headers(1, encode(fields)) + data(1, b"{}"))
            assert b"415" in until_end(connection, 1)[0].payload
    large = [*REQUEST, *((b"x%d" % place, b"v" * 900) for place in range(20))]
    with room.raw() as connection:
        connection.sendall(headers(1, encode(large)) + data(1, b""))
        assert status_in(connection, 1)[0] == 8
    unknown: list[Field] = [*REQUEST[:2], (b":path", INFER.encode()), *REQUEST[3:], (b"grpc-encoding", b"br")]
    with room.raw() as connection:
        connection.sendall(headers(1, encode(unknown)) + data(1, framed(b"")))
        assert status_in(connection, 1)[0] == 12


def test_a_half_closed_connection_gets_its_answer(room: Room) -> None:
    block = encode([*REQUEST[:2], (b":path", INFER.encode()), *REQUEST[3:]])
    with room.raw() as connection:
        connection.sendall(headers(1, block) + data(1, framed(question("slow0.2"))))
        connection.shutdown(socket.SHUT_WR)
        got = received(connection)
    assert any(each.kind == frames.DATA and each.stream == 1 for each in frames_of(got))


def test_who_begins_and_does_not_go_on_is_sent_away(room: Room) -> None:
    block = encode([*REQUEST[:2], (b":path", INFER.encode()), *REQUEST[3:]])
    with (
        room.raw(BEGIN[:10]) as silent,
        room.raw(BEGIN + headers(1, block)) as empty,
        room.raw() as large,
        room.raw() as idle,
    ):
        large.sendall(headers(1, block) + data(1, framed(bytes(5_000_000))[:1000], 0))
        until(lambda: len(room.server._clients) == 4 and room.endpoints.plane.begun == 2)
        room.sweep(0)
        room.sweep(listening.BEGINNING_SECONDS + 1)
        assert received(silent) == b""
        room.sweep(inbox.PATIENCE_SECONDS - 5)
        assert len(room.server._clients) == 3
        room.sweep(inbox.PATIENCE_SECONDS + 10)
        assert status_in(empty, 1)[0] == 4
        assert status_in(large, 1)[0] == 4
        idle.sendall(frames.frame(frames.PING, 0, 0, bytes(8)))
        assert any(each.kind == frames.PING for each in some(idle, lambda found: found[-1].kind == frames.PING))


def test_an_answer_that_is_not_taken_is_given_up(room: Room) -> None:
    block = encode([*REQUEST[:2], (b":path", INFER.encode()), *REQUEST[3:]])
    with room.raw(frames.PREFACE + frames.settings({frames.INITIAL_WINDOW_SIZE: 10})) as connection:
        connection.sendall(headers(1, block) + data(1, framed(question())))
        until(lambda: bool(room.endpoints.seen) and room.endpoints.running == 0)
        room.sweep(1)
        room.sweep(inbox.PATIENCE_SECONDS + 5)
        found = until_end(connection, 1)
    assert (found[-1].kind, found[-1].code) == (frames.RST_STREAM, frames.Code.CANCEL)


def test_a_client_that_does_not_read_is_read_no_further(room: Room) -> None:
    with room.raw() as connection:
        connection.setblocking(False)
        flood = frames.frame(frames.PING, 0, 0, bytes(8)) * 400
        sent = 0
        with contextlib.suppress(BlockingIOError, ConnectionError):  # no longer read, or sent away
            while sent < 200_000_000:
                sent += connection.send(flood)
        assert sent < 200_000_000
    until(lambda: not room.server._clients)


def test_more_connections_than_may_be_are_closed(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "MOST_CONNECTIONS", 2)
    with room.raw() as one, room.raw() as two:
        until(lambda: len(room.server._clients) == 2)
        with room.raw() as three, contextlib.suppress(ConnectionError):
            assert received(three) == b""
        for each in (one, two):
            assert some(each, bool)


def test_random_bytes_do_not_disturb_others(room: Room) -> None:
    generator = np.random.default_rng(3)
    with room.channel() as channel:
        for _ in range(60):
            with room.raw(BEGIN if generator.random() < 0.7 else b"") as connection, contextlib.suppress(OSError):
                for _ in range(4):
                    kind, flags, stream = (int(number) for number in generator.integers(0, 10, 3))
                    payload = generator.bytes(int(generator.integers(0, 60)))
                    connection.sendall(frames.frame(kind, flags, stream, payload))
        assert read(channel.unary_unary(INFER)(question(), timeout=10)).model_name == "m"
    until(lambda: not room.server._clients)


def test_draining_finishes_calls_and_ends() -> None:
    made = Room()
    with made.channel() as channel:
        future = channel.unary_unary(INFER).future(question("slow0.5"), timeout=10)
        until(lambda: made.endpoints.running == 1)
        begun = time.monotonic()
        made.do(made.server.drain(10))
        assert 0.2 < time.monotonic() - begun < 5
        assert read(future.result()).model_name == "slow0.5"
        code, _ = failure(lambda: channel.unary_unary(INFER)(question(), timeout=2))
        assert code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    made.close()


def test_draining_cuts_off_what_does_not_end() -> None:
    made = Room()
    with made.channel() as channel:
        future = channel.unary_unary(INFER).future(question("slow"))
        until(lambda: made.endpoints.running == 1)
        made.do(made.server.drain(0.5))
        assert failure(future.result)[0] == grpc.StatusCode.UNAVAILABLE
        assert made.endpoints.cancelled.wait(5)
    made.close()


def test_a_conversation_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def converse(messages: AsyncIterator[Incoming], _headers: Headers) -> AsyncGenerator[bytes, None]:
        async for message in messages:
            yield bytes(message.content)
            raise InvalidSpecError("enough")

    async def never(_content: bytes, _headers: Headers) -> Answer:
        raise asyncio.CancelledError

    methods = {"/a.B/C": Method(conversation=converse), "/a.B/D": Method(single=never)}
    monkeypatch.setattr(server, "_methods", lambda _endpoints: methods)
    made = Room()
    with made.channel() as channel:
        answers = channel.stream_stream("/a.B/C")(iter([b"one", b"two"]), timeout=10)
        assert next(answers) == b"one"
        assert failure(lambda: next(answers)) == (grpc.StatusCode.INVALID_ARGUMENT, "enough")
        assert failure(lambda: channel.unary_unary("/a.B/D")(b"", timeout=10))[0] == grpc.StatusCode.UNAVAILABLE
    made.close()
    assert made.faults == []


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[tuple[Bench, subprocess.Popen[bytes], int]]:
    with bench(tmp_path) as made, socket.create_server(("127.0.0.1", 0)) as listener:
        version = served("1", make_version(tmp_path / "1"))
        made.publish(Service(namespace="default", name="elec", loop="elec", champion="1", versions=(version,)))
        command = [sys.executable, "-m", "goldenloop.serving.worker", "--name", "w", "--table", str(made.table)]
        command += ["--payloads", str(made.folder / "payloads"), "--control", str(made.socket_path)]
        command += ["--http-fd", str(made.listener.fileno()), "--grpc-fd", str(listener.fileno())]
        command += ["--metrics", str(made.folder / "metrics")]
        process = subprocess.Popen(
            command,
            pass_fds=[made.listener.fileno(), listener.fileno()],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        made.processes.append(process)
        made.wait_ready()
        yield made, process, listener.getsockname()[1]


@pytest.mark.process
def test_a_worker_answers_and_logs_over_grpc(worker: tuple[Bench, subprocess.Popen[bytes], int]) -> None:
    made, process, port = worker
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer = channel.unary_unary(INFER)
        answer = read(infer(question("elec", np.array([[2.0, 0.1, 0.1]]), id="mine"), timeout=10))
        assert answer.raw_output_contents[0] == b"\x02\0\0\0UP"
        code, text = failure(lambda: infer(question("elec", np.array([[2.0]])), timeout=10))
        assert (code, text.startswith("inputs")) == (grpc.StatusCode.INVALID_ARGUMENT, True), text
        assert failure(lambda: infer(question("none"), timeout=10))[0] == grpc.StatusCode.NOT_FOUND
        futures = [infer.future(question("elec", np.array([[2.0, 0.1, 0.1]])), timeout=20) for _ in range(200)]
        process.send_signal(signal.SIGTERM)
        answered = sum(future.exception() is None for future in futures)
    assert process.wait(20) == 0
    predictions, _ = made.records()
    assert len(predictions) >= answered + 1
    assert predictions[0].alias == "mine"


def until(is_true: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


def received(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    got = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65_536):
            got += chunk
    return bytes(got)


def some(connection: socket.socket, is_enough: Callable[[list[Frame]], bool]) -> list[Frame]:
    got = bytearray()
    while True:
        chunk = connection.recv(65_536)
        assert chunk, "the connection ended"
        got += chunk
        with contextlib.suppress(AssertionError):
            found = frames_of(bytes(got))
            if found and is_enough(found):
                return found


def until_end(connection: socket.socket, stream: int) -> list[Frame]:
    """The frames of a stream, up to the one that ends it."""

    def has_ended(found: list[Frame]) -> bool:
        return any(
            each.stream == stream
            and (each.kind == frames.RST_STREAM or (each.kind == frames.HEADERS and each.flags & 1))
            for each in found
        )

    return [each for each in some(connection, has_ended) if each.stream == stream and each.kind != frames.WINDOW_UPDATE]


def status_in(connection: socket.socket, stream: int) -> tuple[int, str]:
    from urllib.parse import unquote

    from tests.serving.http2_bench import fields_of

    block = next(each for each in reversed(until_end(connection, stream)) if each.kind == frames.HEADERS)
    fields = fields_of(block.payload)
    return int(fields[b"grpc-status"]), unquote(fields[b"grpc-message"].decode())
