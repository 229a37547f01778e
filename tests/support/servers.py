"""Inference workers and the host of predictor processes as `goldenloop up` starts them, with a control that is a test."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import cast

import msgspec

from goldenloop.core.routing import RoutingTable, Served, Service
from goldenloop.core.served import ServedForm
from goldenloop.core.wire import FromWorker, Hello, Nudge, Serving, Wanted

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass
class TestControl:
    """Listens to workers, knows which generation each serves, and passes on what they want to `wanted`."""

    __test__ = False

    path: Path
    serving: dict[str, Serving] = field(default_factory=dict)
    wanted: list[Wanted] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._connections: dict[socket.socket, str] = {}
        self._changed = threading.Condition()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._selector = selectors.DefaultSelector()
        self._ending, self._end = socket.socketpair()
        self._selector.register(self._ending, selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._rest: dict[socket.socket, bytes] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def nudge(self, generation: int) -> None:
        """Tell every worker that there is another table."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.sendall(msgspec.json.encode(Nudge(generation)) + b"\n")

    def wait_serving(self, generation: int, names: list[str], *, seconds: float = 60.0) -> dict[str, str]:
        """Wait until these workers serve a generation; return what none of them could load."""
        with self._changed:
            ok = self._changed.wait_for(
                lambda: all(name in self.serving and self.serving[name].generation >= generation for name in names),
                seconds,
            )
            assert ok, f"table {generation} is not in force within {seconds} s: {self.serving}"
            return {key: reason for name in names for key, reason in self.serving[name].failed.items()}

    def close(self) -> None:
        self._end.close()
        self._thread.join(5)
        for each in (self._ending, self._listener, *self._connections):
            each.close()
        self._selector.close()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                found = cast(socket.socket, key.fileobj)
                if found is self._ending:
                    return
                if found is self._listener:
                    connection, _ = found.accept()
                    self._connections[connection] = ""
                    self._selector.register(connection, selectors.EVENT_READ)
                else:
                    self._read(found)

    def _read(self, connection: socket.socket) -> None:
        try:
            content = connection.recv(1 << 16)
        except OSError:
            content = b""
        if not content:
            self._selector.unregister(connection)
            del self._connections[connection]
            connection.close()
            return
        *lines, self._rest[connection] = (self._rest.get(connection, b"") + content).split(b"\n")
        with self._changed:
            for line in lines:
                self._take(connection, msgspec.json.decode(line, type=FromWorker))
            self._changed.notify_all()

    def _take(self, connection: socket.socket, message: FromWorker) -> None:
        if isinstance(message, Hello):
            self._connections[connection] = message.worker
            self.serving.pop(message.worker, None)
        elif isinstance(message, Serving):
            self.serving[self._connections[connection]] = message
        elif isinstance(message, Wanted):
            self.wanted.append(message)


@dataclass
class Servers:
    """A home with a routing table, and what serves by it. `rest` and `grpc` are ports of the loopback interface."""

    home: Path
    control: TestControl
    http_listener: socket.socket
    grpc_listener: socket.socket
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    host: subprocess.Popen[bytes] | None = None
    generation: int = 0

    @property
    def rest(self) -> int:
        return cast(int, self.http_listener.getsockname()[1])

    @property
    def grpc(self) -> int:
        return cast(int, self.grpc_listener.getsockname()[1])

    def publish(self, *services: Service, nudge: bool = True) -> int:
        """Write the table whole; return its generation."""
        self.generation += 1
        table, staged = self.home / "routing.json", self.home / "routing.new"
        staged.write_bytes(msgspec.json.encode(RoutingTable(generation=self.generation, services=services)))
        os.replace(staged, table)
        if nudge:
            self.control.nudge(self.generation)
        return self.generation

    def wait(self, generation: int) -> dict[str, str]:
        """Wait until every worker serves a generation; return what could not be loaded."""
        return self.control.wait_serving(generation, list(self.workers))

    def start_worker(self, name: str, *more: str) -> subprocess.Popen[bytes]:
        listening = (self.http_listener.fileno(), self.grpc_listener.fileno())
        command = [sys.executable, "-m", "goldenloop.serving.worker", "--name", name]
        command += ["--table", str(self.home / "routing.json"), "--payloads", str(self.home / "payloads")]
        command += ["--control", str(self.control.path), "--metrics", str(self.home / "metrics")]
        command += ["--http-fd", str(listening[0]), "--grpc-fd", str(listening[1])]
        command += ["--predictors", str(self.home / "predictors"), *more]
        process = subprocess.Popen(command, pass_fds=listening, env={**os.environ, **ENVIRONMENT})
        self.workers[name] = process
        return process

    def start_host(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "goldenloop.serving.predictors.host", "--home", str(self.home)]
        command += ["--table", str(self.home / "routing.json"), "--sockets", str(self.home / "predictors")]
        command += ["--linger-seconds", "2"]
        self.host = subprocess.Popen(command, env={**os.environ, **ENVIRONMENT})
        return self.host

    def wait_ready(self, *, seconds: float = 60.0) -> None:
        """Wait until the workers have taken the present table."""
        self.control.wait_serving(self.generation, list(self.workers), seconds=seconds)

    def code(self, version: str, source: str, **fields: object) -> Served:
        """A version that is a class of a user's own."""
        folder = self.home / "models" / f"code-{version}"
        folder.mkdir(parents=True)
        (folder / "model.py").write_text(dedent(source))
        form = ServedForm(form="code", runtime="process", loader="python", file="model.py")
        (folder / "served.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(form, **fields)))
        return Served(version=version, path=str(folder), digest=f"code-{version}", runtime="process")

    def stop(self) -> None:
        processes = [*self.workers.values(), *([self.host] if self.host is not None else [])]
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        end = time.monotonic() + 15
        for process in processes:
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def servers(home: Path) -> Iterator[Servers]:
    """A home without processes yet; all that are started in it end with the block."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "signing.key").write_bytes(b"k" * 32)
    control = TestControl(home / "control.sock")
    made = Servers(
        home, control, socket.create_server(("127.0.0.1", 0), backlog=1024), socket.create_server(("127.0.0.1", 0))
    )
    try:
        yield made
    finally:
        made.stop()
        control.close()
        made.http_listener.close()
        made.grpc_listener.close()
