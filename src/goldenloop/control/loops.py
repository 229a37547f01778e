"""What a Loop brings into being, and what it shows: the resources it owns, its first version, its status."""

from __future__ import annotations

import msgspec

from goldenloop.control.memory import LoopMemory, MonitorMemory, RolloutMemory
from goldenloop.control.objectives import SLO
from goldenloop.control.progress import MEMORY, MONITORS, ROLLOUT
from goldenloop.control.runs import ask_for_run, never_began, under_way
from goldenloop.control.telling import channels_shown
from goldenloop.control.view import LOOP, LoopView
from goldenloop.control.watching import explained, watched
from goldenloop.core.clock import Clock, to_text
from goldenloop.core.durations import parse_duration
from goldenloop.core.errors import ConflictError
from goldenloop.core.json import JsonObject
from goldenloop.monitors.catalogue import watches
from goldenloop.monitors.findings import Chosen
from goldenloop.registry import versions
from goldenloop.registry.versions import ModelVersion
from goldenloop.standards import analysis_template, kubernetes, openslo
from goldenloop.standards.inference_service import records
from goldenloop.standards.kubernetes import condition, conditions_of, set_condition
from goldenloop.standards.loop import MonitorSpec, TriggerSpec
from goldenloop.standards.trigger import PipelineTriggerSpec, read_trigger
from goldenloop.store import memories, resources
from goldenloop.store.database import Transaction


def establish(transaction: Transaction, view: LoopView, clock: Clock) -> None:
    """Make what the loop owns be as its spec says, and ask for a first version where there is none."""
    golden = versions.golden(transaction, view.namespace, view.name)
    for kind_name, name, spec in _owned(view, golden, _chosen(transaction, view)):
        kind = kubernetes.kind_named(kind_name)
        wanted: JsonObject = {
            "metadata": {"name": name, "ownerReferences": [resources.owner_reference(view.document)]},
            "spec": spec,
        }
        present = resources.find(transaction, kind, view.namespace, name)
        if present is None:
            resources.create(transaction, kind, view.namespace, wanted, now_us=clock.now_us())
        elif not _owned_by(present, view):
            raise ConflictError(
                f"{kind.kind} {name!r} is there and is not this loop's",
                where=f"loops/{view.name}",
                mend=f"Delete it, or give the loop another name: goldenloop delete {kind.plural} {name}.",
            )
        elif present["spec"] != spec:
            resources.replace(transaction, kind, view.namespace, name, wanted, by=view.uid)
    _drop_objectives(transaction, view)
    if golden is None:
        now_us = clock.now_us()
        ask_for_run(
            transaction,
            view,
            key=f"{view.uid}/first/{view.generation}",
            kind="first",
            text="there is no version yet",
            event_us=now_us,
            now_us=now_us,
        )


def mark_strangers(transaction: Transaction, clock: Clock) -> None:
    """Say on resources that no loop wrote that nothing acts on them yet; silence would look like success."""
    at = to_text(clock.now_us())
    for kind in kubernetes.KINDS:
        # What a person writes of these is acted on, or used where a Loop names it.
        if kind in (LOOP, SLO) or kind.group in (records.GROUP, analysis_template.GROUP):
            continue
        for document in resources.listing(transaction, kind):
            metadata = resources.metadata_of(document)
            if metadata.get("ownerReferences") or document.get("status"):
                continue
            if kind.kind == "Trigger" and isinstance(read_trigger(document["spec"]), PipelineTriggerSpec):
                continue  # goldenloop.control.triggers acts on it
            message = f"a {kind.kind} is acted on only where a Loop wrote it, as yet; write it into a Loop"
            state: JsonObject = {"conditions": [condition("Ready", False, "NotActedOn", message, at=at)]}
            resources.set_status(transaction, kind, str(metadata["namespace"]), str(metadata["name"]), state)


def _drop_objectives(transaction: Transaction, view: LoopView) -> None:
    """Delete the SLOs of objectives that the spec no longer has."""
    wanted = {openslo.slo_name(view.name, index, objective) for index, objective in enumerate(view.spec.objectives)}
    for document in resources.listing(transaction, SLO, view.namespace):
        name = str(resources.metadata_of(document)["name"])
        if name not in wanted and _owned_by(document, view):
            resources.remove(transaction, SLO, view.namespace, name, by=view.uid)


