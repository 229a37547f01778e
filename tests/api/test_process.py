"""The real thing: `goldenloop up` on free ports, and what a Loop makes there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from goldenloop.client import Client
from goldenloop.control.home import Addresses
from goldenloop.core.errors import NotFoundError, RefusedError
from goldenloop.core.json import JsonObject

pytestmark = pytest.mark.process


def goldenloop(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "goldenloop.cli.main", *arguments, "--home", str(home), "--output", "json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    home = tmp_path_factory.mktemp("up") / "home"
    ports = ("--http-port", "0", "--inference-port", "0", "--workers", "1")
    started = goldenloop("up", "--detach", *ports, home=home)
    assert started.returncode == 0, started.stderr
    try:
        yield msgspec.json.decode(started.stdout, type=Addresses)
    finally:
        assert goldenloop("down", home=home).returncode == 0


@pytest.fixture
def client(addresses: Addresses) -> Iterator[Client]:
    client = Client(addresses)
    yield client
    client.close()


def test_it_is_ready_when_it_says_so(addresses: Addresses) -> None:
    health = httpx.get(f"{addresses.http}/healthz").json()
    assert health["ready"] is True
    deadline = time.monotonic() + 20
    while httpx.get(f"{addresses.http}/healthz").json()["workers"] != 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert httpx.get(f"{addresses.inference}/v2/health/live").status_code == 200
    assert httpx.get(f"{addresses.http}/").status_code == 200


def test_a_loop_makes_what_it_owns_and_takes_it_along(client: Client, tmp_path: Path) -> None:
    objective: JsonObject = {"indicator": "accuracy", "target": ">= 0.8"}
    document: JsonObject = {
        "apiVersion": "goldenloop.dev/v1alpha1",
        "kind": "Loop",
        "metadata": {"name": "owner"},
        "spec": {"data": {"source": str(tmp_path / "not-there.csv"), "label": "y"}, "objectives": [objective]},
    }
    assert client.apply(document)[0] == "created"
    assert client.apply(document)[0] == "unchanged"

    def made() -> JsonObject | None:
        try:
            return client.get("monitors", "owner")
        except NotFoundError:
            return None

    monitor = client.wait(made, what="the monitor", seconds=20)
    metadata = monitor["metadata"]
    assert isinstance(metadata, dict)
    (owner,) = metadata["ownerReferences"]  # type: ignore[misc]
    assert owner["kind"] == "Loop"  # type: ignore[index,call-overload]
    with pytest.raises(RefusedError, match="Change the Loop"):
        client.delete("monitors", "owner")

    def failed() -> str | None:
        lines = [str(line["text"]) for line in client.timeline("owner") if line["kind"] == "RunFailed"]
        return lines[0] if lines else None

    assert "not-there.csv" in client.wait(failed, what="the end of its run", seconds=120)
    client.delete("loops", "owner")
    for kind in ("loops", "monitors", "triggers"):
        with pytest.raises(NotFoundError):
            client.get(kind, "owner")
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:  # no reconciler that was under way brings anything back
        assert (
            client.listing("monitors")
            == client.listing("triggers")
            == client.listing("rollouts")
            == client.listing("slos")
            == []
        )
        time.sleep(0.25)


def test_a_second_platform_in_the_same_home_is_refused(addresses: Addresses) -> None:
    answer = goldenloop("up", "--detach", "--http-port", "0", "--inference-port", "0", home=Path(addresses.home))
    assert answer.returncode == 1
    assert "runs here already" in answer.stdout + answer.stderr
    assert httpx.get(f"{addresses.http}/healthz").status_code == 200, "the first goes on"
