"""Starting and stopping an installation."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from goldenloop.control.home import Addresses, Home, write_atomically
from goldenloop.control.supervisor import Child, Supervisor, bind, python_module
from goldenloop.core.errors import GoldenloopError, InvalidSpecError, NotFoundError, RefusedError, UnavailableError
from goldenloop.serving.predictors.isolation import Isolation
from goldenloop.serving.predictors.isolation import check as check_isolation
from goldenloop.serving.telemetry import check as check_telemetry
from goldenloop.web import static_folder

READY_SECONDS = 60.0
STOP_SECONDS = 60.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Ports:
    """Where to listen; 0 is any free port. Where none is given for gRPC, it is 8001, or any free one if inference has any free one;
    for ML Metadata 8082, or any free one if the API has any free one.
    """

    http: int = 8080
    inference: int = 8000
    grpc: int | None = None
    mlmd: int | None = None

    @property
    def for_grpc(self) -> int:
        """The port for gRPC."""
        if self.grpc is not None:
            return self.grpc
        return 8001 if self.inference else 0

    @property
    def for_mlmd(self) -> int:
        """The port for ML Metadata."""
        if self.mlmd is not None:
            return self.mlmd
        return 8082 if self.http else 0


@dataclass(frozen=True, slots=True)
class Options:
    """How to start. `database` and `artifacts` None mean the home's own, or what this home was started with before."""

    ports: Ports
    host: str = "127.0.0.1"
    database: str | None = None
    artifacts: str | None = None
    workers: int | None = None
    isolation: Isolation = "none"
    access_log: str | None = None  # a file, or - for the workers' own logs
    otel: str | None = None  # the address of an OTLP receiver over HTTP


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What a home remembers of how it was started, so that its records are found again."""

    database: str
    artifacts: str


def supervise(home: Home, options: Options) -> None:
    """Be the supervisor, until told to stop. Raises ConflictError where the home or a port is taken."""
    if options.host not in _LOOPBACK:
        raise RefusedError(
            f"listening on {options.host} needs --auth, which is not there yet",
            where="--host",
            mend="Listen on 127.0.0.1 and put a proxy that asks who is calling in front.",
        )
    check_isolation(options.isolation)
    if options.otel is not None:
        check_telemetry()
    lock = home.lock()
    kept = _settings(home, options)
    sockets = {
        "http": bind(options.host, options.ports.http, "--http-port"),
        "inference": bind(options.host, options.ports.inference, "--inference-port"),
        "grpc": bind(options.host, options.ports.for_grpc, "--grpc-port"),
        "mlmd": bind(options.host, options.ports.for_mlmd, "--mlmd-port"),
    }
    metrics = home.work / "metrics"
    shutil.rmtree(metrics, ignore_errors=True)  # of processes that are no more
    metrics.mkdir(parents=True)
    with contextlib.suppress(FileNotFoundError):
        home.control_socket.unlink()
    workers = options.workers or max(1, os.cpu_count() or 1)
    children = [
        _control(home, kept, sockets["http"], sockets["mlmd"]),
        *(_worker(home, options, sockets["inference"], sockets["grpc"], number) for number in range(workers)),
        _predictors(home, options.isolation),  # the last to end: workers finish what they have asked of it
    ]
    write_atomically(home.settings, msgspec.json.encode(kept))
    addresses = Addresses(
        home=str(home.path),
        http=_url(options.host, sockets["http"]),
        inference=_url(options.host, sockets["inference"]),
        grpc=f"{options.host}:{sockets['grpc'].getsockname()[1]}",
        mlmd=f"{options.host}:{sockets['mlmd'].getsockname()[1]}",
        pid=os.getpid(),
    )
    write_atomically(home.addresses, msgspec.json.encode(addresses))
    try:
        Supervisor(home, children).run()
    finally:
        home.addresses.unlink(missing_ok=True)
        os.close(lock)


def start_detached(home: Home, options: Options) -> Addresses:
    """Start an installation in the background; return when everything answers. Raises what kept it from starting."""
    # Raises ConflictError, which says how to mend it. Addresses without a lock are those of a platform that was killed.
    os.close(home.lock())
    home.addresses.unlink(missing_ok=True)
    command = python_module(
        "goldenloop.cli.main",
        "up",
        "--home",
        str(home.path),
        "--host",
        options.host,
        "--http-port",
        str(options.ports.http),
        "--inference-port",
        str(options.ports.inference),
        "--grpc-port",
        str(options.ports.for_grpc),
        "--mlmd-port",
        str(options.ports.for_mlmd),
    )
    for flag, value in (
        ("--database", options.database),
        ("--artifacts", options.artifacts),
        ("--workers", options.workers),
        ("--isolation", options.isolation),
        ("--access-log", options.access_log),
        ("--otel", options.otel),
    ):
        if value is not None:
            command += [flag, str(value)]
    log = home.logs / "up.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise GoldenloopError(_last_words(log), where="up", mend=f"The whole log: {log}.")
        with contextlib.suppress(NotFoundError, OSError, http.client.HTTPException):
            addresses = home.running()
            if _answers(addresses):
                return addresses
        time.sleep(0.05)
    process.terminate()
    raise UnavailableError(f"it did not get ready in {READY_SECONDS:.0f} s", mend=f"Its logs: {home.logs}.")


def stop(home: Home) -> int:
    """Stop the installation that runs here; return its process id when it has ended. Raises NotFoundError where none runs."""
    pid = home.running().pid
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + STOP_SECONDS
    while time.monotonic() < end:
        if not home.addresses.exists() or not _lives(pid):
            return pid
        time.sleep(0.05)
    raise UnavailableError(f"process {pid} did not end in {STOP_SECONDS:.0f} s", where=str(home.path))


def _settings(home: Home, options: Options) -> Kept:
    try:
        before = msgspec.json.decode(home.settings.read_bytes(), type=Kept)
    except FileNotFoundError:
        before = Kept(database=home.database_url, artifacts=str(home.artifacts))
    except msgspec.DecodeError as error:
        raise InvalidSpecError(f"cannot be read: {error}", where=str(home.settings), mend="Delete it.") from error
    database = options.database or before.database
    artifacts = options.artifacts or before.artifacts
    if "://" not in artifacts:
        artifacts = str(Path(artifacts).absolute())
    return Kept(database=database, artifacts=artifacts)


def _control(home: Home, kept: Kept, listener: socket.socket, mlmd: socket.socket) -> Child:
    descriptors = (listener.fileno(), mlmd.fileno())
    command = python_module(
        "goldenloop.api.process",
        "--home",
        str(home.path),
        "--http-fd",
        str(descriptors[0]),
        "--mlmd-fd",
        str(descriptors[1]),
        "--database",
        kept.database,
        "--artifacts",
        kept.artifacts,
        "--pages",
        str(static_folder()),
    )
    return Child("control", command, descriptors, home.logs / "control.log")


def _worker(home: Home, options: Options, listener: socket.socket, grpc: socket.socket, number: int) -> Child:
    descriptors = (listener.fileno(), grpc.fileno())
    name = f"worker-{number}"
    command = python_module(
        "goldenloop.serving.worker",
        "--name",
        name,
        "--table",
        str(home.routing_table),
        "--payloads",
        str(home.payloads),
        "--control",
        str(home.control_socket),
        "--http-fd",
        str(descriptors[0]),
        "--grpc-fd",
        str(descriptors[1]),
        "--metrics",
        str(home.work / "metrics"),
        "--predictors",
        str(home.predictors),
        *(() if options.access_log is None else ("--access-log", options.access_log)),
        *(() if options.otel is None else ("--otel", options.otel)),
    )
    single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

    def forget(pid: int) -> None:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(pid, path=str(home.work / "metrics"))  # type: ignore[no-untyped-call]

    # Without its supervisor it still finishes what it has.
    return Child(
        name, command, descriptors, home.logs / f"{name}.log", single, on_end=forget, orphaned_by=signal.SIGTERM
    )


def _predictors(home: Home, isolation: Isolation) -> Child:
    command = python_module(
        "goldenloop.serving.predictors.host",
        "--home",
        str(home.path),
        "--table",
        str(home.routing_table),
        "--sockets",
        str(home.predictors),
        "--isolation",
        isolation,
    )
    return Child("predictors", command, (), home.logs / "predictors.log", orphaned_by=signal.SIGTERM)


def _url(host: str, listener: socket.socket) -> str:
    return f"http://{host}:{listener.getsockname()[1]}"


def _answers(addresses: Addresses) -> bool:
    return _status(addresses.http, "/healthz") == 200 and _status(addresses.inference, "/v2/health/live") == 200


def _status(address: str, path: str) -> int:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else "it ended at once"
