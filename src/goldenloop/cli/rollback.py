"""Rolling back, also when control does not answer: who asks for a rollback wants it now."""

from __future__ import annotations

from pathlib import Path

from goldenloop.client import Client
from goldenloop.client.connection import Connection
from goldenloop.control.home import Home
from goldenloop.control.offline import roll_back_offline
from goldenloop.core.errors import NotFoundError, UnavailableError
from goldenloop.core.json import JsonObject

_PATIENCE_SECONDS = 0.3  # with the time that workers take to see the new table, less than a second


def roll_back(home: Path, loop: str, *, namespace: str, reason: str) -> JsonObject:
    """Ask control; where it does not answer at once, flip the pointer in the routing table."""
    place = Home(home.absolute())
    try:
        addresses = place.running()
        Connection(addresses.http, timeout_seconds=_PATIENCE_SECONDS).call("GET", "/healthz", patience_seconds=0)
    except (UnavailableError, NotFoundError):
        return roll_back_offline(place, namespace, loop, reason=reason)
    return Client(addresses).rollback(loop, namespace=namespace, reason=reason)
