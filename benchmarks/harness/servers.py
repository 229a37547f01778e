"""Servers to be compared: each started in processes of its own, on loopback ports, until it answers."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from harness.models import Models
from harness.processes import cpu_seconds, pss_bytes, stop

from goldenloop.core.routing import RoutingTable, Served, Service

CONTENDERS = Path(__file__).parents[1] / "contenders"
READY_SECONDS = 120.0
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "BENTOML_DO_NOT_TRACK": "True"}
MODES = ("off", "async", "interval", "durable")


@dataclass
class Server:
    """A server that runs: where it answers, and what it cost to be ready."""

    name: str
    rest: int
    grpc: int | None
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    ready_cpu_seconds: float = 0.0

    def cpu_seconds(self) -> float:
        """What all its processes have used."""
        return cpu_seconds([each.pid for each in self.processes])

    def pss_bytes(self) -> int:
        """What all its processes hold."""
        return pss_bytes([each.pid for each in self.processes])

    def wait_ready(self, path: str) -> None:
        """Wait for a 200."""
        end = time.monotonic() + READY_SECONDS
        while not _is_well(self.rest, path):
            if time.monotonic() > end or any(each.poll() is not None for each in self.processes):
                raise RuntimeError(f"{self.name} does not become ready")
            time.sleep(0.02)
        self.ready_cpu_seconds = self.cpu_seconds()

    def stop(self) -> None:
        for each in reversed(self.processes):
            stop(each)


def start_ours(home: Path, models: Models, *, workers: int = 1, only: tuple[str, ...] = ()) -> Server:
    """Workers and the host of predictors as `goldenloop up` starts them. A service for each model and mode of the payload log, `iris-off` …

    `only` names the services that there are to be; all, if nothing is named.
    """
    home.mkdir(parents=True)
    (home / "signing.key").write_bytes(b"k" * 32)
    services = [each for each in _services(models) if not only or each.name in only]
    (home / "routing.json").write_bytes(msgspec.json.encode(RoutingTable(generation=1, services=tuple(services))))
    http_listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    grpc_listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    server = Server("goldenloop", http_listener.getsockname()[1], grpc_listener.getsockname()[1])
    places = ["--table", str(home / "routing.json")]
    sockets = str(home / "predictors")
    if any(each.every_version[0].runtime == "process" for each in services):
        host = ["goldenloop.serving.predictors.host", "--home", str(home), "--sockets", sockets]
        server.processes.append(_start([sys.executable, "-m", *host, *places]))
    for number in range(workers):
        descriptors = (http_listener.fileno(), grpc_listener.fileno())
        worker = ["goldenloop.serving.worker", "--name", f"worker-{number}", "--payloads", str(home / "payloads")]
        worker += ["--control", str(home / "control.sock"), "--metrics", str(home / "metrics"), "--predictors", sockets]
        worker += ["--http-fd", str(descriptors[0]), "--grpc-fd", str(descriptors[1])]
        server.processes.append(_start([sys.executable, "-m", *worker, *places], descriptors))
    server.wait_ready("/v2/health/ready")
    http_listener.close()
    grpc_listener.close()
    return server


def _services(models: Models) -> list[Service]:
    made = []
    for name, folder in (("iris", models.iris_served), ("lightgbm", models.lightgbm_served)):
        made += [_service(f"{name}-{mode}", Served(version="1", path=str(folder), digest=name), mode) for mode in MODES]
    kept = Served(version="1", path=str(models.iris_object), digest="object", runtime="process")
    return [*made, _service("object-interval", kept, "interval")]


def _service(name: str, served: Served, mode: str) -> Service:
    fields: dict[str, object] = {"log_payloads": False} if mode == "off" else {"payload_mode": mode}
    return Service(namespace="default", name=name, champion="1", versions=(served,), **fields)  # type: ignore[arg-type]


def start_bare(models: Models, name: str, http: str) -> Server:
    """The least that a handler can do, on our HTTP server ("goldenloop") or on "uvicorn": see contenders/serving_bare.py."""
    served = {"iris": models.iris_served, "lightgbm": models.lightgbm_served}[name]
    port = _free_port()
    server = Server(f"bare {name}", port, None)
    server.processes.append(
        _start([sys.executable, str(CONTENDERS / "serving_bare.py"), str(served / "model.onnx"), str(port), http])
    )
    server.wait_ready("/")
    return server


def start_peer(name: str, python: str, models: Models) -> Server:
    """`kserve`, `mlserver` or `bentoml`, with one worker: see contenders/serving_NAME.py. `python` is that of its environment."""
    rest, grpc = _free_port(), _free_port()
    ports = [str(rest)] if name == "bentoml" else [str(rest), str(grpc)]
    server = Server(name, rest, grpc)
    program = [python, str(CONTENDERS / f"serving_{name}.py"), *ports, str(models.iris), str(models.lightgbm)]
    server.processes.append(_start(program))
    server.wait_ready("/readyz" if name == "bentoml" else "/v2/models/lightgbm/ready")
    return server


def _start(command: list[str], descriptors: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, pass_fds=descriptors, env={**os.environ, **ENVIRONMENT}, stdout=subprocess.DEVNULL, stderr=sys.stderr
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _is_well(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
