"""The commands of the README work when they are typed, and what follows from an answer does too: its label, its trace."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Only so that tests do not disturb each other: the rest is run as it is written.
UP = "goldenloop up --detach"
UP_ANYWHERE = f"{UP} --http-port 0 --inference-port 0 --workers 1"


def blocks(page: Path) -> list[list[str]]:
    """The lines of each block that is marked `sh`."""
    found = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.M | re.S)
    return [[line.split(" #")[0].rstrip() for line in block.splitlines() if line.strip()] for block in found]


def typed(folder: Path, *lines: str, seconds: float = 240) -> subprocess.CompletedProcess[str]:
    """What comes of typing these lines in a shell that stops at the first that fails."""
    environment = {name: value for name, value in os.environ.items() if name != "GOLDENLOOP_HOME"}
    environment |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        ["bash", "-euc", "\n".join(lines)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def status(address: str, path: str) -> int:
    """The status of a GET."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_blocks_are_of_known_kinds() -> None:
    """What is marked `sh` is run by a test below, or is a target of make: nothing is documented and left untried."""
    loose = [
        (page.name, block[0])
        for page in PAGES
        for block in blocks(page)
        if not all(line.startswith("make ") for line in block)
    ]
    assert loose == [("README.md", "goldenloop init loans"), ("README.md", "cd examples/loan")]


@pytest.mark.process
def test_the_readme_can_be_typed(tmp_path: Path) -> None:
    [block] = [block for block in blocks(ROOT / "README.md") if block[0].startswith("goldenloop init")]
    assert UP in block
    assert block[-1] == "goldenloop down"
    name = shlex.split(block[0])[2]
    folder = tmp_path / name
    lines = [UP_ANYWHERE if line == UP else line for line in block[:-1]]
    try:
        done = typed(tmp_path, *lines)
        assert done.returncode == 0, done.stdout + done.stderr
        [ask] = [line for line in block if line.startswith("goldenloop predict")]
        asked = typed(folder, f"{ask} --output json")
        assert asked.returncode == 0, asked.stdout + asked.stderr
        identity = json.loads(asked.stdout)["id"]
        told = typed(folder, f"goldenloop feedback {identity} yes")
        assert told.returncode == 0, told.stderr
        traced = typed(folder, f"goldenloop trace {identity} --output json")
        assert traced.returncode == 0, traced.stdout + traced.stderr
        trace = json.loads(traced.stdout)
        assert trace["prediction"]["id"] == identity
        assert trace["payload"]["amount"] == 3000
        assert trace["version"]["number"] == 1
        for part in ("answer", "evaluation", "run", "data", "code", "attributions"):
            assert trace[part], f"the trace says nothing of {part}"
        inference = json.loads((folder / ".goldenloop" / "addresses.json").read_text())["inference"]
        text = (ROOT / "docs" / "http.md").read_text()
        routes = re.findall(r"^\| `([^`]+)` \| GET \|", text[text.index("## Inference") :], re.M)
        assert len(routes) >= 8
        for route in routes:
            path = route.replace("{name}", name).replace("{version}", "1")
            assert status(inference, path) == 200, path
        wrong = typed(folder, "goldenloop get loop nothing --output json")
        assert wrong.returncode == 1
        assert set(json.loads(wrong.stdout)["error"]) == {"what", "where", "mend"}
        assert typed(folder, "goldenloop get").returncode == 2
    finally:
        stopped = typed(folder if folder.is_dir() else tmp_path, "goldenloop down")
    assert stopped.returncode == 0, stopped.stderr


@pytest.mark.process
def test_why_was_this_customer_refused(tmp_path: Path) -> None:
    [block] = [block for block in blocks(ROOT / "README.md") if block[0] == "cd examples/loan"]
    folder = tmp_path / "loan"
    shutil.copytree(ROOT / "examples" / "loan", folder, ignore=shutil.ignore_patterns(".goldenloop"))
    _, up, *middle, trace, down = block
    assert (up, down) == (UP, "goldenloop down")
    assert trace == "goldenloop trace PREDICTION_ID"
    try:
        done = typed(folder, UP_ANYWHERE, *middle)
        assert done.returncode == 0, done.stdout + done.stderr
        identity = json.loads(done.stdout[done.stdout.index("{\n") :])["id"]
        shown = typed(folder, trace.replace("PREDICTION_ID", identity))
        assert shown.returncode == 0, shown.stdout + shown.stderr
        assert identity in shown.stdout
        assert re.search(r"(raised|lowered) the probability of", shown.stdout), shown.stdout
        traced = typed(folder, f"goldenloop trace {identity} --output json")
        assert json.loads(traced.stdout)["answer"]["value"] is not None
    finally:
        stopped = typed(folder, down)
    assert stopped.returncode == 0, stopped.stderr
