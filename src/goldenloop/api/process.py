"""The control process: `python -m goldenloop.api.process --home DIR --http-fd FD --database URL --artifacts URL`."""

from __future__ import annotations

import argparse
import logging
import socket
from pathlib import Path

import uvicorn

from goldenloop.api.app import application
from goldenloop.control.home import Home
from goldenloop.control.platform import Platform, Settings


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", required=True)
    parser.add_argument("--http-fd", type=int, required=True)
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
        timeout_graceful_shutdown=3,
    )
    try:
        uvicorn.Server(config).run(sockets=[socket.socket(fileno=given.http_fd)])
    finally:
        platform.stop()


if __name__ == "__main__":
    main()
