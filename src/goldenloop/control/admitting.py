"""What follows when a version may take part: it becomes golden where it is the first, else it begins its rollout.

Where the Loop says `approval: required`, a version that the gate let through waits here for a person (`AwaitingApproval`): it answers
nothing and scores nothing until somebody approves it, with a name and a reason. Waiting, approval and refusal are one transaction each,
and only a version that waits can be approved, so that a command which is sent twice decides once.
"""

from __future__ import annotations

import msgspec

from goldenloop.control.memory import LoopMemory, MonitorMemory, RolloutMemory
from goldenloop.control.progress import MEMORY, MONITORS, ROLLOUT, RolloutProgress, begin, set_back
from goldenloop.control.view import LoopView
from goldenloop.control.watching import first_watch
from goldenloop.control.world import Storyteller, World
from goldenloop.core.errors import ConflictError, InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import RolloutPhase, Verdict, VersionState
from goldenloop.monitors.reference import Reference
from goldenloop.registry import versions
from goldenloop.registry.versions import Evaluation, ModelVersion
from goldenloop.store import memories
from goldenloop.store.database import Transaction


def admit(
    story: Storyteller,
    world: World,
    view: LoopView,
    memory: LoopMemory,
    *,
    version: ModelVersion,
    champion: ModelVersion | None,
    reference: Reference,
) -> LoopMemory:
    """Let a blessed version take part, inside the transaction of `story`."""
    transaction = story.transaction
    if champion is None:
        versions.make_golden(transaction, version)
        story.tell(
            "Golden",
            f"version {version.number} is golden: it is the first",
            version=version.number,
            run=version.run_id,
        )
        memories.remember(transaction, view.namespace, view.name, MONITORS, first_watch(view, version.name, reference))
        return memory
    _expect(transaction, view, version.name, reference)
    _end_rollout(world, view, story, memory, version.number)
    # The rollout begins where the loop stands now: what was answered before had no challenger beside it.
    rows = world.analyst.count_before(view.namespace, view.name, story.event_us)
    return begin(story, view, memory, champion=champion, challenger=version, rows=rows)


def await_approval(story: Storyteller, version: ModelVersion, *, reason: str) -> None:
    """Let a version that the gate let through wait for a person; one that waited before makes room."""
    for earlier in versions.awaiting(story.transaction, version.namespace, version.model):
        versions.move(story.transaction, earlier, VersionState.SUPERSEDED)
        story.tell(
            "Superseded",
            f"version {earlier.number} waited for approval; version {version.number} takes its place",
            version=earlier.number,
        )
    versions.move(story.transaction, version, VersionState.AWAITING_APPROVAL)
    story.tell(
        "AwaitingApproval",
        f"version {version.number} passed the gate and waits for approval: {reason}",
        version=version.number,
        run=version.run_id,
    )


def approve(
    story: Storyteller, world: World, view: LoopView, *, version: ModelVersion, person: str, reason: str
) -> JsonObject:
    """A person lets a waiting version take part. Asked for again, it says what was decided and changes nothing.

    Raises InvalidSpecError where the person or the reason is missing, ConflictError where the version does not wait.
    """
    transaction = story.transaction
    _must_be_signed(person, reason)
    if version.state is not VersionState.AWAITING_APPROVAL:
        return _decided_before(transaction, version)
    memory = memories.recall(transaction, view.namespace, view.name, MEMORY, LoopMemory)
    if memory is None:
        raise ConflictError("the loop was deleted since", where=view.name, mend="Apply the Loop again.")
    champion = versions.golden(transaction, view.namespace, view.name)
    _on_record(story, version, champion, Verdict.PASS, person, reason)
    blessed = versions.move(transaction, version, VersionState.BLESSED)
    story.tell(
        "Approved", f"version {version.number} is approved by {person}: {reason}", version=version.number, by=person
    )
    path = world.artifacts.local(version.folder) / "reference.json"
    reference = msgspec.json.decode(path.read_bytes(), type=Reference)
    memory = admit(story, world, view, memory, version=blessed, champion=champion, reference=reference)
    memories.remember(transaction, view.namespace, view.name, MEMORY, memory)
    now = versions.get(transaction, view.namespace, view.name, version.number)
    return {"version": version.number, "state": now.state, "by": person}


