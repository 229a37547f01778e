"""What workers tell control: which table they answer by, and what their clients ask for."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from goldenloop.control.workers import Workers
from goldenloop.core.wire import FromWorker, Hello, Serving, Wanted


class News:
    """Counts how often it is told that there is something new."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def news() -> News:
    return News()


@pytest.fixture
def workers(tmp_path: Path, news: News) -> Iterator[Workers]:
    made = Workers(tmp_path / "control.sock", on_news=news)
    yield made
    made.close()


@contextlib.contextmanager
def worker(tmp_path: Path, name: str) -> Iterator[Callable[[FromWorker], None]]:
    """A connected worker that says what it is told to."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(tmp_path / "control.sock"))

        def say(message: FromWorker) -> None:
            connection.sendall(msgspec.json.encode(message) + b"\n")

        say(Hello(worker=name, pid=1))
        yield say


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.005)


def test_a_table_is_served_once_every_worker_has_it(tmp_path: Path, workers: Workers, news: News) -> None:
    assert not workers.is_serving(0), "there is no worker"
    with worker(tmp_path, "a") as one, worker(tmp_path, "b") as other:
        until(lambda: workers.count() == 2)
        one(Serving(generation=3))
        until(lambda: workers.is_serving(0))
        assert not workers.is_serving(3)
        told = news.count
        other(Serving(generation=4))
        until(lambda: news.count > told)  # somebody waited for it
        assert workers.is_serving(3)
        assert not workers.is_serving(4)
    until(lambda: workers.count() == 0)
    assert not workers.is_serving(3)


def test_nobody_is_woken_for_a_table_that_nobody_waits_for(tmp_path: Path, workers: Workers, news: News) -> None:
    with worker(tmp_path, "a") as say:
        say(Serving(generation=1))
        until(lambda: workers.is_serving(1))
        told = news.count
        say(Serving(generation=2))
        say(Wanted(namespace="default", service="iris", loaded=True))  # comes after it, and is always told
        until(lambda: bool(workers.wanted()))
        assert news.count == told + 1
        assert workers.is_serving(2)


def test_what_clients_ask_for_is_told_until_it_is_on_record(tmp_path: Path, workers: Workers, news: News) -> None:
    with worker(tmp_path, "a") as say:
        say(Wanted(namespace="default", service="iris", loaded=False))
        until(lambda: workers.wanted() == {("default", "iris"): False})
        assert news.count == 1
        seen = workers.wanted()
        say(Wanted(namespace="default", service="iris", loaded=True))
        until(lambda: workers.wanted() == {("default", "iris"): True})
        workers.written_down(seen)
        assert workers.wanted() == {("default", "iris"): True}, "what was asked since is not lost"
        workers.written_down(workers.wanted())
        assert workers.wanted() == {}
