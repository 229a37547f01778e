"""What a person decides: a run now, a version promoted, a version rolled back. On record with who asked and why."""

from __future__ import annotations

from goldenloop.control.memory import LoopMemory, MonitorMemory, RolloutMemory
from goldenloop.control.progress import MEMORY, MONITORS, ROLLOUT, RolloutProgress, renewed, welcome
from goldenloop.control.runs import ask_for_run
from goldenloop.control.view import LOOP, LoopView
from goldenloop.control.world import Storyteller, World
from goldenloop.core.errors import ConflictError, NotFoundError
from goldenloop.core.ids import uuid7
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import RolloutPhase, Verdict
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
    return {"cause": key}


def promote(world: World, namespace: str, name: str, *, version: int | None, reason: str) -> JsonObject:
    """Make a version golden by hand: the challenger of the rollout, or a named one. Raises ConflictError where that cannot be."""
    with world.lock, world.database.write() as transaction:
        view = _view(transaction, namespace, name)
        memory = memories.recall(transaction, namespace, name, MEMORY, LoopMemory)
        rollout = memories.recall(transaction, namespace, name, ROLLOUT, RolloutMemory)
        if version is None and rollout is None:
            raise NotFoundError(
                "there is no rollout", where=name, mend="Name the version: goldenloop promote LOOP VERSION."
            )
        number = version if version is not None else int(rollout.state.challenger)  # type: ignore[union-attr]
        chosen = versions.get(transaction, namespace, name, number)
        old = versions.golden(transaction, namespace, name)
        story = _story(world, transaction, view, memory)
        why = f"promoted by hand{f': {reason}' if reason else ''}"
        _on_record(transaction, world, chosen, old, why)
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


def roll_back(world: World, namespace: str, name: str, *, reason: str) -> JsonObject:
    """End the rollout if there is one, else go back to the version that was golden before; what is left is quarantined.

    Raises ConflictError where there is nothing to go back to.
    """
    with world.lock, world.database.write() as transaction:
        view = _view(transaction, namespace, name)
        memory = memories.recall(transaction, namespace, name, MEMORY, LoopMemory)
        rollout = memories.recall(transaction, namespace, name, ROLLOUT, RolloutMemory)
        story = _story(world, transaction, view, memory)
        why = f"rolled back by hand{f': {reason}' if reason else ''}"
        if rollout is not None and memory is not None:
            memory = RolloutProgress(world, view, story).end(memory, rollout, RolloutPhase.ROLLED_BACK, why)
            memories.remember(transaction, namespace, name, MEMORY, memory)
            return {"golden": int(rollout.state.champion), "quarantined": int(rollout.state.challenger)}
        present = versions.golden(transaction, namespace, name)
        earlier = versions.previous_golden(transaction, namespace, name)
        if present is None or earlier is None:
            raise ConflictError(
                "no earlier golden version is there", where=name, mend=f"See: goldenloop get versions {name}."
            )
        versions.make_golden(transaction, earlier, quarantine_old=True)
        _on_record(transaction, world, earlier, present, why)
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
    )
    versions.record_evaluation(transaction, evaluation, now_us=world.clock.now_us())


def _watch(transaction: Transaction, world: World, champion: versions.ModelVersion, memory: LoopMemory | None) -> None:
    if memory is not None:
        memories.remember(transaction, champion.namespace, champion.model, MEMORY, renewed(memory))
    if memories.recall(transaction, champion.namespace, champion.model, MONITORS, MonitorMemory) is not None:
        welcome(transaction, world, champion)