def refuse(story: Storyteller, view: LoopView, *, version: ModelVersion, person: str, reason: str) -> JsonObject:
    """A person turns a waiting version down; the champion stays. Asked for again, it says what was decided.

    Raises InvalidSpecError where the person or the reason is missing, ConflictError where the version does not wait.
    """
    transaction = story.transaction
    _must_be_signed(person, reason)
    if version.state is not VersionState.AWAITING_APPROVAL:
        return _decided_before(transaction, version)
    champion = versions.golden(transaction, view.namespace, view.name)
    _on_record(story, version, champion, Verdict.FAIL, person, reason)
    versions.move(transaction, version, VersionState.REFUSED)
    story.tell(
        "Refused", f"version {version.number} is refused by {person}: {reason}", version=version.number, by=person
    )
    memory = memories.recall(transaction, view.namespace, view.name, MEMORY, LoopMemory)
    if memory is not None:
        memory = set_back(memory, f"version {version.number} was refused by {person}: {reason}", story.event_us)
        memories.remember(transaction, view.namespace, view.name, MEMORY, memory)
    return {"version": version.number, "state": VersionState.REFUSED, "by": person}


def _expect(transaction: Transaction, view: LoopView, version: str, reference: Reference) -> None:
    monitors = memories.recall(transaction, view.namespace, view.name, MONITORS, MonitorMemory)
    assert monitors is not None
    expected = {**monitors.expected_loss, version: reference.expected_loss}
    changed = msgspec.structs.replace(monitors, expected_loss=expected)
    memories.remember(transaction, view.namespace, view.name, MONITORS, changed)


def _end_rollout(world: World, view: LoopView, story: Storyteller, memory: LoopMemory, following: int) -> None:
    """A run by hand may end while a rollout is under way. Two at a time would leave one of them open for ever."""
    rollout = memories.recall(story.transaction, view.namespace, view.name, ROLLOUT, RolloutMemory)
    if rollout is not None:
        # What it says about the loop is dropped: a challenger that had to make room has not failed.
        progress = RolloutProgress(world, view, story)
        progress.end(memory, rollout, RolloutPhase.INCONCLUSIVE, f"version {following} takes its place")


def _must_be_signed(person: str, reason: str) -> None:
    for given, what in ((person, "by"), (reason, "reason")):
        if not given.strip():
            raise InvalidSpecError(
                "an approval needs a name and a reason",
                where=what,
                mend="Type: goldenloop promote LOOP VERSION --by NAME --reason WHY.",
            )


def _decided_before(transaction: Transaction, version: ModelVersion) -> JsonObject:
    """What a person decided about this version. Raises ConflictError where nobody was asked."""
    decided = versions.last_approval(transaction, version.namespace, version.model, version.number)
    if decided is None:
        raise ConflictError(
            f"version {version.number} of {version.model!r} is {version.state}; it does not wait for approval",
            where=version.namespace,
            mend=f"See: goldenloop get versions {version.model}.",
        )
    return {"version": version.number, "state": version.state, "by": decided.person, "decided": "before"}


def _on_record(
    story: Storyteller,
    version: ModelVersion,
    champion: ModelVersion | None,
    verdict: Verdict,
    person: str,
    reason: str,
) -> None:
    record = Evaluation(
        namespace=version.namespace,
        model=version.model,
        challenger=version.number,
        champion=None if champion is None else champion.number,
        verdict=verdict,
        reason=reason,
        evidence={},
        decided_by="person",
        person=person,
    )
    versions.record_evaluation(story.transaction, record, now_us=story.now_us)
