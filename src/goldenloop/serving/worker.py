"""An inference worker: one process that answers requests by the routing table and logs them. It never opens the database.

    python -m goldenloop.serving.worker --name N --table FILE --payloads DIR --control SOCKET --http-fd FD --metrics DIR
        [--grpc-fd FD]

The supervisor owns the listening sockets and hands their descriptors down, so the death of a worker drops no queued connection. On
SIGTERM the worker takes no new connections, finishes what is under way (at most 10 s), brings its log to the disk and ends with 0.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goldenloop.serving.http.connection import Handler
    from goldenloop.serving.watching import Watcher

DRAIN_SECONDS = 10
WANTED_SECONDS = 30.0  # for control to load or unload a service


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the supervisor says on the command line."""

    name: str
    table: Path
    payloads: Path
    control: Path
    http_fd: int
    metrics: Path
    grpc_fd: int | None = None
    predictors: Path | None = None
    model_memory: int | None = None
    access_log: str | None = None
    otel: str | None = None


async def serve(settings: Settings) -> None:
    """Answer until SIGTERM or SIGINT. Raises UnavailableError where the payload log cannot be written at all."""
    # The metrics library reads its folder when it is imported.
    from goldenloop.core.clock import SystemClock
    from goldenloop.core.errors import UnavailableError
    from goldenloop.core.wire import Held, Wanted
    from goldenloop.payloads.log import PayloadWriter
    from goldenloop.serving.dataplane import DataPlane, Deployed
    from goldenloop.serving.endpoints import Endpoints
    from goldenloop.serving.http.server import HttpServer
    from goldenloop.serving.link import ControlLink
    from goldenloop.serving.metrics import FLUSH_SECONDS, Metrics
    from goldenloop.serving.notices import Notices
    from goldenloop.serving.rest import Application
    from goldenloop.serving.tables import TableFollower

    writer = PayloadWriter(settings.payloads, settings.name)
    metrics = Metrics(str(settings.metrics))
    plane = DataPlane(
        writer=writer,
        metrics=metrics,
        clock=SystemClock(),
        on_held=lambda namespace, service, event_us: link.send(Held(namespace, service, event_us)),
        bring=lambda deployed: follower.bring(deployed),
    )
    follower = TableFollower(
        settings.table,
        plane,
        on_taken=lambda generation, failed: link.serving(generation, failed),
        sockets=settings.predictors,
        memory_budget=settings.model_memory,
    )

    async def want(deployed: Deployed, loaded: bool) -> None:
        """Ask control, and return when the table says so."""
        if not link.is_connected:
            raise UnavailableError(
                "control cannot be reached, and it loads and unloads", mend="Send the request again."
            )
        link.send(Wanted(deployed.namespace, deployed.name, loaded))
        end = asyncio.get_running_loop().time() + WANTED_SECONDS
        while asyncio.get_running_loop().time() < end:
            now = next(
                (each for each in plane.services if (each.namespace, each.name) == (deployed.namespace, deployed.name)),
                None,
            )
            if now is not None and now.service.loaded is loaded:
                return
            await asyncio.sleep(0.02)
        raise UnavailableError("control did not do it in time", where=deployed.name, mend="Send the request again.")

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

    await follower.look()
    await follower.all_loaded()  # before the first request is taken
    notices = Notices(settings.payloads.parent / "notices", settings.name, count=metrics.noticed)
    endpoints = Endpoints(plane, want=want, notices=notices)
    handler: Handler = Application(endpoints).answer
    watchers = watchers_of(settings.access_log, settings.otel)
    if watchers:
        from goldenloop.serving.watching import note, watched_handler

        handler = watched_handler(handler, watchers)
        plane.note = note
    server = HttpServer(handler)
    loop = asyncio.get_running_loop()

    grpc_server = None
    if settings.grpc_fd is not None:
        from goldenloop.serving.grpc.server import GrpcServer

        grpc_server = GrpcServer(endpoints, watchers=watchers)
        await grpc_server.start(socket.socket(fileno=settings.grpc_fd))

    stopping = asyncio.Event()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    tasks = [asyncio.create_task(work) for work in (follower.follow(), link.run(), flush())]
    gc.collect()
    gc.freeze()  # what is loaded now stays: the collector need not look at it again
    try:
        await server.start(socket.socket(fileno=settings.http_fd))
        await stopping.wait()
        plane.stop()
        drained = [server.drain(DRAIN_SECONDS)]
        if grpc_server is not None:
            drained.append(grpc_server.drain(DRAIN_SECONDS))
        await asyncio.gather(*drained)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for watcher in watchers:
            watcher.close()
        await asyncio.to_thread(notices.close)
        metrics.flush()
        writer.close()


def watchers_of(access_log: str | None, otel: str | None) -> list[Watcher]:
    """Who watches requests. Raises UnavailableError where the packages for traces are not there."""
    watchers: list[Watcher] = []
    if access_log is not None:
        from goldenloop.serving.access_log import AccessLog

        watchers.append(AccessLog(access_log))
    if otel is not None:
        from goldenloop.serving.telemetry import Telemetry

        watchers.append(Telemetry(otel))
    return watchers


def _settings(arguments: list[str]) -> Settings:
    parser = argparse.ArgumentParser(prog="goldenloop.serving.worker", description="An inference worker.")
    parser.add_argument("--name", required=True, help="the worker's name; its payload segments begin with it")
    parser.add_argument("--table", required=True, type=Path, help="the routing table, a JSON file")
    parser.add_argument("--payloads", required=True, type=Path, help="the folder of the payload log")
    parser.add_argument("--control", required=True, type=Path, help="control's Unix socket")
    parser.add_argument("--http-fd", required=True, type=int, help="the descriptor of the listening socket")
    parser.add_argument(
        "--grpc-fd", type=int, help="the descriptor of the listening socket for gRPC; none is served without it"
    )
    parser.add_argument("--metrics", required=True, type=Path, help="the folder where workers keep their counts")
    parser.add_argument("--predictors", type=Path, help="the folder of the sockets of predictor processes")
    parser.add_argument(
        "--model-memory", type=int, help="bytes of model files that are loaded at the same time; no bound if not given"
    )
    parser.add_argument("--access-log", help="a file to which each request adds a line of JSON; - for standard output")
    parser.add_argument("--otel", help="where traces go to: the address of an OTLP receiver over HTTP")
    given = parser.parse_args(arguments)
    return Settings(
        name=given.name,
        table=given.table,
        payloads=given.payloads,
        control=given.control,
        http_fd=given.http_fd,
        metrics=given.metrics,
        grpc_fd=given.grpc_fd,
        predictors=given.predictors,
        model_memory=given.model_memory,
        access_log=given.access_log,
        otel=given.otel,
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
