"""No change of what is served fails a request: hundreds of routing tables under load, workers replaced, a version rolled back."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from tests.serving.workbench import break_version, make_version, served
from tests.support.servers import Servers, servers

from goldenloop.core.routing import Batcher, Route, Served, Service
from goldenloop.standards.open_inference.messages import MESSAGES, SERVICE

pytestmark = pytest.mark.process

ROW = [2.0, 0.1, 0.1]
UP = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": ROW}]}
SAYS = {"1": "UP", "2": "DOWN", "3": "UP"}  # by the version that answers a request for UP
CLASS = """
    class Constant:
        def predict(self, payload):
            return {{"predictions": [{number} for _ in payload["instances"]]}}
"""
WORKERS = ["worker-0", "worker-1"]
ROLLBACK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Between which moments a request was under way, and which version said that it answered."""

    begun: float
    ended: float
    version: str


@dataclass(frozen=True, slots=True)
class Span:
    """A state of a service: since when its table lay there, since when every worker had it, and who may answer."""

    published: float
    in_force: float
    versions: frozenset[str]


@dataclass
class Load:
    """One client in a thread, one request after the other, none sent again. `ask` makes one and returns the version that answered."""

    ask: Callable[[], str]
    pause: float = 0.0
    answers: list[Answer] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def run(self, stopping: threading.Event) -> None:
        while not stopping.wait(self.pause) and not self.failures:
            begun = time.monotonic()
            try:
                version = self.ask()
            except Exception as error:
                self.failures.append(f"after {len(self.answers)} answers: {type(error).__name__}: {error}")
                return
            self.answers.append(Answer(begun, time.monotonic(), version))


class UnderLoad:
    """Clients that ask for as long as the block lasts."""

    def __init__(self, *loads: Load) -> None:
        self._loads = loads
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=load.run, args=(self._stopping,), daemon=True) for load in loads]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()
        end = time.monotonic() + 60
        while any(len(load.answers) < 3 and not load.failures for load in self._loads):
            assert time.monotonic() < end, "there are no answers"
            time.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads), "a request is not answered"
        assert [failure for load in self._loads for failure in load.failures] == []


class Connection:
    """REST, on a connection that stays open or, where `keeps` is false, on another one for each request."""

    def __init__(self, room: Servers, *, keeps: bool = True) -> None:
        self._room = room
        self._keeps = keeps
        self._connection: http.client.HTTPConnection | None = None

    def post(self, path: str, body: object) -> tuple[int, dict[str, Any]]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._room.rest, timeout=60)
        self._connection.request("POST", path, json.dumps(body), {} if self._keeps else {"Connection": "close"})
        reply = self._connection.getresponse()
        content = json.loads(reply.read())
        if not self._keeps:
            self._connection.close()
            self._connection = None
        return reply.status, content

    def well(self, path: str, body: object) -> dict[str, Any]:
        status, content = self.post(path, body)
        assert status == 200, content
        return content


def asking_v2(room: Servers, name: str, *, keeps: bool = True) -> Load:
    """The answer has to be that of the version it is said to be from."""
    connection = Connection(room, keeps=keeps)

    def ask() -> str:
        content = connection.well(f"/v2/models/{name}/infer", UP)
        version: str = content["model_version"]
        assert content["outputs"][0]["data"] == [SAYS[version]], content
        return version

    return Load(ask)


def asking_grpc(room: Servers, name: str) -> Load:
    options = [("grpc.use_local_subchannel_pool", 1)]
    call = grpc.insecure_channel(f"127.0.0.1:{room.grpc}", options=options).unary_unary(f"/{SERVICE}/ModelInfer")
    contents = {"fp64_contents": ROW}
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, 3], "contents": contents}
    question = MESSAGES.write("ModelInferRequest", model_name=name, inputs=[tensor])

    def ask() -> str:
        # A connection that a stopping worker closes is made again by the library; a call that was taken is never sent again.
        said = MESSAGES.read(call(question, timeout=60, wait_for_ready=True), "ModelInferResponse", Any)
        first = said.outputs[0]
        assert list(first.contents.bytes_contents) == [SAYS[said.model_version].encode()], said
        return str(said.model_version)

    return Load(ask, pause=0.002)


def asking_code(room: Servers, name: str) -> Load:
    connection = Connection(room)

    def ask() -> str:
        (number,) = connection.well(f"/v1/models/{name}:predict", {"instances": [1]})["predictions"]
        return str(number)

    return Load(ask, pause=0.002)


