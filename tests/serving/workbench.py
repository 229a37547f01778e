"""Served forms, tables and worker processes for the tests of this room."""

from __future__ import annotations

import contextlib
import http.client
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import joblib
import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.linear_model import LogisticRegression

from goldenloop.core.json import Json
from goldenloop.core.routing import RoutingTable, Served, Service
from goldenloop.core.wire import FromWorker, Nudge, Settle
from goldenloop.payloads.log import PayloadReader
from goldenloop.payloads.records import Label, Prediction
from goldenloop.serving.conversion import convert

COLUMNS = ["price", "demand", "transfer"]


def make_version(folder: Path, *, columns: list[str] = COLUMNS, flipped: bool = False) -> Path:
    """A served form: UP where the first column is positive; the other way round when flipped."""
    generator = np.random.default_rng(5)
    frame = pd.DataFrame({name: generator.normal(size=400) for name in columns})
    frame["class"] = np.where((frame[columns[0]] > 0) != flipped, "UP", "DOWN")
    folder.mkdir(parents=True)
    joblib.dump(LogisticRegression().fit(frame[columns], frame["class"]), folder / "model.joblib")
    convert(folder / "model.joblib", pa.Table.from_pandas(frame, preserve_index=False), label="class", out=folder)
    return folder


def break_version(folder: Path) -> Path:
    """A served form whose graph cannot be loaded."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"not a graph")
    (folder / "signature.json").write_bytes(b'{"inputs":[{"name":"price","kind":"number"}],"task":"regression"}')
    return folder


def served(version: str, path: Path) -> Served:
    return Served(version=version, path=str(path), digest=f"digest of {path}")


def write_table(path: Path, table: RoutingTable) -> None:
    staged = path.with_suffix(".new")
    staged.write_bytes(msgspec.json.encode(table))
    os.replace(staged, path)


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Json]:
        return cast("dict[str, Json]", msgspec.json.decode(self.body))


@dataclass
class Control:
    """A control that only listens, and says what it is told to."""

    path: Path
    messages: queue.Queue[FromWorker] = field(default_factory=queue.Queue)
    connection: socket.socket | None = None

    def __post_init__(self) -> None:
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(self.path))
        self.listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                self.connection, _ = self.listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), self.connection.makefile("rb") as lines:
                for line in lines:
                    self.messages.put(msgspec.json.decode(line, type=FromWorker))

    def send(self, message: Nudge | Settle) -> None:
        assert self.connection is not None
        self.connection.sendall(msgspec.json.encode(message) + b"\n")

    def expect(self, kind: type[FromWorker], seconds: float = 10.0) -> FromWorker:
        """The next message of a kind; others before it are dropped."""
        end = time.monotonic() + seconds
        while True:
            message = self.messages.get(timeout=max(0.01, end - time.monotonic()))
            if isinstance(message, kind):
                return message

    def close(self) -> None:
        self.listener.close()
        if self.connection is not None:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            self.connection.close()
        self.path.unlink()


@dataclass
class Bench:
    """A folder with a table, a log, a listening socket, and the workers on it."""

    folder: Path
    listener: socket.socket
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    generation: int = 0

    @property
    def port(self) -> int:
        return cast(int, self.listener.getsockname()[1])

    @property
    def table(self) -> Path:
        return self.folder / "table.json"

    @property
    def socket_path(self) -> Path:
        return self.folder / "control.sock"

    def publish(self, *services: Service) -> int:
        self.generation += 1
        write_table(self.table, RoutingTable(generation=self.generation, services=services))
        return self.generation

    def start(self, name: str = "worker0", *, options: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "goldenloop.serving.worker", "--name", name, "--table", str(self.table)]
        command += ["--payloads", str(self.folder / "payloads"), "--control", str(self.socket_path)]
        command += ["--http-fd", str(self.listener.fileno()), "--metrics", str(self.folder / "metrics"), *options]
        process = subprocess.Popen(
            command, pass_fds=[self.listener.fileno()], env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        self.processes.append(process)
        return process

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float = 20,
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            content = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
            connection.request(method, path, content, dict(headers or {}))
            reply = connection.getresponse()
            return Reply(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def wait_ready(self, seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError):
                if self.call("GET", "/v2/health/ready", timeout=2).status == 200:
                    return
            assert time.monotonic() < end, "the worker does not become ready"
            time.sleep(0.02)

    def records(self) -> tuple[list[Prediction], list[Label]]:
        reader = PayloadReader(self.folder / "payloads")
        found = reader.read(1_000_000)
        assert reader.damage == []
        return [r for r in found if isinstance(r, Prediction)], [r for r in found if isinstance(r, Label)]


@contextlib.contextmanager
def bench(folder: Path) -> Iterator[Bench]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    made = Bench(folder, listener)
    try:
        yield made
    finally:
        for process in made.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
        listener.close()
