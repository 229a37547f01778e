"""The host of predictor processes: owns their sockets, starts them by the routing table, watches them, and ends what is no longer needed.

    python -m goldenloop.serving.predictors.host --home DIR --table FILE --sockets DIR

Rules. It reads the table and the folders of models and nothing else, and loads no model itself. A version that the table no longer names
stays until no worker is connected to it any more, because workers change to a new table when they have loaded what is in it. When the host
dies its processes die with it; the next one begins from the table, and ends first what was left.
"""

from __future__ import annotations

import argparse
import os
import selectors
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from goldenloop.core.errors import GoldenloopError
from goldenloop.core.routing import RoutingTable
from goldenloop.serving.predictors.isolation import ISOLATIONS, Isolation, check
from goldenloop.serving.predictors.launch import mark_of
from goldenloop.serving.predictors.limits import end_marked
from goldenloop.serving.predictors.needs import Need, needs_of
from goldenloop.serving.predictors.places import Place
from goldenloop.serving.predictors.replica import Replica
from goldenloop.serving.predictors.trust import reason_to_refuse

if TYPE_CHECKING:
    from types import FrameType

LOOK_SECONDS = 0.1  # between two looks at the table and the processes
IDLE_LOOK_SECONDS = 0.25  # where there are none
LINGER_SECONDS = 30.0  # a socket that no table names stays so long after the last connection
LOAD_SECONDS = 300.0  # for a model to load
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the supervisor says on the command line."""

    table: Path
    sockets: Path
    logs: Path
    key: Path
    isolation: Isolation
    load_seconds: float
    linger_seconds: float


class Host:
    """Keeps the processes as the table wants them. One thread does everything."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._selector = selectors.DefaultSelector()
        self._replicas: dict[tuple[str, int], Replica] = {}
        self._unneeded: dict[tuple[str, int], float] = {}  # → since when no table names it and nobody is connected
        self._mark: tuple[int, int, int] | None = None
        self._needs: dict[str, Need] = {}
        self._cleared: set[tuple[str, str]] = set()  # folders and digests that may be loaded
        self._stopping = False
        settings.sockets.mkdir(parents=True, exist_ok=True)
        settings.sockets.chmod(0o700)
        end_marked(mark_of(settings.sockets))

    def run(self) -> None:
        """Work until SIGTERM or SIGINT; then let the processes finish what has begun."""
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(reading, selectors.EVENT_READ, lambda: None)
        signal.set_wakeup_fd(writing)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        while not self._stopping:
            self._turn()
        self._end()

    def _turn(self) -> None:
        is_busy = any(replica.is_running for replica in self._replicas.values())
        self._wait(LOOK_SECONDS if is_busy else IDLE_LOOK_SECONDS)
        self._read_table()
        for replica in list(self._replicas.values()):
            replica.look()
        self._let_go()

    def _wait(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            registered = self._selector.get_map().get(key.fd)
            if registered is not None and registered.data is key.data:  # not gone by what came before it
                act: Callable[[], None] = key.data
                act()

    def _read_table(self) -> None:
        try:
            found = os.stat(self._settings.table)
            mark = (found.st_mtime_ns, found.st_ino, found.st_size)
            if mark == self._mark:
                return
            table = msgspec.json.decode(self._settings.table.read_bytes(), type=RoutingTable)
        except (OSError, msgspec.DecodeError, ValueError):
            return  # it is looked at again: whoever writes it replaces it whole
        if self._mark is None:
            self._sweep(needs_of(table))
        self._mark = mark
        self._take(needs_of(table))

    def _sweep(self, needs: dict[str, Need]) -> None:
        """Remove what the host before left of versions that are no longer there."""
        kept = {
            Place(self._settings.sockets, digest, number).name
            for digest, need in needs.items()
            for number in range(need.max_replicas)
        }
        for left in self._settings.sockets.iterdir():
            if left.suffix == ".tmp":
                shutil.rmtree(left, ignore_errors=True)
            elif left.suffix == ".sock" or left.name.partition(".")[0] not in kept:
                left.unlink(missing_ok=True)

    def _take(self, needs: dict[str, Need]) -> None:
        self._needs = needs
        for digest, need in needs.items():
            for number in range(need.max_replicas):
                replica = self._replicas.get((digest, number))
                if replica is None:
                    self._replicas[digest, number] = Replica(
                        Place(self._settings.sockets, digest, number),
                        need,
                        selector=self._selector,
                        logs=self._settings.logs,
                        isolation=self._settings.isolation,
                        load_seconds=self._settings.load_seconds,
                        refusal=self._refusal,
                    )
                else:
                    replica.change(need)
                    self._unneeded.pop((digest, number), None)

    def _let_go(self) -> None:
        """End what no table names any more and no worker is connected to; remove its socket somewhat later."""
        now = time.monotonic()
        for (digest, number), replica in list(self._replicas.items()):
            need = self._needs.get(digest)
            if need is not None and number < need.max_replicas:
                continue
            replica.is_needed = False
            if replica.connections:
                self._unneeded.pop((digest, number), None)
                continue
            since = self._unneeded.setdefault((digest, number), now)
            if replica.state == "ready" and now - since > 1.0:
                replica.ask_to_end()
            elif not replica.is_running and now - since > self._settings.linger_seconds:
                replica.close()
                del self._replicas[digest, number]
                del self._unneeded[digest, number]

    def _refusal(self, need: Need) -> str:
        known = (str(need.path), need.digest)
        if known in self._cleared:
            return ""
        try:
            key: bytes | None = self._settings.key.read_bytes()
        except OSError:
            key = None
        reason = reason_to_refuse(need.path, key)
        if not reason:
            self._cleared.add(known)
        return reason

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _end(self) -> None:
        for replica in self._replicas.values():
            replica.ask_to_end()
        end = time.monotonic() + STOP_SECONDS
        while time.monotonic() < end and any(replica.is_running for replica in self._replicas.values()):
            self._wait(0.02)
        for replica in self._replicas.values():
            replica.close()


def _settings(arguments: list[str]) -> Settings:
    parser = argparse.ArgumentParser(
        prog="goldenloop.serving.predictors.host", description="Hosts predictor processes."
    )
    parser.add_argument("--home", required=True, type=Path, help="the installation; logs and the signing key lie in it")
    parser.add_argument("--table", required=True, type=Path, help="the routing table, a JSON file")
    parser.add_argument("--sockets", required=True, type=Path, help="the folder of sockets, pages and states")
    parser.add_argument("--isolation", choices=ISOLATIONS, default="none", help="how processes are shut in")
    parser.add_argument("--load-seconds", type=float, default=LOAD_SECONDS, help="for a model to load")
    parser.add_argument("--linger-seconds", type=float, default=LINGER_SECONDS, help="for what no table names any more")
    given = parser.parse_args(arguments)
    return Settings(
        table=given.table,
        sockets=given.sockets,
        logs=given.home / "logs" / "predictors",
        key=given.home / "signing.key",
        isolation=given.isolation,
        load_seconds=given.load_seconds,
        linger_seconds=given.linger_seconds,
    )


def main(arguments: list[str]) -> int:
    """Run the host; return the exit code."""
    settings = _settings(arguments)
    try:
        check(settings.isolation)
        Host(settings).run()
    except GoldenloopError as error:
        print(f"goldenloop predictors: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