def asking_what_may_be_unloaded(room: Servers, name: str) -> Load:
    connection = Connection(room)

    def ask() -> str:
        status, content = connection.post(f"/v2/models/{name}/infer", UP)
        if status == 503:
            assert f"the model '{name}' is unloaded" in content["error"]
            return "unloaded"
        assert status == 200, content
        return str(content["model_version"])

    return Load(ask, pause=0.005)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Served]:
    folder = tmp_path_factory.mktemp("versions")
    paths = {
        "1": make_version(folder / "1"),
        "2": make_version(folder / "2", flipped=True),
        "3": make_version(folder / "3"),
        "broken": break_version(folder / "broken"),
    }
    return {version: served(version, path) for version, path in paths.items()}


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Servers]:
    with servers(tmp_path / "home") as made:
        yield made


def service(name: str, *versions: Served, **fields: Any) -> Service:
    plain = {"namespace": "default", "name": name, "champion": versions[0].version, "payload_mode": "interval"}
    return Service(versions=versions, **{**plain, **fields})


@dataclass
class Changing:
    """What is served, one change after the other, and who may answer since when."""

    room: Servers
    models: dict[str, Served]
    codes: dict[str, Served]
    dice: random.Random
    services: dict[str, Service] = field(default_factory=dict)
    spans: dict[str, list[Span]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    _extra: Iterator[int] = field(default_factory=itertools.count)

    def begin(self) -> None:
        """The first table."""
        self.services = {
            "iris": service("iris", self.models["1"], self.models["2"], self.models["3"], loop="iris"),
            "odd": service("odd", self.codes["1"]),
            "sleepy": service("sleepy", self.models["1"], min_replicas=0, idle_seconds=0.1),
            "other": service("other", self.models["1"]),
        }
        self.room.publish(*self.services.values())

    def all_in_force(self) -> None:
        now = time.monotonic()
        self.spans = {name: [Span(now, now, answering(each))] for name, each in self.services.items()}

    def change(self) -> None:
        """Draw a change, publish it, and wait until every worker answers by it."""
        kind: Callable[[], Service | None] = self.dice.choice([
            self.swap, self.swap, self.canary, self.shadow, self.roll_back, self.payloads, self.code, self.scale,
            self.from_zero, self.unload, self.another, self.broken, self.batches,
        ])  # fmt: skip
        self.counts[kind.__name__] += 1
        changed = kind()
        tables = dict(self.services) if changed is None else {**self.services, changed.name: changed}
        published = time.monotonic()
        generation = self.room.publish(*tables.values())
        failed = self.room.wait(generation)
        in_force = time.monotonic()
        if kind == self.broken:
            assert set(failed) == {"default/iris/broken"}  # what answered before goes on
            return
        assert failed == {}
        self.services = tables
        for name, each in tables.items():
            span = Span(published, in_force, answering(each))
            if name in self.spans and self.spans[name][-1].versions != span.versions:
                self.spans[name].append(span)

    # kinds of changes; each returns the service as it is to be

    def swap(self) -> Service:
        return self._iris(champion=self.dice.choice("123"), routes=(), shadows=())

    def canary(self) -> Service:
        first, second = self.dice.sample("123", 2)
        route = Route(version=second, percent=self.dice.choice([1, 25, 50, 100]))
        return self._iris(champion=first, routes=(route,), shadows=())

    def shadow(self) -> Service:
        first, second, third = self.dice.sample("123", 3)
        return self._iris(champion=first, routes=(), shadows=(second, third))

    def roll_back(self) -> Service:
        now = self.services["iris"]
        others = [version for version in "123" if version not in answering(now)] or ["1"]
        return self._iris(champion=others[0], routes=(), shadows=())

    def payloads(self) -> Service:
        mode = self.dice.choice(["interval", "durable", "async"])
        return self._iris(payload_mode=mode, loop=self.dice.choice(["iris", None]))

    def batches(self) -> Service:
        batcher = self.dice.choice([None, Batcher(max_batch_size=8, max_latency_ms=5)])
        return self._iris(batcher=batcher, concurrency=self.dice.choice([None, 1, 4]))

    def code(self) -> Service:
        other = self.dice.choice("123")
        return self._of("odd", versions=(self.codes[other],), champion=other)

    def scale(self) -> Service:
        fewest = self.dice.choice([0, 1, 2])
        return self._of("odd", min_replicas=fewest, max_replicas=max(1, fewest), idle_seconds=0.3)

    def from_zero(self) -> Service:
        return self._of("sleepy", min_replicas=1 - self.services["sleepy"].min_replicas)

    def unload(self) -> Service:
        return self._of("other", loaded=not self.services["other"].loaded)

    def another(self) -> Service | None:
        extra = [name for name in self.services if name.startswith("extra")]
        if len(extra) > 3:
            del self.services[extra[0]]
            return None
        return service(f"extra-{next(self._extra)}", self.models[self.dice.choice("123")])

    def broken(self) -> Service:
        return self._of("iris", versions=(self.models["broken"],), champion="broken", routes=(), shadows=())

    def _iris(self, **fields: Any) -> Service:
        return self._of("iris", **fields)

    def _of(self, name: str, **fields: Any) -> Service:
        return msgspec.structs.replace(self.services[name], **fields)


def answering(each: Service) -> frozenset[str]:
    """Who may answer."""
    if not each.loaded:
        return frozenset({"unloaded"})
    full = sum(route.percent for route in each.routes) >= 100
    return frozenset({*(route.version for route in each.routes), *(() if full else (each.champion,))})


def check_versions(answers: list[Answer], spans: list[Span]) -> None:
    """Each answer came from a version that was, while the request was under way, to answer for one worker at least."""
    ends = [*(span.in_force for span in spans[1:]), float("inf")]
    for answer in answers:
        may = {
            version
            for span, end in zip(spans, ends, strict=True)
            if span.published <= answer.ended and answer.begun <= end
            for version in span.versions
        }
        assert answer.version in may, (answer, spans)


def drive(room: Servers, models: dict[str, Served], *, changes: int, seed: int) -> None:
    codes = {number: room.code(number, CLASS.format(number=number)) for number in "123"}
    changing = Changing(room, models, codes, random.Random(seed))
    changing.begin()
    room.start_host()
    for name in WORKERS:
        room.start_worker(name)
    room.wait_ready()
    loads = {
        "iris": [asking_v2(room, "iris"), asking_v2(room, "iris", keeps=False), asking_grpc(room, "iris")],
        "odd": [asking_code(room, "odd")],
        "sleepy": [Load(asking_v2(room, "sleepy").ask, pause=0.5)],
        "other": [asking_what_may_be_unloaded(room, "other")],
    }
    flat = [load for of_service in loads.values() for load in of_service]
    changing.all_in_force()
    with UnderLoad(*flat):
        for _ in range(changes):
            changing.change()
            if any(load.failures for load in flat):
                break
    for name, of_service in loads.items():
        for load in of_service:
            check_versions(load.answers, changing.spans[name])
    answered = {name: sum(len(load.answers) for load in of_service) for name, of_service in loads.items()}
    assert answered["iris"] > changes, (answered, changing.counts)
    assert all(process.poll() is None for process in room.workers.values())
    print(f"{changes} changes, answers {answered}, kinds {dict(changing.counts)}")


def test_no_change_fails_a_request(room: Servers, models: dict[str, Served]) -> None:
    drive(room, models, changes=40, seed=7)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(3))
