"""Routing tables on their way to the inference workers: one file, replaced whole, and a nudge."""

from __future__ import annotations

import logging

import msgspec

from goldenloop.control.home import Home, write_atomically
from goldenloop.control.publication import read_table
from goldenloop.control.workers import Workers
from goldenloop.core.errors import UnavailableError
from goldenloop.core.routing import RoutingTable

_log = logging.getLogger(__name__)


class FileRouter:
    """See `goldenloop.control.world.Router`."""

    def __init__(self, home: Home, workers: Workers) -> None:
        self._home = home
        self._workers = workers

    def publish(self, table: RoutingTable) -> None:
        try:
            write_atomically(self._home.routing_table, msgspec.json.encode(table))
        except OSError as error:
            raise UnavailableError(
                f"the routing table cannot be written: {error.strerror}",
                where=str(self._home.routing_table),
                mend="The last one stays in force. Free some room.",
            ) from error
        self._workers.nudge(table.generation)
        for service in table.services:
            if service.hold_from_us is not None:
                self._workers.forget_held(service.namespace, service.name, service.hold_from_us)

    def held(self, namespace: str, service: str) -> tuple[int, int] | None:
        return self._workers.held().get((namespace, service))

    def settle(self) -> bool:
        return self._workers.settle()

    def failures(self) -> dict[str, str]:
        return self._workers.failures()

    def workers(self) -> int:
        return self._workers.count()

    def serving(self, generation: int) -> bool:
        return self._workers.is_serving(generation)

    def wanted(self) -> dict[tuple[str, str], bool]:
        return self._workers.wanted()

    def written_down(self, wanted: dict[tuple[str, str], bool]) -> None:
        self._workers.written_down(wanted)


def present_table(home: Home) -> RoutingTable:
    """The table in force, as the last control process left it."""
    try:
        return read_table(home.routing_table.read_bytes())
    except FileNotFoundError:
        return RoutingTable(generation=0)
    except (msgspec.DecodeError, OSError) as error:
        _log.warning("the routing table cannot be read and is made anew: %s", error)
        return RoutingTable(generation=0)
