"""A model card, gathered from what is on record. After Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019).

Everything on it was written down by control when it happened; nothing is computed anew, so a card of an old version says what was known
when it was decided on. What was not examined is said among its limits: silence would look like success.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import select

from goldenloop.core.clock import to_text
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import Verdict
from goldenloop.evaluation.checks import Check
from goldenloop.evaluation.gate import Evaluation
from goldenloop.evaluation.searching import FoundSlice
from goldenloop.registry import versions
from goldenloop.registry.versions import ModelVersion, Recorded
from goldenloop.standards.kubernetes import kind_named
from goldenloop.store import resources
from goldenloop.store.database import Transaction
from goldenloop.store.tables import runs, timeline

_HAPPENINGS_SHOWN = 30
_SMALL_SLICES_SHOWN = 5


class Decision(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Who decided what about the version, and why. `by` is "control, on the evidence", or a person's name."""

    verdict: Verdict
    reason: str
    by: str
    champion: int | None
    at: str


class Happening(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A line of the loop's timeline that is about this version."""

    at: str
    kind: str
    text: str


class Card(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a card says. `judged` is the gate's evidence, None for a version that was never judged."""

    model: str
    namespace: str
    version: int
    state: str
    created: str
    description: str
    intended_use: str
    task: str
    inputs: tuple[str, ...]
    classes: tuple[str, ...]
    protected: tuple[str, ...]
    conversion: JsonObject  # how the served form was made of the model of the run
    data: JsonObject
    trained_until: str | None
    judged: Evaluation | None
    compared_with: int | None  # the champion that it was judged beside
    checks: tuple[Check, ...]
    found_slices: tuple[FoundSlice, ...]
    decisions: tuple[Decision, ...]
    limits: tuple[str, ...]
    lineage: JsonObject
    rollout: JsonObject | None
    history: tuple[Happening, ...]


def card_of(transaction: Transaction, namespace: str, loop: str, number: int) -> Card:
    """Gather the card. Raises NotFoundError where there is no such version."""
    version = versions.get(transaction, namespace, loop, number)
    recorded = versions.evaluations_of(transaction, namespace, loop, number)
    document = resources.find(transaction, kind_named("loops"), namespace, loop)
    spec = _mapping(None if document is None else document["spec"])
    by_gate = [each for each in recorded if each.decided_by != "person" and each.evidence]
    evidence = dict(by_gate[-1].evidence) if by_gate else {}
    checks = msgspec.convert(evidence.pop("checks", []), tuple[Check, ...])
    judged = _judged(evidence)
    searched = next((check for check in checks if check.name == "slices"), None)
    found = () if searched is None else msgspec.convert(searched.evidence.get("slices", []), tuple[FoundSlice, ...])
    return Card(
        model=loop,
        namespace=namespace,
        version=number,
        state=version.state,
        created=to_text(version.created_us),
        description=str(spec.get("description", "")),
        intended_use=str(spec.get("intendedUse", "")),
        task=version.signature.task,
        inputs=tuple(f"{column.name} ({column.kind})" for column in version.signature.inputs),
        classes=version.signature.classes,
        protected=msgspec.convert(_mapping(spec.get("data")).get("protected", []), tuple[str, ...]),
        conversion=dict(version.conversion),
        data=version.data_version,
        trained_until=None if version.trained_until_us is None else to_text(version.trained_until_us),
        judged=judged,
        compared_with=by_gate[-1].champion if by_gate else None,
        checks=checks,
        found_slices=found,
        decisions=tuple(_decision(each) for each in recorded),
        limits=(*_said(spec.get("limits")), *_limits(judged, checks, version)),
        lineage=_lineage(transaction, version),
        rollout=_rollout(transaction, namespace, loop, number),
        history=_history(transaction, namespace, loop, number),
    )


def _judged(evidence: JsonObject) -> Evaluation | None:
    """The gate's record; None where there is none, or one that another release wrote otherwise."""
    try:
        return msgspec.convert(evidence, Evaluation)
    except msgspec.ValidationError:
        return None


def _decision(recorded: Recorded) -> Decision:
    by = (recorded.person or "a person") if recorded.decided_by == "person" else "control, on the evidence"
    return Decision(
        verdict=recorded.verdict,
        reason=recorded.reason,
        by=by,
        champion=recorded.champion,
        at=to_text(recorded.created_us),
    )


def _limits(judged: Evaluation | None, checks: tuple[Check, ...], version: ModelVersion) -> list[str]:
    """What is not known about the version, in sentences."""
    told = []
    until = version.data_version.get("until")
    if until:
        told.append(f"It has seen nothing after {until}.")
    if judged is None:
        return [*told, "It was not judged on an evaluation set."]
    told.append(f"It was judged on {judged.evaluation_rows} labelled rows; intervals say how much that is worth.")
    if judged.failures:
        told.append(f"It gave no answer to {judged.failures} of the rows it was judged on.")
    small = [part for part in judged.slices if part.note]
    if small:
        named = ", ".join(f"{part.column} is {part.value} ({part.rows} rows)" for part in small[:_SMALL_SLICES_SHOWN])
        more = f" and {len(small) - _SMALL_SLICES_SHOWN} more" if len(small) > _SMALL_SLICES_SHOWN else ""
        told.append(f"Nothing can be said of slices that are too small: {named}{more}.")
    for check in checks:
        if not check.applies:
            told.append(f"Not examined, {check.name}: {check.reason.removesuffix('.')}.")
        elif check.verdict in (Verdict.INCONCLUSIVE, Verdict.ERROR):
            told.append(f"Not certain, {check.name}: {check.reason.removesuffix('.')}.")
        elif check.verdict is Verdict.FAIL:
            told.append(f"Found, {check.name}: {check.reason.removesuffix('.')}.")
    return told


def _lineage(transaction: Transaction, version: ModelVersion) -> JsonObject:
    shown: JsonObject = {
        "run": version.run_id,
        "cause": "",
        "digest": version.digest,
        "folder": version.folder,
        "commit": version.code_version.get("commit"),
        "code": version.code_version.get("digest"),
        "changedSinceCommit": version.code_version.get("dirty", False),
        "dataDigest": version.data_version.get("digest"),
        "conversion": version.conversion.get("rule"),
    }
    row = transaction.execute(select(runs.c.cause).where(runs.c.id == version.run_id)).first()
    if row is not None:
        shown["cause"] = row.cause.get("text", "")
    return shown


def _rollout(transaction: Transaction, namespace: str, loop: str, number: int) -> JsonObject | None:
    """The status of the rollout of this version, if it had one."""
    for document in resources.listing(transaction, kind_named("rollouts"), namespace):
        spec = _mapping(document["spec"])
        if spec.get("service") == loop and str(spec.get("challenger")) == str(number):
            status = _mapping(document.get("status"))
            return {
                "name": resources.metadata_of(document)["name"],
                "champion": spec.get("champion"),
                "alpha": spec.get("alpha"),
                **{name: status.get(name) for name in ("phase", "reason", "labelled", "missing", "share", "evidence")},
            }
    return None


def _history(transaction: Transaction, namespace: str, loop: str, number: int) -> tuple[Happening, ...]:
    query = (
        select(timeline).where(timeline.c.namespace == namespace, timeline.c.loop == loop).order_by(timeline.c.sequence)
    )
    about = [
        row
        for row in transaction.execute(query)
        if number in (row.facts.get("version"), row.facts.get("challenger"), row.facts.get("champion"))
    ]
    return tuple(
        Happening(at=to_text(row.event_us), kind=row.kind, text=row.text) for row in about[-_HAPPENINGS_SHOWN:]
    )


def _said(text: object) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) and text.strip() else ()


def _mapping(value: object) -> JsonObject:
    return value if isinstance(value, dict) else {}
