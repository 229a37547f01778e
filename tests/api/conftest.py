"""The control plane on a loopback port, its ring standing still: what the API does alone."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from goldenloop.api.app import application
from goldenloop.control.home import Home
from goldenloop.control.platform import Platform, Settings
from goldenloop.web import static_folder

_numbers = itertools.count()


class StandingStill(Platform):
    """A platform whose reconcilers look at nothing."""

    def _turn(self) -> None:
        while not self._stopping.wait(0.05):
            self.looked_at = time.monotonic()


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    home = Home.at(tmp_path_factory.mktemp("api") / "home")
    platform = StandingStill(home, Settings(database_url=home.database_url, artifacts_url=str(home.artifacts)))
    platform.start()
    yield platform
    platform.stop()


@pytest.fixture(scope="session")
def address(platform: Platform) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        application(platform, static_folder()), log_level="warning", access_log=False, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline, "the control plane did not start"
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(timeout=10)


@pytest.fixture(scope="session")
def http(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=10) as client:
        yield client


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test writes in."""
    return f"team-{next(_numbers)}"
