"""Prometheus and Alertmanager themselves, from Debian's packages: to check what is written for them, and to run them for a test."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

PROMTOOL = shutil.which("promtool")
PROMETHEUS = shutil.which("prometheus")
ALERTMANAGER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")

needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="SKIPPED, NOT PASSED: no promtool; `apt-get install prometheus` lets rules be checked"
)
needs_servers = pytest.mark.skipif(
    PROMETHEUS is None or ALERTMANAGER is None,
    reason="SKIPPED, NOT PASSED: no Prometheus or no Alertmanager; `apt-get install prometheus prometheus-alertmanager`",
)


def promtool(*arguments: str | Path) -> str:
    """What promtool says; it must be content."""
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def free_port() -> int:
    """A port of loopback that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class PrometheusServer:
    """A Prometheus that runs, asked over its API."""

    def __init__(self, address: str) -> None:
        self.address = address

    def query(self, promql: str) -> list[dict[str, object]]:
        """The samples that answer a query, now. A query that Prometheus does not take fails the test."""
        asked = f"{self.address}/api/v1/query?query={urllib.request.quote(promql)}"  # type: ignore[attr-defined]
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                body = json.load(answer)
        except urllib.error.HTTPError as error:
            pytest.fail(f"{promql}: {error.read().decode()}")
        found: list[dict[str, object]] = body["data"]["result"]
        return found


@contextlib.contextmanager
def _process(command: list[str], ready: str, log: Path) -> Iterator[None]:
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        end = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(ready, timeout=5):
                    break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


@contextlib.contextmanager
def prometheus_server(configuration: Path) -> Iterator[PrometheusServer]:
    """A Prometheus with this configuration, on a free port, with its data beside the configuration."""
    assert PROMETHEUS is not None
    address = f"127.0.0.1:{free_port()}"
    command = [
        *(PROMETHEUS, f"--config.file={configuration}", f"--web.listen-address={address}"),
        *(f"--storage.tsdb.path={configuration.parent / 'tsdb'}", "--rules.alert.resend-delay=2s"),
    ]
    with _process(command, f"http://{address}/-/ready", configuration.parent / "prometheus.log"):
        yield PrometheusServer(f"http://{address}")


@contextlib.contextmanager
def alertmanager_server(configuration: Path, port: int) -> Iterator[None]:
    """An Alertmanager with this configuration, alone."""
    assert ALERTMANAGER is not None
    command = [
        *(ALERTMANAGER, f"--config.file={configuration}", f"--web.listen-address=127.0.0.1:{port}"),
        *(f"--storage.path={configuration.parent / 'alertmanager'}", "--cluster.listen-address="),
    ]
    with _process(command, f"http://127.0.0.1:{port}/-/ready", configuration.parent / "alertmanager.log"):
        yield
