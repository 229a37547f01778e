"""What the client makes of answers: values, errors of the tree, and "not now"."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from goldenloop.client.connection import Connection
from goldenloop.core.errors import (
    ConflictError,
    GoldenloopError,
    InvalidSpecError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)

Answer = tuple[int, dict[str, str], bytes]


class Scripted(ThreadingHTTPServer):
    """Gives the answers that a test wrote down, in order; the last again and again. Keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[Answer] = []
        self.asked: list[tuple[str, str, bytes]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        server = self.server
        assert isinstance(server, Scripted)
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        server.asked.append((self.command, self.path, body))
        status, headers, content = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
        self.send_response(status)
        for name, value in {"content-type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        if headers.get("connection") == "silently-close":
            self.close_connection = True

    do_GET = do_POST = do_PUT = _answer

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Scripted]:
    with Scripted() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def connection(server: Scripted) -> Iterator[Connection]:
    connection = Connection(server.address, timeout_seconds=5)
    yield connection
    connection.close()


def test_an_answer_is_decoded(server: Scripted, connection: Connection) -> None:
    server.answers = [(200, {"X-Prediction-Id": "p"}, b'{"a": [1, null]}')]
    found, headers = connection.call("POST", "/v2", {"b": "ü"})
    assert found == {"a": [1, None]}
    assert headers["x-prediction-id"] == "p"
    ((method, path, body),) = server.asked
    assert (method, path, json.loads(body)) == ("POST", "/v2", {"b": "ü"})


def test_text_stays_text_and_nothing_is_none(server: Scripted, connection: Connection) -> None:
    server.answers = [(200, {"content-type": "text/plain"}, b"a log\n"), (200, {}, b"")]
    assert connection.call("GET", "/log")[0] == "a log\n"
    assert connection.call("GET", "/nothing")[0] is None


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidSpecError),
        (403, RefusedError),
        (404, NotFoundError),
        (409, ConflictError),
        (413, InvalidSpecError),
        (422, InvalidSpecError),
        (503, UnavailableError),
        (500, GoldenloopError),
    ],
)
def test_a_status_is_an_error_with_its_message(
    server: Scripted, connection: Connection, status: int, error: type[GoldenloopError]
) -> None:
    server.answers = [(status, {}, b'{"kind": "Status", "message": "spec.alpha: it is wrong"}')]
    with pytest.raises(GoldenloopError, match=r"spec\.alpha: it is wrong") as caught:
        connection.call("GET", "/x", patience_seconds=0)
    assert type(caught.value) is error


def test_an_error_that_is_not_json_is_an_error_all_the_same(server: Scripted, connection: Connection) -> None:
    server.answers = [(502, {"content-type": "text/html"}, b"<html>bad gateway")]
    with pytest.raises(GoldenloopError):
        connection.call("GET", "/x")


def test_not_now_is_tried_again_after_the_pause(server: Scripted, connection: Connection) -> None:
    server.answers = [(503, {"retry-after": "0.2"}, b"{}"), (429, {"retry-after": "0"}, b"{}"), (200, {}, b"1")]
    began = time.monotonic()
    assert connection.call("POST", "/x", {})[0] == 1
    assert time.monotonic() - began >= 0.2
    assert len(server.asked) == 3


def test_patience_ends(server: Scripted, connection: Connection) -> None:
    server.answers = [(503, {"retry-after": "0.05"}, b'{"message": "full"}')]
    with pytest.raises(UnavailableError, match="full"):
        connection.call("GET", "/x", patience_seconds=0.3)
    assert 2 <= len(server.asked) <= 8


def test_a_read_on_a_connection_that_was_closed_is_sent_again(server: Scripted, connection: Connection) -> None:
    server.answers = [(200, {"connection": "silently-close"}, b"1"), (200, {}, b"2")]
    assert connection.call("GET", "/x")[0] == 1
    time.sleep(0.1)
    assert connection.call("GET", "/x")[0] == 2


def test_nobody_there_is_explained() -> None:
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9 does not answer.*goldenloop up"):
        Connection("http://127.0.0.1:9").call("GET", "/healthz")
