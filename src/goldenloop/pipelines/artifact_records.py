"""Rows of `artifacts` and the arrows between artifacts and tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import select

from goldenloop.core.ids import digest_bytes, uuid7
from goldenloop.core.json import Json, JsonObject
from goldenloop.store.database import Transaction, insert_ignoring
from goldenloop.store.tables import artifact_tasks, artifacts

ADDRESS = "artifact:"  # how the address of what lies in the artifact folder begins


def artifact_record(
    kind: str, name: str, uri: str, properties: JsonObject, *, now_us: int, content: str | None = None
) -> dict[str, Json]:
    """A new row of `artifacts`.

    `content` is the address in the artifact folder of what lies at `uri`, by default `uri` itself. What is not in that
    folder is known by its address only.
    """
    address = content or uri
    inside = address.startswith(ADDRESS)
    return {
        "id": uuid7(),
        "type": kind,
        "name": name,
        "uri": uri,
        "digest": address.removeprefix(ADDRESS).rstrip("/") if inside else digest_bytes(uri.encode()),
        "properties": properties,
        "created_us": now_us,
    }


def find_artifact(transaction: Transaction, *, kind: str, name: str, uri: str, properties: JsonObject) -> str | None:
    """The id of the newest artifact that is equal in all this."""
    query = (
        select(artifacts.c.id, artifacts.c.properties)
        .where(artifacts.c.uri == uri, artifacts.c.type == kind, artifacts.c.name == name)
        .order_by(artifacts.c.created_us.desc())
    )
    for row in transaction.execute(query):
        if row.properties == properties:
            return str(row.id)
    return None


def draw_arrows(
    transaction: Transaction, task_id: str, *, read: Mapping[str, Iterable[str]], written: Mapping[str, Iterable[str]]
) -> None:
    """Record which artifacts a task read and wrote, by port; a second time changes nothing."""
    rows = [
        {"task_id": task_id, "direction": direction, "port": port, "position": position, "artifact_id": identity}
        for direction, ports in (("INPUT", read), ("OUTPUT", written))
        for port, ids in ports.items()
        for position, identity in enumerate(ids)
    ]
    if rows:
        transaction.execute(insert_ignoring(transaction, artifact_tasks), rows)
