"""A rollback while control is away: the routing table is rewritten at once, and control takes it over when it is back."""

from __future__ import annotations

import contextlib

import msgspec

from goldenloop.control import byhand
from goldenloop.control.home import Home, write_atomically
from goldenloop.control.router import present_table
from goldenloop.control.world import World
from goldenloop.core.errors import ConflictError, NotFoundError
from goldenloop.core.ids import uuid7
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import VersionState
from goldenloop.core.routing import Service
from goldenloop.registry import versions

_FOLDER = "pending-rollbacks"


class PendingRollback(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to the table and is not in the database yet."""

    namespace: str
    name: str
    golden: int
    quarantined: int
    reason: str


def roll_back_offline(home: Home, namespace: str, name: str, *, reason: str) -> JsonObject:
    """Flip the pointer in the routing table. Raises NotFoundError, or ConflictError where no other version is loaded."""
    table = present_table(home)
    services = {(service.namespace, service.name): service for service in table.services}
    service = services.get((namespace, name))
    if service is None:
        raise NotFoundError(f"no service {name!r} is in the routing table", where=namespace)
    if service.loop is None:
        raise ConflictError(
            "no loop wrote this service",
            where=name,
            mend="Set canaryTrafficPercent to 0 in its file and apply it, or apply the file before.",
        )
    flipped, pending = _flip(service, reason)
    services[namespace, name] = flipped
    folder = home.path / _FOLDER
    folder.mkdir(exist_ok=True)
    # The note first: a table that was flipped without it would be flipped back.
    write_atomically(folder / f"{uuid7()}.json", msgspec.json.encode(pending))
    following = msgspec.structs.replace(
        table, generation=table.generation + 1, services=tuple(services[key] for key in sorted(services))
    )
    write_atomically(home.routing_table, msgspec.json.encode(following))
    return {"golden": pending.golden, "quarantined": pending.quarantined}


def adopt(home: Home, world: World) -> bool:
    """Bring into the database what was rolled back while control was away, or seemed to be; whether there was anything.

    Each note is taken once: one whose version is quarantined already was taken by a control process that died before it could remove it.
    """
    notes = sorted((home.path / _FOLDER).glob("*.json"))
    for path in notes:
        pending = msgspec.json.decode(path.read_bytes(), type=PendingRollback)
        # Where it cannot be any more, it need not be; where the store does not answer, the note must stay.
        with contextlib.suppress(NotFoundError, ConflictError):
            with world.database.read() as transaction:
                bad = versions.get(transaction, pending.namespace, pending.name, pending.quarantined)
            if bad.state is not VersionState.QUARANTINED:
                reason = pending.reason or "while control was away"
                byhand.roll_back(world, pending.namespace, pending.name, reason=reason)
        path.unlink()
    return bool(notes)


def _flip(service: Service, reason: str) -> tuple[Service, PendingRollback]:
    loaded = [served.version for served in service.versions]
    if service.shadows:
        golden, bad = service.champion, service.shadows[0]
    else:
        standby = [version for version in loaded if version != service.champion]
        if not standby:
            raise ConflictError("no earlier golden version is loaded", where=service.name)
        golden, bad = standby[0], service.champion
    flipped = msgspec.structs.replace(service, champion=golden, routes=(), shadows=())
    pending = PendingRollback(
        namespace=service.namespace, name=service.name, golden=int(golden), quarantined=int(bad), reason=reason
    )
    return flipped, pending
