"""What a call of MLflow's own client costs at our door, beside MLflow's server on SQLite.

    python benchmarks/mlflow_door.py --mlflow PYTHON [--rounds 40] [--runs 10000]

PYTHON is an interpreter that has mlflow. Both servers run on this machine, MLflow's with one worker (its manager ends workers that a
busy machine keeps waiting); one client process calls them in turn, so that both meet the same load. Printed are medians, the ratio, and
how long each took to be ready. Exit code 1 where a call is less than 5 times faster, or readiness takes more than 2 s.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from goldenloop.store.database import Database, sqlite_url
from goldenloop.tracking.experiments import create_experiment
from goldenloop.tracking.runs import NewRun, create_run, log_values, update_run
from goldenloop.tracking.values import Metric

FILL = Path(__file__).parent / "contenders" / "mlflow_fill.py"
CALLS = Path(__file__).parent / "contenders" / "mlflow_calls.py"
WANTED_RATIO = 5.0
WANTED_READY_SECONDS = 2.0
PATIENCE_SECONDS = 300.0


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mlflow", required=True, metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--runs", type=int, default=10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlflow-bench-") as scratch:
        folder = Path(scratch)
        fill(folder, given.mlflow, given.runs)
        with ours(folder) as (our_address, our_ready), theirs(folder, given.mlflow) as (address, their_ready):
            command = [given.mlflow, str(CALLS), our_address, address, str(given.rounds)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                sys.exit(done.stderr[-3000:])
    medians: dict[str, dict[int, float]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            measured = json.loads(line)
            medians.setdefault(measured["call"], {})[measured["server"]] = statistics.median(measured["seconds"])
    print(
        f"| at the client, median of {given.rounds}, {given.runs} runs | goldenloop | MLflow | ratio |\n|---|---|---|---|"
    )
    is_well = our_ready <= WANTED_READY_SECONDS
    for call, (our_seconds, their_seconds) in ((call, (both[0], both[1])) for call, both in medians.items()):
        ratio = their_seconds / our_seconds
        is_well = is_well and ratio >= WANTED_RATIO
        print(f"| {call} | {our_seconds * 1e3:.2f} ms | {their_seconds * 1e3:.2f} ms | {ratio:.1f} |")
    print(f"| ready | {our_ready:.2f} s | {their_ready:.2f} s | {their_ready / our_ready:.1f} |")
    return 0 if is_well else 1


def fill(folder: Path, python: str, count: int) -> None:
    """Put the same runs into both databases."""
    subprocess.run([python, str(FILL), str(folder / "mlflow.db"), str(count)], check=True, capture_output=True)
    (folder / "home").mkdir()
    database = Database(sqlite_url(folder / "home" / "state.db"))
    database.migrate()
    with database.write() as transaction:
        experiment = create_experiment(transaction, "many", location="", tags={}, now_ms=1)
        for number in range(count):
            new = NewRun(experiment_id=experiment.id, name=f"run-{number}", user="ann", start_ms=number)
            run = create_run(transaction, new).info.id
            values = [
                (name, (number * prime % 1_000) / 1_000) for name, prime in (("accuracy", 7), ("loss", 13), ("f1", 17))
            ]
            log_values(
                transaction,
                run,
                metrics=[Metric(key=name, value=value, timestamp_ms=1) for name, value in values],
                params={"depth": str(number % 10), "rate": str(number % 100), "kind": "tree"},
                tags={"team": "red" if number % 2 else "blue"},
            )
            update_run(transaction, run, status="FINISHED", end_ms=number, name=None)
    database.close()


@contextlib.contextmanager
def ours(folder: Path) -> Iterator[tuple[str, float]]:
    """Our address, and the seconds until it answered."""
    command = [sys.executable, "-m", "goldenloop.cli.main"]
    home = ("--home", str(folder / "home"))
    ports = [word for name in ("http", "inference", "grpc", "mlmd") for word in (f"--{name}-port", "0")]
    begun = time.perf_counter()
    up = subprocess.run(
        [*command, "up", *home, *ports, "--detach", "--output", "json"], capture_output=True, text=True, check=True
    )
    ready = time.perf_counter() - begun
    try:
        yield json.loads(up.stdout)["http"], ready
    finally:
        subprocess.run([*command, "down", *home], capture_output=True, check=False)


@contextlib.contextmanager
def theirs(folder: Path, python: str) -> Iterator[tuple[str, float]]:
    """The address of MLflow's server, and the seconds until it answered."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files"), "--workers", "1",
    ]  # fmt: skip
    environment = {**os.environ, "GIT_PYTHON_REFRESH": "quiet", "PATH": f"{Path(python).parent}:{os.environ['PATH']}"}
    begun = time.perf_counter()
    with (folder / "mlflow.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        while True:
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                break
            if server.poll() is not None or time.perf_counter() - begun > PATIENCE_SECONDS:
                sys.exit((folder / "mlflow.log").read_text()[-3000:])
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}", time.perf_counter() - begun
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


if __name__ == "__main__":
    sys.exit(main())
