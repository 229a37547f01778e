"""Model versions: numbered from 1 per model, never changed but for their state; one of a model at most is golden."""

from __future__ import annotations

from typing import TypeAlias

import msgspec
from sqlalchemy import Row, func, insert, select, update

from goldenloop.core.clock import to_text
from goldenloop.core.errors import ConflictError, NotFoundError
from goldenloop.core.ids import uuid7
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import VERSION_TRANSITIONS, Verdict, VersionState
from goldenloop.core.served import Runtime
from goldenloop.core.signatures import Signature
from goldenloop.store.database import Transaction, record_of
from goldenloop.store.tables import evaluations, versions

_Row: TypeAlias = Row[tuple[object, ...]]


class NewVersion(msgspec.Struct, frozen=True, kw_only=True):
    """What a run hands over: the served form (`folder`, an artifact address, and its digest) and where it comes from."""

    namespace: str
    model: str
    run_id: str | None
    artifact_id: str | None
    digest: str
    folder: str
    signature: Signature
    metrics: JsonObject
    conversion: JsonObject
    data_version: JsonObject
    code_version: JsonObject
    trained_until_us: int | None


class ModelVersion(NewVersion, frozen=True, kw_only=True):
    """A registered version."""

    number: int
    state: VersionState
    created_us: int

    @property
    def runtime(self) -> Runtime:
        """Who scores it: the inference workers, or a predictor process where it was not converted."""
        return "process" if self.conversion.get("runtime") == "process" else "onnx"

    @property
    def name(self) -> str:
        """The number as text, as routes and payloads carry it."""
        return str(self.number)


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict on a version, on record: what was decided, on what evidence, beside which champion, and by whom.

    `decided_by` is "gate" (control, on the evidence) or "person"; then `person` is the name that was given.
    """

    namespace: str
    model: str
    challenger: int
    champion: int | None
    verdict: Verdict
    reason: str
    evidence: JsonObject
    decided_by: str
    person: str = ""


class Recorded(Evaluation, frozen=True, kw_only=True):
    """A verdict with the moment at which it was written down."""

    created_us: int


def register(transaction: Transaction, new: NewVersion, *, now_us: int) -> ModelVersion:
    """Give the next number to a version. The same run registers once: a second call returns what the first made."""
    if new.run_id is not None:
        query = select(versions).where(versions.c.run_id == new.run_id, versions.c.model == new.model)
        if (row := transaction.execute(query).first()) is not None:
            return _version(row)
    last = transaction.scalar(
        select(func.max(versions.c.number)).where(versions.c.namespace == new.namespace, versions.c.model == new.model)
    )
    values = msgspec.to_builtins(new)
    transaction.execute(
        insert(versions).values(**values, number=(last or 0) + 1, state=VersionState.REGISTERED, created_us=now_us)
    )
    return get(transaction, new.namespace, new.model, (last or 0) + 1)


def get(transaction: Transaction, namespace: str, model: str, number: int) -> ModelVersion:
    """Return a version. Raises NotFoundError."""
    query = select(versions).where(
        versions.c.namespace == namespace, versions.c.model == model, versions.c.number == number
    )
    row = transaction.execute(query).first()
    if row is None:
        raise NotFoundError(
            f"model {model!r} has no version {number}", where=namespace, mend=f"See: goldenloop get versions {model}."
        )
    return _version(row)


def listing(transaction: Transaction, namespace: str, model: str) -> list[ModelVersion]:
    """All versions of a model, oldest first."""
    query = select(versions).where(versions.c.namespace == namespace, versions.c.model == model)
    return [_version(row) for row in transaction.execute(query.order_by(versions.c.number))]


def golden(transaction: Transaction, namespace: str, model: str) -> ModelVersion | None:
    """The version that answers, if there is one."""
    query = select(versions).where(
        versions.c.namespace == namespace, versions.c.model == model, versions.c.state == VersionState.GOLDEN
    )
    row = transaction.execute(query).first()
    return None if row is None else _version(row)


def awaiting(transaction: Transaction, namespace: str, model: str) -> list[ModelVersion]:
    """The versions that wait for a person's approval, oldest first."""
    query = select(versions).where(
        versions.c.namespace == namespace,
        versions.c.model == model,
        versions.c.state == VersionState.AWAITING_APPROVAL,
    )
    return [_version(row) for row in transaction.execute(query.order_by(versions.c.number))]


