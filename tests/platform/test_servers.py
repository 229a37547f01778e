"""The whole platform on servers: its records in PostgreSQL, its artifacts in an object store, the commands the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

ROWS = 400
LOOP = """
apiVersion: goldenloop.dev/v1alpha1
kind: Loop
metadata: {name: coins}
spec:
  data: {source: coins.csv, label: side}
"""


@pytest.fixture
def environment(s3_server: str) -> dict[str, str]:
    """What leads to a server that speaks S3, with the bucket `platform`."""
    import s3fs

    client = s3fs.S3FileSystem(key="test", secret="test", client_kwargs={"endpoint_url": s3_server})
    client.mkdir("platform")
    return {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def test_the_loop_runs_on_servers_and_finds_them_again(
    postgresql_url: str, environment: dict[str, str], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    rows = [f"{x / 10},{'a' if x % 3 else 'b'},{'heads' if x > ROWS / 2 else 'tails'}" for x in range(ROWS)]
    (tmp_path / "coins.csv").write_text("x,kind,side\n" + "\n".join(rows) + "\n")
    (tmp_path / "loop.yaml").write_text(LOOP)

    def typed(*words: str) -> dict[str, object]:
        command = [sys.executable, "-m", "goldenloop.cli.main", *words, "--home", str(home), "--output", "json"]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        answer: dict[str, object] = json.loads(done.stdout)
        return answer

    ports = ("--http-port", "0", "--inference-port", "0", "--workers", "1", "--detach")
    typed("up", *ports, "--database", postgresql_url, "--artifacts", "s3://platform/loop")
    try:
        typed("apply", "-f", "loop.yaml", "--wait")
        answer = typed("predict", "coins", '{"x": 39.0, "kind": "a"}')
        assert answer["predictions"] == ["heads"]
        typed("down")
        assert not (home / "state.db").exists(), "nothing was kept in a file"
        assert not (home / "artifacts").exists()
        typed("up", *ports)  # where its records are is remembered
        again = typed("predict", "coins", '{"x": 1.0, "kind": "b"}')
        assert again["predictions"] == ["tails"]
        traced = typed("trace", str(answer["id"]))
        assert traced["answer"] is not None
        assert traced["attributions"], traced.get("explanation")
    finally:
        typed("down")
