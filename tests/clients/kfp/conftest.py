"""A whole platform on a loopback port, its ring turning, for KFP's own clients."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Iterator

import kfp
import pytest
import uvicorn

from goldenloop.api.app import application
from goldenloop.control.home import Home
from goldenloop.control.platform import Platform, Settings
from goldenloop.web import static_folder

_numbers = itertools.count()


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the platform answers."""
    home = Home.at(tmp_path_factory.mktemp("kfp") / "home")
    platform = Platform(home, Settings(database_url=home.database_url, artifacts_url=str(home.artifacts)))
    platform.start()
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
    platform.stop()


@pytest.fixture
def client(address: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> kfp.Client:
    """`kfp.Client` as a person makes it; what it remembers between calls stays out of this person's home."""
    monkeypatch.setattr(kfp.Client, "_LOCAL_KFP_CONTEXT", f"{tmp_path}/kfp/context.json")
    return kfp.Client(host=address)


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"name-{next(_numbers)}"
