"""The control process: `python -m goldenloop.api.process --home DIR --http-fd FD --database URL --artifacts URL [--mlmd-fd FD]`."""

from __future__ import annotations

import argparse
import logging
import socket
from pathlib import Path

import uvicorn

from goldenloop.api.app import application
from goldenloop.api.mlmd.door import MlmdDoor
from goldenloop.control.home import Home
from goldenloop.control.platform import Platform, Settings
from goldenloop.core.clock import SystemClock
from goldenloop.serving.grpc.listening import MethodServer

DRAIN_SECONDS = 3  # for clients to finish what they have begun


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", required=True)
    parser.add_argument("--http-fd", type=int, required=True)
    parser.add_argument("--mlmd-fd", type=int)
    parser.add_argument("--database", required=True)
    parser.add_argument("--artifacts", required=True)
    parser.add_argument("--pages", default="")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    platform = Platform(Home.at(given.home), Settings(database_url=given.database, artifacts_url=given.artifacts))
    platform.start()
    config = uvicorn.Config(
        application(platform, Path(given.pages) if given.pages else None),
        log_level="warning",
        access_log=False,
        http="httptools",
        loop="uvloop",
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    door = None if given.mlmd_fd is None else MlmdDoor(platform.database, SystemClock())
    try:
        server = uvicorn.Server(config) if door is None else _Servers(config, door, socket.socket(fileno=given.mlmd_fd))
        server.run(sockets=[socket.socket(fileno=given.http_fd)])
    finally:
        if door is not None:
            door.close()
        platform.stop()


class _Servers(uvicorn.Server):
    """HTTP, and ML Metadata's gRPC in the same event loop."""

    def __init__(self, config: uvicorn.Config, door: MlmdDoor, listener: socket.socket) -> None:
        super().__init__(config)
        self._mlmd = MethodServer(door.methods())
        self._listener = listener

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on both."""
        await super().startup(sockets)
        await self._mlmd.start(self._listener)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let both finish what has begun."""
        await self._mlmd.drain(DRAIN_SECONDS)
        await super().shutdown(sockets)


if __name__ == "__main__":
    main()
