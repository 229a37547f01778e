"""A platform of real processes for tests: started, killed in part or whole, started again, and looked at from outside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from goldenloop.client import Client
from goldenloop.control.home import Addresses, Home
from goldenloop.core.json import JsonObject
from goldenloop.payloads.log import PayloadReader
from goldenloop.payloads.records import Label, Prediction

Answer = TypeVar("Answer")
COMMAND = (sys.executable, "-m", "goldenloop.cli.main")
# A part of the platform and the words of its command line.
PARTS = {
    "control": "goldenloop.api.process",
    "worker": "goldenloop.serving.worker",
    "monitor": "goldenloop.monitors.worker",
    "zygote": "goldenloop.pipelines.zygote",
    "predictors": "goldenloop.serving.predictors.host",
}
STEP = "step"  # a child of the zygote
JOB = "job"  # one that does control's own work, and not a person's


def typed(
    *arguments: str, home: Path | None = None, folder: Path | None = None, seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    """What comes of typing `goldenloop` and these words."""
    environment = {name: value for name, value in os.environ.items() if name != "GOLDENLOOP_HOME"}
    environment |= {"OMP_NUM_THREADS": "1", "TERM": "dumb", "COLUMNS": "200"}
    if home is not None:
        environment["GOLDENLOOP_HOME"] = str(home)
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=seconds,
        check=False,
    )


class Platform:
    """An installation in a folder. Everything it starts ends with `stop`."""

    def __init__(self, home: Path, *, workers: int = 2) -> None:
        self.home = home
        self._workers = workers
        self.addresses: Addresses | None = None

    def start(self) -> Addresses:
        """Start it, on the ports it had before."""
        before = self.addresses
        ports = [
            str(0 if before is None else int(address.rsplit(":", 1)[1]))
            for address in ((before.http, before.inference) if before is not None else ("", ""))
        ]
        done = typed(
            *("up", "--detach", "--home", str(self.home), "--http-port", ports[0], "--inference-port", ports[1]),
            *("--grpc-port", "0", "--workers", str(self._workers), "--output", "json"),
            seconds=90,
        )
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()
        self.addresses = Home(self.home).running()
        return self.addresses

    def stop(self) -> None:
        """Stop it, and end what did not."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            typed("down", "--home", str(self.home), seconds=70)
        for identity in (*self.processes("supervisor"), *self.processes("control"), *self.processes("worker")):
            with contextlib.suppress(ProcessLookupError):
                os.kill(identity, signal.SIGKILL)

    @property
    def client(self) -> Client:
        """A new client."""
        assert self.addresses is not None
        return Client(self.addresses)

    @property
    def inference(self) -> str:
        assert self.addresses is not None
        return self.addresses.inference

    # processes

    def processes(self, part: str) -> list[int]:
        """The processes of a part: `supervisor`, one of PARTS, STEP or JOB. Only those of this home."""
        tree = _tree()
        ours = {
            identity
            for identity, (_, command) in tree.items()
            if (str(self.home) in command and "goldenloop" in command and "--home" in command)
            or str(self.home / "payloads") in command
        }
        grown = True
        while grown:
            more = {identity for identity, (parent, _) in tree.items() if parent in ours} - ours
            grown = bool(more)
            ours |= more
        if part == "supervisor":
            return [each for each in ours if "goldenloop.cli.main up" in tree[each][1]]
        zygotes = {each for each in ours if PARTS["zygote"] in tree[each][1]}
        if part in (STEP, JOB):
            steps = [each for each in ours if tree[each][0] in zygotes]
            return (
                steps
                if part == STEP
                else [each for each in steps if str(self.home / "work" / "jobs") in _folder_of(each)]
            )
        return [each for each in ours if PARTS[part] in tree[each][1] and tree[each][0] not in zygotes]

    def kill(self, part: str, *, which: int = 0) -> bool:
        """`kill -9` one process of a part; whether there was one."""
        found = sorted(self.processes(part))
        if not found:
            return False
        try:
            os.kill(found[which % len(found)], signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    # records, read past the platform

    def rows(self, query: str) -> list[sqlite3.Row]:
        """What the database says; nothing where it is not there yet."""
        path = self.home / "state.db"
        if not path.exists():
            return []
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
        try:
            connection.row_factory = sqlite3.Row
            return connection.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []
        finally:
            connection.close()

    def timeline(self, *kinds: str) -> list[tuple[str, int]]:
        """The kind and event time of what happened, in order; of some kinds only where they are named."""
        rows = self.rows("select kind, event_us from timeline order by sequence")
        return [(row["kind"], row["event_us"]) for row in rows if not kinds or row["kind"] in kinds]

    def payloads(self) -> tuple[list[Prediction], list[Label], int]:
        """Everything in the payload log, and how many stretches of it could not be read."""
        reader = PayloadReader(self.home / "payloads")
        predictions: list[Prediction] = []
        labels: list[Label] = []
        while records := reader.read():
            for record in records:
                if isinstance(record, Prediction):
                    predictions.append(record)
                else:
                    labels.append(record)
        return predictions, labels, len(reader.damage)

    def logs(self) -> str:
        """The ends of all logs."""
        return "".join(
            f"\n--- {path.name}\n{path.read_text(errors='replace')[-3000:]}"
            for path in sorted((self.home / "logs").glob("*.log"))
        )


@contextlib.contextmanager
def running(home: Path, *, workers: int = 2) -> Iterator[Platform]:
    """A platform that runs inside the block."""
    platform = Platform(home, workers=workers)
    try:
        platform.start()
        yield platform
    except BaseException as error:
        error.add_note(platform.logs())
        raise
    finally:
        platform.stop()


def wait_for(holds: Callable[[], Answer | None], what: str, *, seconds: float = 60.0) -> Answer:
    """Ask until there is an answer that is true."""
    end = time.monotonic() + seconds
    while True:
        answer = holds()
        if answer:
            return answer
        assert time.monotonic() < end, f"{what} did not come within {seconds:.0f} s"
        time.sleep(0.05)


def loop_file(folder: Path, name: str, spec: JsonObject) -> Path:
    """Write a Loop; JSON is YAML."""
    path = folder / f"{name}.yaml"
    document = {"apiVersion": "goldenloop.dev/v1alpha1", "kind": "Loop", "metadata": {"name": name}, "spec": spec}
    path.write_text(json.dumps(document, indent=1))
    return path


def _folder_of(identity: int) -> str:
    try:
        return os.readlink(f"/proc/{identity}/cwd")
    except OSError:
        return ""


def _tree() -> dict[int, tuple[int, str]]:
    """Every process: its parent and its command line."""
    found: dict[int, tuple[int, str]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{entry}/stat").read_text()
                parent, state = int(status.rpartition(")")[2].split()[1]), status.rpartition(")")[2].split()[0]
                command = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if state != "Z":
                    found[int(entry)] = (parent, command)
    return found
