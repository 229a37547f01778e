"""MLflow's client and Kubeflow's Model Registry client, unchanged, against our doors: every kind of call, in a table.

    python conformance/mlflow_client.py [--mlflow PYTHON …] [--registry PYTHON]

PYTHON is an interpreter that has the client (mlflow 3 and mlflow 2 may both be given). Starts a platform in a temporary folder,
prints a row for each call, and ends with 1 if a call failed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

CLIENTS = Path(__file__).parent / "clients"
CALLS_SECONDS = 900.0
READY_SECONDS = 120.0


class Call(msgspec.Struct, frozen=True):
    """What came of one call."""

    client: str
    call: str
    ok: bool
    told: str


def main() -> int:
    """Run the clients that are given; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mlflow", metavar="PYTHON", action="append", default=[])
    parser.add_argument("--registry", metavar="PYTHON", action="append", default=[])
    given = parser.parse_args()
    programs = [(python, "mlflow_calls.py") for python in given.mlflow]
    programs += [(python, "model_registry_calls.py") for python in given.registry]
    if not programs:
        parser.error("say at least one of --mlflow and --registry")
    is_well = True
    for python, program in programs:
        with tempfile.TemporaryDirectory(prefix="conformance-") as folder, platform(Path(folder)) as address:
            calls, trouble = run(python, CLIENTS / program, address, Path(folder))
        print(table(calls))
        if trouble:
            print(trouble, file=sys.stderr)
        is_well = is_well and bool(calls) and not trouble and all(call.ok for call in calls)
    return 0 if is_well else 1


def run(python: str, program: Path, address: str, folder: Path) -> tuple[list[Call], str]:
    """Let a program make its calls; return them, and what it said if it did not come to its end."""
    done = subprocess.run(
        [python, str(program), address],
        capture_output=True, text=True, timeout=CALLS_SECONDS, check=False, cwd=folder,
        env={**os.environ, "MLFLOW_TRACKING_URI": address, "GIT_PYTHON_REFRESH": "quiet", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    calls = [msgspec.json.decode(line, type=Call) for line in done.stdout.splitlines() if line.startswith('{"client"')]
    return calls, "" if done.returncode == 0 else done.stderr[-3000:]


def table(calls: list[Call]) -> str:
    """The calls, one a line, and how many of them were as they should be."""
    lines = [
        f"{'ok  ' if call.ok else 'FAIL'} {call.client:20} {call.call}{'' if call.ok else f': {call.told}'}"
        for call in calls
    ]
    return "\n".join([*lines, f"{sum(call.ok for call in calls)} of {len(calls)} calls"])


@contextlib.contextmanager
def platform(folder: Path) -> Iterator[str]:
    """Where a fresh platform answers."""
    command = [sys.executable, "-m", "goldenloop.cli.main"]
    home = ("--home", str(folder / "home"))
    ports = [word for name in ("http", "inference", "grpc", "mlmd") for word in (f"--{name}-port", "0")]
    up = subprocess.run(
        [*command, "up", *home, *ports, "--detach", "--output", "json"],
        capture_output=True, text=True, check=True, timeout=READY_SECONDS,
    )  # fmt: skip
    try:
        yield json.loads(up.stdout)["http"]
    finally:
        subprocess.run([*command, "down", *home], capture_output=True, check=False)


if __name__ == "__main__":
    sys.exit(main())
