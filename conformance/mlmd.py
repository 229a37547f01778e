"""The test suite that ships with `ml-metadata`, unchanged, against our gRPC service.

    python conformance/mlmd.py --python PYTHON [--only TEXT]

PYTHON is an interpreter that has `ml-metadata` and `pytest`. Starts a platform in a temporary folder, since the suite takes for granted
that nobody used the store before, runs the suite, says what came of it, and ends with 1 if a test failed that ML Metadata's own engine
passes.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

# These call the suite's own helper wrongly, and so fail against every server, ML Metadata's too.
FAULTS_OF_THE_SUITE = frozenset(
    {
        "test_connection_config_with_grpc_client_timeout_sec_errors",
        "test_connection_config_with_grpc_http2_max_ping_strikes",
        "test_connection_config_with_grpc_max_receive_message_length",
        "test_connection_config_with_grpc_max_receive_message_length_errors",
    }
)
SUITE_SECONDS = 600.0


def main() -> int:
    """Run the suite; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", metavar="PYTHON", required=True)
    parser.add_argument("--only", metavar="TEXT", default="", help="as pytest's -k")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlmd-") as folder:
        home = str(Path(folder) / "home")
        up = ("up", "--detach", "--home", home, "--http-port", "0", "--inference-port", "0", "--workers", "1")
        started = _goldenloop(*up, "--output", "json")
        try:
            told = _run_suite(options.python, json.loads(started)["mlmd"], options.only, folder)
        finally:
            _goldenloop("down", "--home", home)
    failed = set(re.findall(r"^(?:FAILED|ERROR) \S*::(\w+)", told, flags=re.MULTILINE))
    unexpected = failed - FAULTS_OF_THE_SUITE
    for name in sorted(unexpected):
        print(f"FAIL {name}")
    print(told.strip().splitlines()[-1])
    is_whole = " passed" in told.strip().splitlines()[-1]
    return int(bool(unexpected) or not is_whole)


def _run_suite(python: str, address: str, only: str, folder: str) -> str:
    import_line = "import ml_metadata.metadata_store as m; print(m.__path__[0])"
    found = subprocess.run([python, "-c", import_line], capture_output=True, text=True, check=True)
    suite = Path(found.stdout.strip()) / "metadata_store_test.py"
    host, _, port = address.partition(":")
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", str(suite), "-k", only]
    where = ["--use_grpc_backend", "--grpc_host", host, "--grpc_port", port]
    done = subprocess.run(
        [*command, *where], cwd=folder, capture_output=True, text=True, timeout=SUITE_SECONDS, check=False
    )
    return done.stdout + done.stderr


def _goldenloop(*arguments: str) -> str:
    command = [sys.executable, "-m", "goldenloop.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=180).stdout


if __name__ == "__main__":
    sys.exit(main())
