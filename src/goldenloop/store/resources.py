"""Resources: documents with a spec that people own and a status that reconcilers own.

Rules. Every change gets the next number of one sequence, which is the resource's `resourceVersion` and what watchers follow.
A change of the spec counts `generation` up; a change that changes nothing is none. Writing on an old `resourceVersion` is a
ConflictError. What an owner created goes with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Row, delete, func, insert, select, tuple_, update

from goldenloop.core.clock import to_text
from goldenloop.core.errors import ConflictError, InvalidSpecError, NotFoundError, RefusedError
from goldenloop.core.ids import uuid7
from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.kubernetes import Kind, check_name, kind_of
from goldenloop.store.database import Transaction
from goldenloop.store.tables import changes, resources

CHANGES_KEPT = 10_000  # how far back a watcher may ask
_SYSTEM_METADATA = ("uid", "resourceVersion", "generation", "creationTimestamp")


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that happened to a resource: ADDED, MODIFIED or DELETED."""

    sequence: int
    type: str
    document: JsonObject


def metadata_of(document: JsonObject) -> JsonObject:
    """The metadata of a document. Raises InvalidSpecError where there is none."""
    found = document.get("metadata")
    if not isinstance(found, dict):
        raise InvalidSpecError("there is no metadata", where="metadata", mend="Give metadata: {name: …}.")
    return found


def create(transaction: Transaction, kind: Kind, namespace: str, document: JsonObject, *, now_us: int) -> JsonObject:
    """Keep a new resource. Raises ConflictError where the name is taken."""
    metadata = metadata_of(document)
    name = check_name(metadata.get("name"))
    check_name(namespace, where="metadata.namespace")
    if _row(transaction, kind, namespace, name) is not None:
        raise ConflictError(
            f"{kind.kind} {name!r} is there already", where=namespace, mend="Use apply to change it, or another name."
        )
    _check_references(transaction, metadata)
    complete: JsonObject = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {
            **{key: value for key, value in metadata.items() if key not in _SYSTEM_METADATA},
            "name": name,
            "namespace": namespace,
            "uid": uuid7(),
            "generation": 1,
            "creationTimestamp": to_text(now_us),
        },
        "spec": document.get("spec", {}),
        "status": {},
    }
    return _store(transaction, kind, "ADDED", complete, is_new=True)


def get(transaction: Transaction, kind: Kind, namespace: str, name: str) -> JsonObject:
    """Return a resource. Raises NotFoundError."""
    row = _row(transaction, kind, namespace, name)
    if row is None:
        raise NotFoundError(
            f"there is no {kind.kind} {name!r}", where=namespace, mend=f"See: goldenloop get {kind.plural}."
        )
    return _document(row)


def find(transaction: Transaction, kind: Kind, namespace: str, name: str) -> JsonObject | None:
    """Return a resource, or None."""
    row = _row(transaction, kind, namespace, name)
    return None if row is None else _document(row)


def listing(transaction: Transaction, kind: Kind, namespace: str | None = None) -> list[JsonObject]:
    """All resources of a kind, by namespace and name."""
    query = select(resources).where(resources.c.api_group == kind.group, resources.c.kind == kind.kind)
    if namespace is not None:
        query = query.where(resources.c.namespace == namespace)
    return [_document(row) for row in transaction.execute(query.order_by(resources.c.namespace, resources.c.name))]


def marks(transaction: Transaction, kinds: Sequence[Kind]) -> list[tuple[str, int]]:
    """The uid and the resourceVersion of all resources of these kinds, which tell cheaply whether anything changed."""
    query = select(resources.c.uid, resources.c.resource_version).where(
        tuple_(resources.c.api_group, resources.c.kind).in_([(kind.group, kind.kind) for kind in kinds])
    )
    return [(row.uid, row.resource_version) for row in transaction.execute(query.order_by(resources.c.uid))]


def replace(
    transaction: Transaction, kind: Kind, namespace: str, name: str, document: JsonObject, *, by: str = ""
) -> JsonObject:
    """Put a new spec (and labels, annotations) in the place of the old; the status stays.

    `by` names the owner that acts, or is empty for a person: what has an owner is changed by it alone. Raises NotFoundError,
    ConflictError for an old resourceVersion, RefusedError for another's property.
    """
    current = get(transaction, kind, namespace, name)
    _check_version(current, metadata_of(document).get("resourceVersion"))
    _check_owner(current, by)
    metadata = metadata_of(document)
    renewed: JsonObject = {
        **current,
        "metadata": {
            **{key: value for key, value in metadata.items() if key not in _SYSTEM_METADATA},
            **{
                key: metadata_of(current)[key]
                for key in (*_SYSTEM_METADATA, "name", "namespace")
                if key in metadata_of(current)
            },
        },
        "spec": document.get("spec", {}),
    }
    if "ownerReferences" in metadata_of(current):
        metadata_of(renewed)["ownerReferences"] = metadata_of(current)["ownerReferences"]
    else:
        _check_references(transaction, metadata)
    if renewed["spec"] != current["spec"]:
        metadata_of(renewed)["generation"] = _number(metadata_of(current)["generation"]) + 1
    return current if renewed == current else _store(transaction, kind, "MODIFIED", renewed, is_new=False)


def set_status(
    transaction: Transaction,
    kind: Kind,
    namespace: str,
    name: str,
    status: JsonObject,
    *,
    read_at: Json = None,
) -> JsonObject:
    """Put a new status in the place of the old; the spec stays. `read_at` is the resourceVersion on which the writer stands, if it
    says so. Raises NotFoundError, ConflictError for an old resourceVersion.
    """
    current = get(transaction, kind, namespace, name)
    _check_version(current, read_at)
    if current.get("status") == status:
        return current
    return _store(transaction, kind, "MODIFIED", {**current, "status": status}, is_new=False)


