"""`kfp.kubeflow_client.PipelinesClient` of kfp 2.17, unmodified, in the environment that `make conformance` makes for it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

_ENVIRONMENT = Path(__file__).parents[3] / "build" / "conformance" / "kfp-2.17"
_PROGRAM = Path(__file__).with_name("pipelines_client_program.py")


@pytest.mark.process
def test_what_a_person_does_with_it_works(address: str, tmp_path: Path) -> None:
    python = Path(os.environ.get("GOLDENLOOP_KFP_2_17", _ENVIRONMENT)) / "bin" / "python"
    if not python.exists():
        pytest.skip("NO KFP 2.17: make conformance makes an environment for it, or say where: GOLDENLOOP_KFP_2_17=DIR")
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        [str(python), str(_PROGRAM), address, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=180,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["versions"] == ["v1", "v2"]
    assert sorted(seen["listed"]) == ["v1", "v2"]
    assert seen["v1"] == "v1"
    assert "adding" in seen["pipelines"]
    assert seen["experiment"] == ["sums", True]
    assert "sums" in seen["experiments"]
    assert len(seen["runs"]) == 6
    assert all(outcome == ["SUCCEEDED", {"a": 5}] for outcome in seen["runs"].values())
    assert (seen["of the pipeline"], seen["of the experiment"]) == (4, 1)
    assert seen["succeeded"] >= 6
    assert "multiple versions" in seen["refused"]
    assert seen["pipeline is gone"] is True
    assert seen["experiment is gone"] is True
