"""The inference clients of others, unchanged, against our servers: every call of tritonclient and of KServe's own clients.

    python conformance/serving_clients.py [--tritonclient PYTHON] [--kserve PYTHON]

PYTHON is an interpreter that has the client; each client runs in its own, because their protocol buffers clash in one process. Starts a
platform in a temporary folder, serves what the clients ask for, prints a table with a row for each call, and ends with 1 if a call failed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import msgspec

CLIENTS = Path(__file__).parent / "clients"
READY_SECONDS = 180.0
CALLS_SECONDS = 300.0
DATATYPES = {
    "BOOL": "BOOL", "INT8": "INT8", "INT16": "INT16", "INT32": "INT32", "INT64": "INT64", "UINT8": "UINT8", "UINT16": "UINT16",
    "UINT32": "UINT32", "UINT64": "UINT64", "FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE", "BYTES": "STRING",
}  # fmt: skip
COUNTING = '''
class Counting:
    """Doubles."""

    def predict(self, payload):
        return {"predictions": [2 * each for each in payload["instances"]]}

    def explain(self, payload):
        return {"explanations": ["doubled" for _ in payload["instances"]]}
'''


class Call(msgspec.Struct, frozen=True):
    """What came of one call."""

    client: str
    call: str
    ok: bool
    told: str


@dataclass(frozen=True, slots=True)
class Served:
    """Where a platform answers, `HOST:PORT`."""

    rest: str
    grpc: str


def main() -> int:
    """Run the clients that are given; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tritonclient", metavar="PYTHON")
    parser.add_argument("--kserve", metavar="PYTHON")
    options = parser.parse_args()
    programs = [(each, getattr(options, each)) for each in ("tritonclient", "kserve") if getattr(options, each)]
    if not programs:
        parser.error("say at least one of --tritonclient and --kserve")
    is_well = True
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder, serving(Path(folder)) as served:
        for client, python in programs:
            calls, trouble = run(python, CLIENTS / f"{client}_calls.py", served)
            print(table(calls))
            if trouble:
                print(trouble, file=sys.stderr)
            is_well = is_well and bool(calls) and not trouble and all(call.ok for call in calls)
    return 0 if is_well else 1


def run(python: str, program: Path, served: Served) -> tuple[list[Call], str]:
    """Let a program make its calls; return them, and what it said if it did not come to its end."""
    try:
        done = subprocess.run(
            [python, str(program), served.rest, served.grpc],
            capture_output=True, text=True, timeout=CALLS_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        told = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
        return _calls(told), f"{program.name} did not end within {CALLS_SECONDS:.0f} s"
    trouble = "" if done.returncode in (0, 1) and "Traceback" not in done.stderr else done.stderr[-2000:]
    return _calls(done.stdout), trouble


def _calls(told: str) -> list[Call]:
    return [msgspec.json.decode(line, type=Call) for line in told.splitlines() if line.startswith("{")]


def table(calls: list[Call]) -> str:
    """The calls, one a line, and how many of them were as they should be."""
    lines = [
        f"{'ok  ' if call.ok else 'FAIL'} {call.client:32} {call.call}{'' if call.ok else f': {call.told}'}"
        for call in calls
    ]
    return "\n".join([*lines, f"{sum(call.ok for call in calls)} of {len(calls)} calls"])


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """A platform with what the clients ask for."""
    home, models = folder / "home", folder / "models"
    make_models(models)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GOLDENLOOP_HOME": str(home)}

    def goldenloop(*words: str) -> str:
        command = [sys.executable, "-m", "goldenloop.cli.main", *words]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=READY_SECONDS, check=False
        )
        if done.returncode:
            raise SystemExit(f"goldenloop {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    ports = ("--http-port", "0", "--inference-port", "0", "--grpc-port", "0")
    goldenloop("up", "--detach", "--home", str(home), "--workers", "2", *ports, "--output", "json")
    try:
        names = ("iris", "echo", "spare", "counting")
        (folder / "services.yaml").write_text(
            "---\n".join(json.dumps(service(name, models / name)) + "\n" for name in names)
        )
        goldenloop("apply", "-f", str(folder / "services.yaml"))
        end = time.monotonic() + READY_SECONDS
        for name in names:
            while not is_ready(goldenloop("get", "isvc", name, "--output", "json")):
                if time.monotonic() > end:
                    raise SystemExit(
                        f"{name} does not become ready: {goldenloop('get', 'isvc', name, '--output', 'json')}"
                    )
                time.sleep(0.3)
        yield addresses(home)
    finally:
        goldenloop("down", "--home", str(home))


def addresses(home: Path) -> Served:
    """Where the platform of a home answers."""
    from goldenloop.control.home import Home

    found = Home(home).running()
    return Served(
        found.inference.partition("://")[2], cast(str, found.grpc).partition("://")[2] or cast(str, found.grpc)
    )


def is_ready(document: str) -> bool:
    """Whether a service answers."""
    conditions = json.loads(document).get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def service(name: str, folder: Path) -> dict[str, object]:
    """The InferenceService of a model."""
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": {"model": {"modelFormat": {"name": _FORMATS[name]}, "storageUri": str(folder)}}},
    }


_FORMATS = {"iris": "sklearn", "spare": "sklearn", "echo": "onnx", "counting": "python"}


def make_models(folder: Path) -> None:
    """A table (twice), a graph that gives back what it takes in every datatype, and code."""
    import skops.io
    from onnx import TensorProto, helper, save
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    rows, labels = load_iris(return_X_y=True, as_frame=True)
    rows.columns = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    for name in _FORMATS:
        (folder / name).mkdir(parents=True)
    for name in ("iris", "spare"):
        skops.io.dump(LogisticRegression(max_iter=500).fit(rows, labels), folder / name / "model.skops")
    inputs = [
        helper.make_tensor_value_info(name, getattr(TensorProto, kind), ["rows", 2]) for name, kind in DATATYPES.items()
    ]
    outputs = [
        helper.make_tensor_value_info(f"out_{name}", getattr(TensorProto, kind), ["rows", 2])
        for name, kind in DATATYPES.items()
    ]
    nodes = [helper.make_node("Identity", [name], [f"out_{name}"]) for name in DATATYPES]
    graph = helper.make_graph(nodes, "echo", inputs, outputs)
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)])
    save(model, str(folder / "echo" / "model.onnx"))
    (folder / "counting" / "model.py").write_text(COUNTING)


if __name__ == "__main__":
    sys.exit(main())
