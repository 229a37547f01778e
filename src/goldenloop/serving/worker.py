"""An inference worker: one process that answers requests by the routing table and logs them. It never opens the database.

    python -m goldenloop.serving.worker --name N --table FILE --payloads DIR --control SOCKET --http-fd FD --metrics DIR

The supervisor owns the listening socket and hands its descriptor down, so the death of a worker drops no queued connection. On SIGTERM the
worker takes no new connections, finishes what is under way (at most 10 s), brings its log to the disk and ends with 0.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import uvicorn

DRAIN_SECONDS = 10
KEEP_ALIVE_SECONDS = 75  # longer than clients keep idle connections, so that they are the ones who close


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the supervisor says on the command line."""

    name: str
    table: Path
    payloads: Path
    control: Path
    http_fd: int
    metrics: Path


async def serve(settings: Settings) -> None:
    """Answer until SIGTERM or SIGINT. Raises UnavailableError where the payload log cannot be written at all."""
    # The metrics library reads its folder when it is imported.
    from goldenloop.core.clock import SystemClock
    from goldenloop.core.wire import Held
    from goldenloop.payloads.log import PayloadWriter
    from goldenloop.serving.dataplane import DataPlane
    from goldenloop.serving.link import ControlLink
    from goldenloop.serving.metrics import FLUSH_SECONDS, Metrics
    from goldenloop.serving.rest import Application
    from goldenloop.serving.tables import TableFollower

    writer = PayloadWriter(settings.payloads, settings.name)
    metrics = Metrics(str(settings.metrics))
    plane = DataPlane(
        writer=writer,
        metrics=metrics,
        clock=SystemClock(),
        on_held=lambda namespace, service, event_us: link.send(Held(namespace, service, event_us)),
    )
    follower = TableFollower(
        settings.table, plane, on_taken=lambda generation, failed: link.serving(generation, failed)
    )

    def say_again() -> None:
        if plane.generation:
            link.serving(plane.generation, plane.failed)
        plane.report_held()

    link = ControlLink(
        settings.control, settings.name, on_nudge=follower.wake, on_settle=plane.settle, on_connected=say_again
    )

    async def flush() -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            metrics.flush()

    await follower.look()  # before the first request is taken
    server = _server(Application(plane, metrics))
    loop = asyncio.get_running_loop()

    def stop() -> None:
        plane.stop()
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    tasks = [asyncio.create_task(work) for work in (follower.follow(), link.run(), flush())]
    gc.collect()
    gc.freeze()  # what is loaded now stays: the collector need not look at it again
    try:
        await server.serve(sockets=[socket.socket(fileno=settings.http_fd)])
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        metrics.flush()
        writer.close()


def _server(application: object) -> uvicorn.Server:
    import uvicorn

    class Server(uvicorn.Server):
        """Leaves signals to us: the library raises them again after it has stopped, which would not end with 0."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    return Server(
        uvicorn.Config(
            application,  # type: ignore[arg-type]  # ours is typed by what it reads
            http="httptools",
            loop="none",
            lifespan="off",
            interface="asgi3",
            ws="none",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
    )


def _settings(arguments: list[str]) -> Settings:
    parser = argparse.ArgumentParser(prog="goldenloop.serving.worker", description="An inference worker.")
    parser.add_argument("--name", required=True, help="the worker's name; its payload segments begin with it")
    parser.add_argument("--table", required=True, type=Path, help="the routing table, a JSON file")
    parser.add_argument("--payloads", required=True, type=Path, help="the folder of the payload log")
    parser.add_argument("--control", required=True, type=Path, help="control's Unix socket")
    parser.add_argument("--http-fd", required=True, type=int, help="the descriptor of the listening socket")
    parser.add_argument("--metrics", required=True, type=Path, help="the folder where workers keep their counts")
    given = parser.parse_args(arguments)
    return Settings(
        name=given.name,
        table=given.table,
        payloads=given.payloads,
        control=given.control,
        http_fd=given.http_fd,
        metrics=given.metrics,
    )


def main(arguments: list[str]) -> int:
    """Run a worker; return the exit code."""
    from goldenloop.core.errors import GoldenloopError

    settings = _settings(arguments)
    settings.metrics.mkdir(parents=True, exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(settings.metrics)
    import uvloop

    try:
        uvloop.run(serve(settings))
    except GoldenloopError as error:
        print(f"goldenloop worker {settings.name}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