def previous_golden(transaction: Transaction, namespace: str, model: str) -> ModelVersion | None:
    """The version that was golden before the present one."""
    query = (
        select(versions)
        .where(versions.c.namespace == namespace, versions.c.model == model, versions.c.state == VersionState.RETIRED)
        .order_by(versions.c.golden_order.desc(), versions.c.number.desc())
    )
    row = transaction.execute(query).first()
    return None if row is None else _version(row)


def move(transaction: Transaction, version: ModelVersion, to: VersionState) -> ModelVersion:
    """Change the state of a version. Raises ConflictError where the table of phases has no such step, and where the version was
    moved since it was read.
    """
    if version.state == to:
        return version
    if to not in VERSION_TRANSITIONS[version.state]:
        raise ConflictError(
            f"version {version.number} of {version.model!r} is {version.state}; it cannot become {to}",
            where=version.namespace,
        )
    changed = transaction.execute(
        update(versions)
        .where(
            versions.c.namespace == version.namespace,
            versions.c.model == version.model,
            versions.c.number == version.number,
            versions.c.state == version.state,
        )
        .values(state=to)
    )
    if changed.rowcount == 0:
        raise ConflictError(
            f"version {version.number} of {version.model!r} is no longer {version.state}",
            where=version.namespace,
            mend="Read it again.",
        )
    return msgspec.structs.replace(version, state=to)


def make_golden(transaction: Transaction, version: ModelVersion, *, quarantine_old: bool = False) -> ModelVersion:
    """Let a version answer; the one that did is retired, or quarantined where it is being rolled back. One step, one transaction."""
    old = golden(transaction, version.namespace, version.model)
    if old is not None and old.number == version.number:
        return version
    promoted = move(transaction, version, VersionState.GOLDEN)  # first: where it may not be, the old one stays
    if old is not None:
        move(transaction, old, VersionState.QUARANTINED if quarantine_old else VersionState.RETIRED)
    mine = (versions.c.namespace == version.namespace, versions.c.model == version.model)
    order = (transaction.scalar(select(func.max(versions.c.golden_order)).where(*mine)) or 0) + 1
    transaction.execute(update(versions).where(*mine, versions.c.number == version.number).values(golden_order=order))
    return promoted


def record_evaluation(transaction: Transaction, evaluation: Evaluation, *, now_us: int) -> None:
    """Keep a verdict."""
    transaction.execute(insert(evaluations).values(id=uuid7(), created_us=now_us, **msgspec.to_builtins(evaluation)))


def last_evaluation(transaction: Transaction, namespace: str, model: str, number: int) -> Evaluation | None:
    """The verdict in force on a version."""
    query = (
        select(evaluations)
        .where(
            evaluations.c.namespace == namespace,
            evaluations.c.model == model,
            evaluations.c.challenger == number,
        )
        .order_by(evaluations.c.created_us.desc(), evaluations.c.id.desc())
    )
    row = transaction.execute(query).first()
    return None if row is None else record_of(row, Evaluation)


def evaluations_of(transaction: Transaction, namespace: str, model: str, number: int) -> list[Recorded]:
    """Every verdict on a version, the first one first."""
    query = (
        select(evaluations)
        .where(
            evaluations.c.namespace == namespace,
            evaluations.c.model == model,
            evaluations.c.challenger == number,
        )
        .order_by(evaluations.c.created_us, evaluations.c.id)
    )
    return [record_of(row, Recorded) for row in transaction.execute(query)]


def last_approval(transaction: Transaction, namespace: str, model: str, number: int) -> Recorded | None:
    """What a person decided last about a version, if somebody did."""
    decided = [each for each in evaluations_of(transaction, namespace, model, number) if each.decided_by == "person"]
    return decided[-1] if decided else None


def describe(version: ModelVersion, evaluation: Evaluation | None) -> JsonObject:
    """A version as the API shows it."""
    shown: JsonObject = {
        "namespace": version.namespace,
        "model": version.model,
        "number": version.number,
        "state": version.state,
        "run": version.run_id,
        "digest": version.digest,
        "metrics": version.metrics,
        "signature": msgspec.to_builtins(version.signature),
        "conversion": version.conversion,
        "data": version.data_version,
        "code": version.code_version,
        "created": to_text(version.created_us),
        "trainedUntil": None if version.trained_until_us is None else to_text(version.trained_until_us),
        "evaluation": None if evaluation is None else msgspec.to_builtins(evaluation),
    }
    return shown


def _version(row: _Row) -> ModelVersion:
    return record_of(row, ModelVersion)
