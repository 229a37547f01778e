"""MLflow's clients and Kubeflow's Model Registry client, unmodified, in the environments that `make conformance` makes for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[3]
_CLIENTS = {
    "mlflow3": ("mlflow", "mlflow-3"),
    "mlflow2": ("mlflow", "mlflow-2"),
    "model-registry": ("registry", "model-registry-0.3"),
}


@pytest.mark.process
@pytest.mark.parametrize("client", _CLIENTS)
def test_every_call_succeeds(client: str) -> None:
    option, folder = _CLIENTS[client]
    variable = f"GOLDENLOOP_{client.upper().replace('-', '_')}"
    python = Path(os.environ.get(variable, _ROOT / "build" / "conformance" / folder)) / "bin" / "python"
    if not python.exists():
        pytest.skip(f"NO {client.upper()}: make conformance makes an environment for it, or say where: {variable}=DIR")
    done = subprocess.run(
        [sys.executable, str(_ROOT / "conformance" / "mlflow_client.py"), f"--{option}", str(python)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert failed == []
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "ok  " in done.stdout
