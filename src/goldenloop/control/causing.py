"""When a loop's loss is a cause to train again, and whether that starts a run now."""

from __future__ import annotations

import msgspec

from goldenloop.control.measuring import JudgedLoss
from goldenloop.control.memory import Alarm, LoopMemory, MonitorMemory, RolloutMemory
from goldenloop.control.progress import ROLLOUT
from goldenloop.control.view import LoopView, window_length_us
from goldenloop.control.world import Storyteller, World
from goldenloop.core.clock import DAY
from goldenloop.core.json import JsonObject
from goldenloop.store import memories
from goldenloop.store.database import insert_ignoring
from goldenloop.store.tables import decisions
from goldenloop.triggers import decide as triggers

_UPPER_QUARTILE = 0.674  # of a normal distribution, in standard deviations


def noted(
    view: LoopView, memory: LoopMemory, monitors: MonitorMemory, version: str, found: JudgedLoss, tick_us: int
) -> LoopMemory:
    """The loop with the cause that these labels give: an alarm, or one that came to nothing, after its back-off, if the loss stays high."""
    if memory.alarm is not None:
        return memory
    window, facts, judged = found.window, found.facts, found.judgement
    shown = facts.metrics.get(memory.metric)
    said = f"; {memory.metric} is {shown:.3f}" if shown is not None else ""
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
        cause = Alarm(key=f"{view.uid}/{version}/loss/{window}", text=text, evidence=evidence, at_us=tick_us)
        return msgspec.structs.replace(memory, alarm=cause)
    unmet, refused_us = memory.unmet, memory.refused_us
    if unmet is None or refused_us is None or not _has_backed_off(view, memory, refused_us, tick_us):
        return memory
    scorer, mean = monitors.loss, sum(monitors.recent) / len(monitors.recent)
    if mean <= scorer.location + _UPPER_QUARTILE * scorer.scale:
        return msgspec.structs.replace(memory, unmet=None, setbacks=0)
    text = f"version {version} still loses {mean:.3f} a row more than expected in window {window}{said}"
    key = f"{unmet.key.partition('/again/')[0]}/again/{memory.setbacks}"
    cause = Alarm(key=key, text=text, evidence=evidence, at_us=tick_us)
    return msgspec.structs.replace(memory, alarm=cause, unmet=None)


def considered(world: World, view: LoopView, memory: LoopMemory, story: Storyteller, tick_us: int) -> LoopMemory:
    """The loop after its cause, if it has one, was looked at: every decision is on record, and a run is started once for one cause."""
    alarm = memory.alarm
    if alarm is None:
        return memory
    rollout = memories.recall(story.transaction, view.namespace, view.name, ROLLOUT, RolloutMemory)
    trained_until = memory.trained_until_us if memory.trained_until_us is not None else 0
    situation = triggers.Situation(
        now_us=tick_us,
        busy_with=f"the rollout of version {rollout.state.challenger}" if rollout is not None else "",
        new_labels=world.analyst.new_labels(view.namespace, view.name, trained_until, tick_us),
        fired_us=memory.fired_us,
        refused_us=memory.refused_us,
        setbacks=memory.setbacks,
        suspended=view.spec.retrain.suspend,
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
            evidence={"kind": "loss", "text": alarm.text, **alarm.evidence},
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
    return msgspec.structs.replace(memory, alarm=None, unmet=alarm, fired_us=(*kept, tick_us))


def _has_backed_off(view: LoopView, memory: LoopMemory, refused_us: int, now_us: int) -> bool:
    return now_us - refused_us >= triggers.back_off(_policy(view, memory), memory.setbacks)


def _policy(view: LoopView, memory: LoopMemory) -> triggers.Policy:
    return view.trigger_policy(window_length_us(memory.grid.size_us if memory.grid is not None else None))
