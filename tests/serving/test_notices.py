"""Notices: never in the way, not lost while the receiver is away, counted when they are."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from goldenloop.serving import notices
from goldenloop.serving.notices import Notices
from goldenloop.standards.cloudevents import REQUEST_TYPE, Notice, inference_notice


def wait(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.01)


class Receiver:
    """Takes notices at one port, and can be away."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.bodies: list[bytes] = []
        self.status = 200
        self.server: HTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def come(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if receiver.status == 200:
                    receiver.bodies.append(body)
                self.send_response(receiver.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def go(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.go()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "SHORTEST_PAUSE", 0.02)
    monkeypatch.setattr(notices, "LONGEST_PAUSE", 0.05)


class Counts(Counter[str]):
    def __call__(self, outcome: str, count: int) -> None:
        self[outcome] += count


def notice(receiver: Receiver, number: int, size: int = 0) -> Notice:
    return inference_notice(
        url=receiver.url, kind=REQUEST_TYPE, identity=str(number), at_us=0, namespace="default", service="m",
        body=b"%d" % number + b" " * size,
    )  # fmt: skip


def test_they_come_in_their_order(tmp_path: Path, receiver: Receiver) -> None:
    receiver.come()
    counts = Counts()
    sender = Notices(tmp_path, "worker-0", count=counts)
    for number in range(50):
        sender.offer(notice(receiver, number))
    wait(lambda: len(receiver.bodies) == 50)
    sender.close()
    assert receiver.bodies == [b"%d" % number for number in range(50)]
    assert counts == {"sent": 50}


def test_a_receiver_that_is_away_gets_them_when_it_is_back(tmp_path: Path, receiver: Receiver) -> None:
    counts = Counts()
    sender = Notices(tmp_path, "worker-0", count=counts)
    for number in range(5):
        sender.offer(notice(receiver, number))
    wait(lambda: counts["spilled"] == 5)
    receiver.come()
    wait(lambda: len(receiver.bodies) == 5)
    sender.offer(notice(receiver, 5))
    wait(lambda: len(receiver.bodies) == 6)
    sender.close()
    assert receiver.bodies == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert list(tmp_path.rglob("*.notices")) == []


def test_the_next_worker_sends_what_the_last_one_left(tmp_path: Path, receiver: Receiver) -> None:
    first = Notices(tmp_path, "worker-0", count=Counts())
    for number in range(3):
        first.offer(notice(receiver, number))
    first.close(seconds=0.1)
    receiver.come()
    second = Notices(tmp_path, "worker-0", count=Counts())
    wait(lambda: receiver.bodies == [b"0", b"1", b"2"])
    second.close()


def test_a_torn_file_hides_nothing_before_it(tmp_path: Path, receiver: Receiver) -> None:
    first = Notices(tmp_path, "worker-0", count=Counts())
    for number in range(3):
        first.offer(notice(receiver, number))
    first.close(seconds=0.1)
    (path,) = tmp_path.rglob("*.notices")
    path.write_bytes(path.read_bytes()[:-4])
    receiver.come()
    second = Notices(tmp_path, "worker-0", count=Counts())
    wait(lambda: receiver.bodies == [b"0", b"1"])
    second.close()


def test_beyond_the_bounds_they_are_dropped_and_counted(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "SPILL_BYTES", 10_000)
    counts = Counts()
    sender = Notices(tmp_path, "worker-0", count=counts)
    for number in range(20):
        sender.offer(notice(receiver, number, size=1_000))
    wait(lambda: counts["spilled"] + counts["dropped"] == 20)
    assert 5 <= counts["spilled"] <= 9
    sender.close()


def test_a_full_queue_drops_and_never_waits(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "QUEUE_NOTICES", 2)
    with socket.create_server(("127.0.0.1", receiver.port)):  # takes connections and never answers
        counts = Counts()
        sender = Notices(tmp_path, "worker-0", count=counts)
        begun = time.monotonic()
        for number in range(100):
            sender.offer(notice(receiver, number))
        assert time.monotonic() - begun < 1.0
        assert counts["dropped"] >= 97


def test_what_a_receiver_refuses_is_not_sent_for_ever(tmp_path: Path, receiver: Receiver) -> None:
    receiver.come()
    receiver.status = 400
    counts = Counts()
    sender = Notices(tmp_path, "worker-0", count=counts)
    sender.offer(notice(receiver, 1))
    wait(lambda: counts["dropped"] == 1)
    receiver.status = 503
    sender.offer(notice(receiver, 2))
    wait(lambda: counts["spilled"] == 1)
    receiver.status = 200
    wait(lambda: receiver.bodies == [b"2"])
    sender.close()
