"""tritonclient and KServe's clients, unmodified, in the environments that `make conformance` makes for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[3]
_CLIENTS = {"tritonclient": "tritonclient-2.73", "kserve": "kserve-0.21"}


@pytest.mark.process
@pytest.mark.parametrize("client", _CLIENTS)
def test_every_call_succeeds(client: str) -> None:
    variable = f"GOLDENLOOP_{client.upper()}"
    environment = Path(os.environ.get(variable, _ROOT / "build" / "conformance" / _CLIENTS[client]))
    python = environment / "bin" / "python"
    if not python.exists():
        pytest.skip(f"NO {client.upper()}: make conformance makes an environment for it, or say where: {variable}=DIR")
    done = subprocess.run(
        [sys.executable, str(_ROOT / "conformance" / "serving_clients.py"), f"--{client}", str(python)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert failed == []
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "ok  " in done.stdout
