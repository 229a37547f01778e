"""The suite that ships with ml-metadata, unmodified, in the environment that `make conformance` makes for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[3]
_VARIABLE = "GOLDENLOOP_ML_METADATA"


@pytest.mark.process
def test_its_own_client_reads_and_writes_the_graph() -> None:
    environment = Path(os.environ.get(_VARIABLE, _ROOT / "build" / "conformance" / "ml-metadata-1.17"))
    python = environment / "bin" / "python"
    if not python.exists():
        pytest.skip(f"NO ML-METADATA: make conformance makes an environment for it, or say where: {_VARIABLE}=DIR")
    program = str(_ROOT / "conformance" / "mlmd.py")
    done = subprocess.run(
        [sys.executable, program, "--python", str(python)], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "102 passed" in done.stdout