def show(transaction: Transaction, view: LoopView, clock: Clock, failures: dict[str, str]) -> None:
    """Write the status that people and pages read."""
    document = resources.find(transaction, LOOP, view.namespace, view.name)
    if document is None:
        return
    memory = memories.recall(transaction, view.namespace, view.name, MEMORY, LoopMemory)
    rollout = memories.recall(transaction, view.namespace, view.name, ROLLOUT, RolloutMemory)
    golden = versions.golden(transaction, view.namespace, view.name)
    busy = under_way(transaction, view)
    chosen = _chosen(transaction, view)
    old = document.get("status")
    conditions = conditions_of(old)
    at = to_text(clock.now_us())
    failed = memory.failed if memory is not None else never_began(transaction, view)
    waiting = versions.awaiting(transaction, view.namespace, view.name)
    asks = f"version {waiting[-1].number} waits for approval" if waiting else ""
    for each in _conditions(view, failed, golden, busy or asks, failures, at):
        conditions = set_condition(conditions, each)
    idle = "Blocked" if failed else "AwaitingApproval" if waiting else "Waiting"
    phase = "Training" if busy else "Serving" if golden is not None else idle
    status: JsonObject = {
        "champion": None if golden is None else golden.name,
        "phase": phase,
        "rollout": None if rollout is None else rollout.name,
        "awaitingApproval": [version.number for version in waiting],
        "watermark": None if memory is None or memory.tick_us is None else to_text(memory.tick_us),
        "windows": 0 if memory is None else memory.closed,
        "rollouts": 0 if memory is None else memory.rollouts,
        "busyWith": busy,
        "observedGeneration": view.generation,
        "choices": {} if memory is None else msgspec.to_builtins(memory.choices),
        "monitors": _monitors_shown(view, chosen, has=True),
        "monitorsLeftOut": _monitors_shown(view, chosen, has=False),
        "notify": channels_shown(transaction, view.namespace, view.name, view.spec.notify),
        "conditions": list(conditions),
    }
    resources.set_status(transaction, LOOP, view.namespace, view.name, status)
    _show_service(transaction, view, golden, at)


def _chosen(transaction: Transaction, view: LoopView) -> tuple[Chosen, ...]:
    monitors = memories.recall(transaction, view.namespace, view.name, MONITORS, MonitorMemory)
    return () if monitors is None else monitors.chosen


def _monitors_shown(view: LoopView, chosen: tuple[Chosen, ...], *, has: bool) -> JsonObject:
    """The monitors that the loop has, or those that it has not: what they watch, and why."""
    return {
        each.monitor: {"value": watches(each.monitor), "why": each.why}
        for each in explained(view, chosen)
        if each.chosen is has
    }


def _conditions(
    view: LoopView,
    failed: str,
    golden: ModelVersion | None,
    busy: str,
    failures: dict[str, str],
    at: str,
) -> list[JsonObject]:
    broken = {name: why for name, why in failures.items() if name.startswith(f"{view.namespace}/{view.name}/")}
    if broken:
        name, why = next(iter(broken.items()))
        ready = condition(
            "Ready", False, "NotLoaded", f"version {name.rpartition('/')[2]} cannot be loaded: {why}", at=at
        )
    elif golden is not None:
        ready = condition("Ready", True, "Serving", f"version {golden.name} answers", at=at)
    elif failed and not busy:
        ready = condition("Ready", False, "NoVersion", failed, at=at)
    else:
        ready = condition("Ready", None, "Training", busy or "the first version is not there yet", at=at)
    learning = condition("LastRun", True, "Succeeded", "", at=at)
    if failed:
        learning = condition("LastRun", False, "CameToNothing", failed, at=at)
    return [ready, learning]


def _show_service(transaction: Transaction, view: LoopView, golden: ModelVersion | None, at: str) -> None:
    kind = kubernetes.kind_named("inferenceservices")
    holds = True if golden is not None else None
    message = f"version {golden.name} answers" if golden is not None else "there is no version yet"
    present = resources.find(transaction, kind, view.namespace, view.name)
    if present is None:
        return
    ready = condition("Ready", holds, "Serving" if holds else "Waiting", message, at=at)
    conditions = set_condition(conditions_of(present.get("status")), ready)
    status: JsonObject = {"url": f"/v2/models/{view.name}", "conditions": list(conditions)}
    resources.set_status(transaction, kind, view.namespace, view.name, status)


def _owned(
    view: LoopView, golden: ModelVersion | None, chosen: tuple[Chosen, ...]
) -> list[tuple[str, str, JsonObject]]:
    """The kind, the name and the spec of each thing that the loop owns. Rollouts are made when there is one."""
    spec = view.spec
    model: JsonObject = {
        "modelFormat": {"name": "onnx"},
        "storageUri": f"goldenloop://{view.name}/{golden.number if golden is not None else 'none'}",
    }
    owned: list[tuple[str, str, JsonObject]] = [
        (
            "inferenceservices",
            view.name,
            {"predictor": {"model": model, "minReplicas": spec.serving.min_replicas}},
        ),
        (
            "monitors",
            view.name,
            msgspec.to_builtins(
                MonitorSpec(
                    service=view.name,
                    monitors=watched(view, chosen),
                    windows=spec.windows,
                    false_alarm_windows=spec.retrain.false_alarm_windows,
                )
            ),
        ),
        ("triggers", view.name, msgspec.to_builtins(TriggerSpec(loop=view.name, retrain=spec.retrain))),
    ]
    size = spec.windows.size
    cadence_us = parse_duration(size) if isinstance(size, str) and size != "auto" else None
    for index, objective in enumerate(spec.objectives):
        slo = openslo.from_objective(view.name, objective, cadence_us=cadence_us)
        owned.append(("slos", openslo.slo_name(view.name, index, objective), slo))
    return owned


def _owned_by(document: JsonObject, view: LoopView) -> bool:
    references = resources.metadata_of(document).get("ownerReferences")
    return isinstance(references, list) and any(
        isinstance(reference, dict) and reference.get("uid") == view.uid for reference in references
    )
