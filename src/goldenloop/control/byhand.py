"""What a person decides: a run now, a version promoted, a version rolled back. On record with who asked and why."""

from __future__ import annotations

from goldenloop.control import admitting
from goldenloop.control.memory import LoopMemory, MonitorMemory, RolloutMemory
from goldenloop.control.progress import MEMORY, MONITORS, ROLLOUT, RolloutProgress, renewed, welcome
from goldenloop.control.runs import ask_for_run
from goldenloop.control.view import LOOP, LoopView
from goldenloop.control.world import Storyteller, World
from goldenloop.core.errors import ConflictError, NotFoundError
from goldenloop.core.ids import uuid7
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import RolloutPhase, Verdict
from goldenloop.lineage import audit
from goldenloop.registry import versions
from goldenloop.registry.versions import Evaluation
from goldenloop.store import memories, resources
from goldenloop.store.database import Transaction


def run_now(world: World, namespace: str, name: str, *, reason: str) -> JsonObject:
    """Ask for a run. Raises NotFoundError."""
    with world.lock, world.database.write() as transaction:
        view = _view(transaction, namespace, name)
        memory = memories.recall(transaction, namespace, name, MEMORY, LoopMemory)
        now_us = world.clock.now_us()
        event_us = memory.tick_us if memory is not None and memory.tick_us is not None else now_us
        key = f"{view.uid}/manual/{uuid7()}"
        text = reason or "a person asked for it"
        ask_for_run(transaction, view, key=key, kind="manual", text=text, event_us=event_us, now_us=now_us)
        _story(world, transaction, view, memory).tell("Trigger", f"a run by hand: {text}", cause=key)
        _audited(transaction, world, view, "run", reason=reason, cause=key)
    return {"cause": key}


def approve(world: World, namespace: str, name: str, *, version: int | None, reason: str, person: str) -> JsonObject:
    """Let the version that waits for approval, or a named one, take part. See `admitting.approve`; asked for twice it decides once."""
    with world.lock, world.database.write() as transaction:
        view, story = _view_and_story(world, transaction, namespace, name)
        chosen = _waiting(transaction, namespace, name, version)
        _audited(transaction, world, view, "approve", person, version=chosen.number, reason=reason)
        return admitting.approve(story, world, view, version=chosen, person=person, reason=reason)


def refuse(world: World, namespace: str, name: str, *, version: int | None, reason: str, person: str) -> JsonObject:
    """Turn the version that waits for approval, or a named one, down. See `admitting.refuse`."""
    with world.lock, world.database.write() as transaction:
        view, story = _view_and_story(world, transaction, namespace, name)
        chosen = _waiting(transaction, namespace, name, version)
        _audited(transaction, world, view, "refuse", person, version=chosen.number, reason=reason)
        return admitting.refuse(story, view, version=chosen, person=person, reason=reason)


def promote(
    world: World, namespace: str, name: str, *, version: int | None, reason: str, person: str = ""
) -> JsonObject:
    """Make a version golden by hand: the challenger of the rollout, or a named one. One that waits for approval is approved instead,
    and goes on as it would have without waiting.

    Raises ConflictError where that cannot be.
    """
    with world.lock, world.database.write() as transaction:
        view, story = _view_and_story(world, transaction, namespace, name)
        memory = memories.recall(transaction, namespace, name, MEMORY, LoopMemory)
        rollout = memories.recall(transaction, namespace, name, ROLLOUT, RolloutMemory)
        waiting = [each for each in versions.awaiting(transaction, namespace, name) if version in (None, each.number)]
        if waiting and (version is not None or rollout is None):
            _audited(transaction, world, view, "approve", person, version=waiting[-1].number, reason=reason)
            return admitting.approve(story, world, view, version=waiting[-1], person=person, reason=reason)
        if version is None and rollout is None:
            raise NotFoundError(
                "there is no rollout", where=name, mend="Name the version: goldenloop promote LOOP VERSION."
            )
        number = version if version is not None else int(rollout.state.challenger)  # type: ignore[union-attr]
        chosen = versions.get(transaction, namespace, name, number)
        old = versions.golden(transaction, namespace, name)
        if old is not None and old.number == number and rollout is None:
            return {"golden": number}  # it is already: sent twice, it is decided once
        _audited(transaction, world, view, "promote", person, version=number, reason=reason)
        _must_fit(transaction, world, chosen)
        why = f"promoted by hand{_by(person)}{f': {reason}' if reason else ''}"
        _on_record(transaction, world, chosen, old, why, person)
        if rollout is not None and memory is not None:
            progress = RolloutProgress(world, view, story)
            ours = int(rollout.state.challenger) == number
            phase = RolloutPhase.PROMOTED if ours else RolloutPhase.INCONCLUSIVE
            memory = progress.end(memory, rollout, phase, why)
            memories.remember(transaction, namespace, name, MEMORY, memory)
            if ours:
                return {"golden": number}
        versions.make_golden(transaction, chosen)
        _watch(transaction, world, chosen, memory)
        story.tell("Promoted", f"version {number} is golden: {why}", challenger=number)
    return {"golden": number}