def test_hundreds_of_changes_fail_no_request(room: Servers, models: dict[str, Served], seed: int) -> None:
    drive(room, models, changes=300, seed=seed)


def test_workers_are_replaced_without_a_failed_request(room: Servers, models: dict[str, Served]) -> None:
    room.publish(service("iris", models["1"]))
    for name in WORKERS:
        room.start_worker(name)
    room.wait_ready()
    loads = [asking_v2(room, "iris", keeps=False), asking_v2(room, "iris", keeps=False), asking_grpc(room, "iris")]
    with UnderLoad(*loads):
        for number in range(2, 6):
            room.start_worker(f"worker-{number}")
            room.wait_ready()
            leaving = room.workers.pop(f"worker-{number - 2}")
            leaving.send_signal(signal.SIGTERM)
            assert leaving.wait(30) == 0
            before = [len(load.answers) for load in loads]
            end = time.monotonic() + 30
            while any(
                len(load.answers) < had + 3 and not load.failures for load, had in zip(loads, before, strict=True)
            ):
                assert time.monotonic() < end
                time.sleep(0.01)


def test_a_rollback_takes_a_second_and_waits_for_no_other_model(room: Servers, models: dict[str, Served]) -> None:
    """Also while many other models are being loaded: the version to go back to is here already."""
    both = (models["1"], models["2"])
    bad = service("iris", *both, champion="2")
    room.publish(bad)
    room.start_worker("worker-0")
    room.wait_ready()
    load = asking_v2(room, "iris")
    with UnderLoad(load):
        others = [
            service(f"other-{number}", msgspec.structs.replace(models["3"], digest=f"other {number}"))
            for number in range(300)
        ]
        room.publish(bad, *others)
        time.sleep(0.3)
        begun = time.monotonic()
        generation = room.publish(service("iris", *both), *others)
        room.wait(generation)
        end = time.monotonic() + 20
        while not load.failures and time.monotonic() < end and load.answers[-1].begun < begun + ROLLBACK_SECONDS:
            time.sleep(0.05)
    late = [answer for answer in load.answers if answer.version == "2" and answer.begun > begun + ROLLBACK_SECONDS]
    assert late == []
    assert load.answers[-1].version == "1"
