"""What is a cause to train a loop's model again, and whether that starts a run now.

Three kinds. The *alarm*: the loss has risen, as a detector says that cries wolf at most once in `falseAlarmWindows` windows. The *cost*:
going on has lost as much as a run costs (`goldenloop.triggers.costs`); it comes sooner, and has a bound of its own. And the triggers that
a person wrote. A cause waits until nothing holds it back; one waits at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from goldenloop.control import conditions, costing
from goldenloop.control.measuring import JudgedLoss
from goldenloop.control.memory import Alarm, LoopMemory, MonitorMemory, RolloutMemory
from goldenloop.control.progress import ROLLOUT
from goldenloop.control.view import LoopView, window_length_us
from goldenloop.control.world import Storyteller, World
from goldenloop.core.clock import DAY
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import Verdict
from goldenloop.monitors.analyst import Span
from goldenloop.registry import versions
from goldenloop.store import memories
from goldenloop.store.database import insert_ignoring
from goldenloop.store.tables import decisions, measurements
from goldenloop.triggers import costs
from goldenloop.triggers import decide as triggers

_UPPER_QUARTILE = 0.674  # of a normal distribution, in standard deviations


@dataclass(frozen=True, slots=True)
class Seen:
    """A window whose labels are due: where it lies, who answered it, and what its labels said (None: too little, or nobody asked)."""

    window: int
    span: Span
    version: str
    found: JudgedLoss | None


def noted(
    world: World, view: LoopView, memory: LoopMemory, monitors: MonitorMemory, seen: Seen, story: Storyteller
) -> LoopMemory:
    """The loop with the cause that this window gives, if it gives one and none is waiting.

    An alarm of the loss goes before what the loss costs, and that before the triggers that a person wrote.
    """
    reasons, cause = view.spec.retrain.reasons, None
    if seen.found is not None:
        memory = costing.counted(memory, monitors, seen.version, seen.found)
        if "alarm" in reasons:
            memory, cause = _alarmed(view, memory, monitors, seen, seen.found, story.event_us)
        if "cost" in reasons:
            costly = _too_costly(view, memory, monitors, seen, seen.found, story)
            cause = cause or costly
    memory, written = conditions.looked(world, view, memory, seen.window, seen.version, story)
    cause = cause or written
    if memory.alarm is not None or cause is None:
        return memory
    return msgspec.structs.replace(memory, alarm=cause)


def _alarmed(
    view: LoopView, memory: LoopMemory, monitors: MonitorMemory, seen: Seen, found: JudgedLoss, tick_us: int
) -> tuple[LoopMemory, Alarm | None]:
    """The cause of an alarm, or of one that came to nothing, after its back-off, if the loss stays high."""
    if memory.alarm is not None:
        return memory, None
    window, facts, judged, version = found.window, found.facts, found.judgement, seen.version
    said = _said(memory, found)
    evidence: JsonObject = {
        "monitor": "performance",
        "window": window,
        "excessLoss": facts.residual,
        "statistic": judged.statistic,
        "threshold": judged.threshold,
        "version": version,
    }
    if judged.alarm:
        text = f"version {version} loses {facts.residual:.3f} a row more than expected in window {window}{said}"
        return memory, Alarm(key=f"{view.uid}/{version}/loss/{window}", text=text, evidence=evidence, at_us=tick_us)
    unmet, refused_us = memory.unmet, memory.refused_us
    if unmet is None or refused_us is None or not _has_backed_off(view, memory, refused_us, tick_us):
        return memory, None
    scorer, mean = monitors.loss, sum(monitors.recent) / len(monitors.recent)
    if mean <= scorer.location + _UPPER_QUARTILE * scorer.scale:
        return msgspec.structs.replace(memory, unmet=None, setbacks=0), None
    text = f"version {version} still loses {mean:.3f} a row more than expected in window {window}{said}"
    key = f"{unmet.key.partition('/again/')[0]}/again/{memory.setbacks}"
    cause = Alarm(key=key, text=text, evidence=evidence, at_us=tick_us)
    return msgspec.structs.replace(memory, unmet=None), cause


def _too_costly(
    view: LoopView, memory: LoopMemory, monitors: MonitorMemory, seen: Seen, found: JudgedLoss, story: Storyteller
) -> Alarm | None:
    """The cause that going on has cost as much as a run does. What was weighed is on record for every window."""
    if memory.costs is None or found.facts.residual is None:
        return None
    rows = max(1, found.facts.rows)
    price = costing.price_of(story.transaction, view, memory, monitors, span=seen.span, rows=rows)
    weighed = costs.weighed(memory.costs, price.amount)
    note = (
        f"{weighed.accumulated:.3f} of {weighed.threshold:.3f} window losses in {weighed.windows} windows; the price is "
        f"{price.amount:.3f} ({price.why}); earlier runs make that {2.0 ** max(0.0, memory.costs.doublings):.2g} times as much"
    )
    story.transaction.execute(
        insert_ignoring(story.transaction, measurements).values(
            namespace=view.namespace,
            loop=view.name,
            version=seen.version,
            window=seen.window,
            start_us=seen.span.start_us,
            end_us=seen.span.end_us,
            rows=found.facts.labelled,
            monitor="performance",
            metric="accumulated_loss",
            value=weighed.accumulated,
            threshold=weighed.threshold,
            verdict=Verdict.FAIL if weighed.due else Verdict.PASS,
            note=note,
        )
    )
    if not weighed.due:
        return None
    text = (
        f"version {seen.version} has lost {weighed.accumulated * rows:.0f} answers more than a fresh one would in {weighed.windows} "
        f"windows, and a run costs as much as {weighed.price * rows:.0f}{_said(memory, found)}"
    )
    evidence: JsonObject = {
        "monitor": "performance",
        "window": seen.window,
        "version": seen.version,
        "accumulated": weighed.accumulated,
        "price": weighed.price,
        "priceIs": price.why,
        "threshold": weighed.threshold,
        "windows": weighed.windows,
        "level": weighed.level,
        "scatter": weighed.scatter,
        "doublings": memory.costs.doublings,
        "expectedGain": costs.expected_gain(memory.costs),
        "rows": rows,
    }
    key = f"{view.uid}/{seen.version}/cost/{seen.window}"
    return Alarm(key=key, text=text, evidence=evidence, at_us=story.event_us, kind="cost")


def _said(memory: LoopMemory, found: JudgedLoss) -> str:
    shown = found.facts.metrics.get(memory.metric)
    return f"; {memory.metric} is {shown:.3f}" if shown is not None else ""


def considered(world: World, view: LoopView, memory: LoopMemory, story: Storyteller, tick_us: int) -> LoopMemory:
    """The loop after its cause, if it has one, was looked at: every decision is on record, and a run is started once for one cause."""
    alarm = memory.alarm
    if alarm is None:
        return memory
    rollout = memories.recall(story.transaction, view.namespace, view.name, ROLLOUT, RolloutMemory)
    trained_until = memory.trained_until_us if memory.trained_until_us is not None else 0
    situation = triggers.Situation(
        now_us=tick_us,
        busy_with=f"the rollout of version {rollout.state.challenger}" if rollout is not None else _waits(story, view),
        new_labels=world.analyst.new_labels(view.namespace, view.name, trained_until, tick_us),
        fired_us=memory.fired_us,
        refused_us=memory.refused_us,
        setbacks=memory.setbacks,
        suspended=view.spec.retrain.suspend,
        dry_run=view.spec.retrain.dry_run,
    )
    decision = triggers.decide(_policy(view, memory), situation, alarm.text)
    fired = isinstance(decision, triggers.Fire)
    inserted = story.transaction.execute(
        insert_ignoring(story.transaction, decisions).values(
            namespace=view.namespace,
            loop=view.name,
            cause_key=alarm.key,
            fired=fired,
            reason=decision.reason,
            evidence={"kind": alarm.kind, "text": alarm.text, **alarm.evidence},
            settled=not fired,
            event_us=tick_us,
            created_us=story.now_us,
        )
    )
    if inserted.rowcount == 0:
        return memory
    if not fired:
        story.tell("NotTriggered", f"{alarm.text}, but {decision.reason}", window=alarm.evidence["window"])
        return memory
    story.tell("Trigger", f"retraining, because {alarm.text}", cause=alarm.key, **alarm.evidence)
    kept = tuple(moment for moment in memory.fired_us if tick_us - moment < 2 * DAY)
    return msgspec.structs.replace(
        memory,
        alarm=None,
        unmet=alarm if alarm.kind == "loss" else None,
        fired_us=(*kept, tick_us),
        costs=None if memory.costs is None else costs.paid(memory.costs),
    )


def _has_backed_off(view: LoopView, memory: LoopMemory, refused_us: int, now_us: int) -> bool:
    return now_us - refused_us >= triggers.back_off(_policy(view, memory), memory.setbacks)


def _policy(view: LoopView, memory: LoopMemory) -> triggers.Policy:
    return view.trigger_policy(window_length_us(memory.grid.size_us if memory.grid is not None else None))


def _waits(story: Storyteller, view: LoopView) -> str:
    """A version that a person has not decided on: another run would take its place before anybody has looked at it."""
    waiting = versions.awaiting(story.transaction, view.namespace, view.name)
    return f"the approval of version {waiting[-1].number}" if waiting else ""