def roll_back(world: World, namespace: str, name: str, *, reason: str, person: str = "") -> JsonObject:
    """End the rollout if there is one, else go back to the version that was golden before; what is left is quarantined.

    Raises ConflictError where there is nothing to go back to.
    """
    with world.lock, world.database.write() as transaction:
        view = _view(transaction, namespace, name)
        memory = memories.recall(transaction, namespace, name, MEMORY, LoopMemory)
        rollout = memories.recall(transaction, namespace, name, ROLLOUT, RolloutMemory)
        story = _story(world, transaction, view, memory)
        why = f"rolled back by hand{_by(person)}{f': {reason}' if reason else ''}"
        if rollout is not None and memory is not None:
            _audited(transaction, world, view, "rollback", person, version=rollout.state.challenger, reason=reason)
            memory = RolloutProgress(world, view, story).end(memory, rollout, RolloutPhase.ROLLED_BACK, why)
            memories.remember(transaction, namespace, name, MEMORY, memory)
            return {"golden": int(rollout.state.champion), "quarantined": int(rollout.state.challenger)}
        present = versions.golden(transaction, namespace, name)
        earlier = versions.previous_golden(transaction, namespace, name)
        if present is None or earlier is None:
            raise ConflictError(
                "no earlier golden version is there", where=name, mend=f"See: goldenloop get versions {name}."
            )
        _audited(transaction, world, view, "rollback", person, version=present.number, reason=reason)
        _must_fit(transaction, world, earlier)
        versions.make_golden(transaction, earlier, quarantine_old=True)
        _on_record(transaction, world, earlier, present, why, person)
        _watch(transaction, world, earlier, memory)
        story.tell(
            "RolledBack",
            f"version {earlier.number} is golden again, version {present.number} is quarantined: {why}",
            champion=earlier.number,
            challenger=present.number,
        )
    return {"golden": earlier.number, "quarantined": present.number}


def _view(transaction: Transaction, namespace: str, name: str) -> LoopView:
    return LoopView.of(resources.get(transaction, LOOP, namespace, name))


def _view_and_story(world: World, transaction: Transaction, namespace: str, name: str) -> tuple[LoopView, Storyteller]:
    view = _view(transaction, namespace, name)
    memory = memories.recall(transaction, namespace, name, MEMORY, LoopMemory)
    return view, _story(world, transaction, view, memory)


def _waiting(transaction: Transaction, namespace: str, name: str, version: int | None) -> versions.ModelVersion:
    """The version that is named, or the one that waits. Raises NotFoundError."""
    if version is not None:
        return versions.get(transaction, namespace, name, version)
    waiting = versions.awaiting(transaction, namespace, name)
    if not waiting:
        raise NotFoundError("no version waits for approval", where=name, mend=f"See: goldenloop get versions {name}.")
    return waiting[-1]


def _audited(
    transaction: Transaction, world: World, view: LoopView, action: str, person: str = "", **facts: str | int
) -> None:
    deed = audit.Deed(
        action=action, kind="Loop", namespace=view.namespace, name=view.name, actor=person, facts={**facts}
    )
    audit.record(transaction, deed, now_us=world.clock.now_us())


def _must_fit(transaction: Transaction, world: World, chosen: versions.ModelVersion) -> None:
    """Raise RefusedError for a version that is not what was signed: it would not be served."""
    if world.attestor is not None:
        world.attestor.must_fit(transaction, world.artifacts, chosen)


def _by(person: str) -> str:
    return f" by {person}" if person else ""


def _story(world: World, transaction: Transaction, view: LoopView, memory: LoopMemory | None) -> Storyteller:
    now_us = world.clock.now_us()
    event_us = memory.tick_us if memory is not None and memory.tick_us is not None else now_us
    return Storyteller(transaction, view.namespace, view.name, event_us, now_us)


def _on_record(
    transaction: Transaction,
    world: World,
    chosen: versions.ModelVersion,
    old: versions.ModelVersion | None,
    why: str,
    person: str,
) -> None:
    evaluation = Evaluation(
        namespace=chosen.namespace,
        model=chosen.model,
        challenger=chosen.number,
        champion=None if old is None else old.number,
        verdict=Verdict.PASS,
        reason=why,
        evidence={},
        decided_by="person",
        person=person,
    )
    versions.record_evaluation(transaction, evaluation, now_us=world.clock.now_us())


def _watch(transaction: Transaction, world: World, champion: versions.ModelVersion, memory: LoopMemory | None) -> None:
    if memory is not None:
        memories.remember(transaction, champion.namespace, champion.model, MEMORY, renewed(memory))
    if memories.recall(transaction, champion.namespace, champion.model, MONITORS, MonitorMemory) is not None:
        welcome(transaction, world, champion)
