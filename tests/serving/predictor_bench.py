"""Served forms of the kind `process`, and a host of predictor processes, for the tests of this room."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

import msgspec

from goldenloop.core.routing import RoutingTable, Served, Service
from goldenloop.core.served import Loader, ServedForm, TensorSpec
from goldenloop.core.signatures import Column, Signature
from goldenloop.serving.predictors.link import PredictorLink
from goldenloop.serving.predictors.places import Place, Status
from goldenloop.serving.predictors.trust import sign_folder

KEY = b"k" * 32


@dataclass
class HostBench:
    """A home with a routing table, and the host that reads it."""

    home: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    generation: int = 0

    @property
    def table(self) -> Path:
        return self.home / "routing.json"

    @property
    def sockets(self) -> Path:
        return self.home / "predictors"

    def start(self, *, load_seconds: float = 30.0, linger_seconds: float = 1.0) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "goldenloop.serving.predictors.host", "--home", str(self.home)]
        command += ["--table", str(self.table), "--sockets", str(self.sockets)]
        command += ["--load-seconds", str(load_seconds), "--linger-seconds", str(linger_seconds)]
        process = subprocess.Popen(command)
        self.processes.append(process)
        return process

    def code(self, source: str, *, batching: bool = False, digest: str = "code", **kept: object) -> Served:
        """A class of a user's own."""
        folder = self.home / "models" / digest
        folder.mkdir(parents=True)
        (folder / "model.py").write_text(dedent(source))
        form = ServedForm(form="code", runtime="process", loader="python", file="model.py", batching=batching)
        return self.form(folder, msgspec.structs.replace(form, **kept), digest=digest)

    def form(self, folder: Path, form: ServedForm, *, digest: str, signed: bool = True) -> Served:
        """What lies in a folder, as this form."""
        (folder / "served.json").write_bytes(msgspec.json.encode(form))
        if signed:
            sign_folder(folder, KEY)
        return Served(version="1", path=str(folder), digest=digest, runtime="process")

    def publish(self, *served: Served, **fields: object) -> None:
        """A table with one service for each version."""
        services = tuple(
            msgspec.convert(
                {
                    "namespace": "default",
                    "name": f"model-{place}",
                    "champion": each.version,
                    "versions": [each],
                    **fields,
                },
                Service,
                from_attributes=True,
            )
            for place, each in enumerate(served)
        )
        self.publish_services(*services)

    def publish_services(self, *services: Service) -> None:
        self.generation += 1
        partial = self.table.with_suffix(".new")
        partial.write_bytes(msgspec.json.encode(RoutingTable(generation=self.generation, services=services)))
        os.replace(partial, self.table)

    def link(self, served: Served, *, max_replicas: int = 1) -> PredictorLink:
        return PredictorLink(self.sockets, served.digest, max_replicas=max_replicas)

    def status(self, served: Served, replica: int = 0) -> Status | None:
        return Place(self.sockets, served.digest, replica).read_status()

    def pid(self, served: Served, replica: int = 0) -> int:
        status = self.status(served, replica)
        assert status is not None
        assert status.pid is not None
        return status.pid

    def log(self) -> str:
        return "".join(path.read_text(errors="replace") for path in (self.home / "logs" / "predictors").iterdir())


@contextlib.contextmanager
def host_bench(home: Path) -> Iterator[HostBench]:
    home.mkdir(exist_ok=True)
    (home / "signing.key").write_bytes(KEY)
    bench = HostBench(home)
    try:
        yield bench
    finally:
        for process in bench.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in bench.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def table_form(
    loader: Loader, file: str, *, columns: Sequence[tuple[str, str]], classes: Sequence[str] = (), kind: str = "text"
) -> ServedForm:
    signature = msgspec.convert(
        {
            "inputs": [Column(name=name, kind=each) for name, each in columns],  # type: ignore[arg-type]
            "task": "classification" if classes else "regression",
            "classes": list(classes),
            "class_kind": kind,
        },
        Signature,
        from_attributes=True,
    )
    return ServedForm(form="table", runtime="process", loader=loader, file=file, signature=signature, batching=True)


def tensor_form(loader: Loader, file: str, inputs: Sequence[str], outputs: Sequence[str]) -> ServedForm:
    return ServedForm(
        form="tensors",
        runtime="process",
        loader=loader,
        file=file,
        batching=True,
        inputs=tuple(TensorSpec(name, "FP32", (-1, -1)) for name in inputs),
        outputs=tuple(TensorSpec(name, "FP32", (-1, -1)) for name in outputs),
    )


def until(condition: Callable[[], bool], *, seconds: float = 10.0, what: str = "") -> None:
    """Wait until it holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what or "it did not come to that"
        time.sleep(0.01)


def lives(pid: int) -> bool:
    """Whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