def remove(transaction: Transaction, kind: Kind, namespace: str, name: str, *, by: str = "") -> JsonObject:
    """Delete a resource and everything that it owns. Raises NotFoundError, RefusedError for another's property."""
    current = get(transaction, kind, namespace, name)
    _check_owner(current, by)
    _remove(transaction, current, kind)
    return current


def changes_since(
    transaction: Transaction, kind: Kind, namespace: str | None, sequence: int, *, limit: int = 500
) -> list[Change]:
    """What happened to resources of a kind after this number. Raises ConflictError where it is no longer known ("Gone")."""
    oldest = transaction.scalar(select(func.min(changes.c.sequence)))
    if sequence and oldest is not None and sequence < oldest - 1:
        raise ConflictError(
            f"resourceVersion {sequence} is too old", where="resourceVersion", mend="List again and watch from there."
        )
    query = select(changes).where(
        changes.c.sequence > sequence, changes.c.api_group == kind.group, changes.c.kind == kind.kind
    )
    if namespace is not None:
        query = query.where(changes.c.namespace == namespace)
    rows = transaction.execute(query.order_by(changes.c.sequence).limit(limit))
    return [Change(row.sequence, row.type, row.document) for row in rows]


def latest_sequence(transaction: Transaction) -> int:
    """The number of the last change, 0 where there was none."""
    return transaction.scalar(select(func.max(changes.c.sequence))) or 0


def owner_reference(owner: JsonObject) -> JsonObject:
    """What a resource that another created carries in `metadata.ownerReferences`."""
    metadata = metadata_of(owner)
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
    }


def _remove(transaction: Transaction, document: JsonObject, kind: Kind) -> None:
    uid = metadata_of(document)["uid"]
    for row in transaction.execute(select(resources).where(resources.c.owner_uid == uid)).all():
        owned = _document(row)
        _remove(transaction, owned, kind_of(owned))
    transaction.execute(delete(resources).where(resources.c.uid == uid))
    _log(transaction, kind, "DELETED", document)


def _store(transaction: Transaction, kind: Kind, change: str, document: JsonObject, *, is_new: bool) -> JsonObject:
    sequence, document = _log(transaction, kind, change, document)
    metadata = metadata_of(document)
    references = metadata.get("ownerReferences")
    owner = references[0] if isinstance(references, list) and references else None
    values = {
        "resource_version": sequence,
        "document": document,
        "owner_uid": owner.get("uid") if isinstance(owner, dict) else None,
    }
    if is_new:
        identity = {
            "uid": metadata["uid"],
            "api_group": kind.group,
            "version": kind.version,
            "kind": kind.kind,
            "namespace": metadata["namespace"],
            "name": metadata["name"],
        }
        transaction.execute(insert(resources).values(**identity, **values))
    else:
        transaction.execute(update(resources).where(resources.c.uid == metadata["uid"]).values(**values))
    return document


def _log(transaction: Transaction, kind: Kind, change: str, document: JsonObject) -> tuple[int, JsonObject]:
    """Write down what happened; return its number, and the document with that number as its resourceVersion."""
    values = {
        "type": change,
        "api_group": kind.group,
        "kind": kind.kind,
        "namespace": metadata_of(document)["namespace"],
        "document": document,
    }
    result = transaction.execute(insert(changes).values(**values))
    assert result.inserted_primary_key is not None
    sequence = int(result.inserted_primary_key[0])
    document = {**document, "metadata": {**metadata_of(document), "resourceVersion": str(sequence)}}
    transaction.execute(update(changes).where(changes.c.sequence == sequence).values(document=document))
    if sequence % 500 == 0:
        transaction.execute(delete(changes).where(changes.c.sequence <= sequence - CHANGES_KEPT))
    return sequence, document


def _row(transaction: Transaction, kind: Kind, namespace: str, name: str) -> Row[tuple[object, ...]] | None:
    query = select(resources).where(
        resources.c.api_group == kind.group,
        resources.c.kind == kind.kind,
        resources.c.namespace == namespace,
        resources.c.name == name,
    )
    return transaction.execute(query).first()


def _document(row: Row[tuple[object, ...]]) -> JsonObject:
    document: JsonObject = row._mapping["document"]
    return document


def _check_version(current: JsonObject, given: Json) -> None:
    present = metadata_of(current)["resourceVersion"]
    if given not in (None, "", present):
        raise ConflictError(
            f"it was changed since: resourceVersion is {present}, not {given}",
            where="metadata.resourceVersion",
            mend="Read it again, and write your change on what you read.",
        )


def _check_owner(current: JsonObject, by: str) -> None:
    references = metadata_of(current).get("ownerReferences")
    if not isinstance(references, list) or not references:
        return
    owner = references[0]
    if isinstance(owner, dict) and owner.get("uid") != by:
        raise RefusedError(
            f"{current['kind']} {metadata_of(current)['name']!r} belongs to {owner.get('kind')} {owner.get('name')!r}",
            mend=f"Change the {owner.get('kind')}: it writes this.",
        )


def _check_references(transaction: Transaction, metadata: JsonObject) -> None:
    """An owner has to be there: nobody could change or delete what belongs to one that is not."""
    references = metadata.get("ownerReferences")
    if references is None or references == []:
        return
    owner = references[0] if isinstance(references, list) else None
    uid = owner.get("uid") if isinstance(owner, dict) else None
    if not isinstance(uid, str) or transaction.scalar(select(resources.c.uid).where(resources.c.uid == uid)) is None:
        raise InvalidSpecError(
            "there is no such owner", where="metadata.ownerReferences", mend="Leave it out, or give its uid."
        )


def _number(value: Json) -> int:
    return value if isinstance(value, int) else 0
