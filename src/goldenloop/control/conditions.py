"""The triggers that a person wrote into a Loop, looked at whenever the labels of a window are due."""

from __future__ import annotations

import msgspec
from sqlalchemy import select

from goldenloop.control.memory import Alarm, LoopMemory
from goldenloop.control.view import LoopView
from goldenloop.control.world import Storyteller, World
from goldenloop.core.clock import to_text
from goldenloop.core.durations import parse_duration
from goldenloop.core.json import JsonObject
from goldenloop.standards.retraining import RetrainTrigger
from goldenloop.standards.schedules import next_slot
from goldenloop.store.tables import measurements
from goldenloop.triggers.conditions import Crossing, Held, crossed


def looked(
    world: World, view: LoopView, memory: LoopMemory, window: int, version: str, story: Storyteller
) -> tuple[LoopMemory, Alarm | None]:
    """The loop after a look at its triggers, and the first cause among them."""
    causes: list[Alarm] = []
    for index, trigger in enumerate(view.spec.retrain.triggers):
        memory, found = _look(world, view, memory, trigger, str(index), window, version, story)
        if found is not None:
            text, identity, evidence = found
            key = f"{view.uid}/{version}/{trigger.kind}-{index}/{identity}"
            given: JsonObject = {"window": window, "version": version, "trigger": index, **evidence}
            causes.append(Alarm(key=key, text=text, evidence=given, at_us=story.event_us, kind=trigger.kind))
    return memory, causes[0] if causes else None


def _look(
    world: World,
    view: LoopView,
    memory: LoopMemory,
    trigger: RetrainTrigger,
    place: str,
    window: int,
    version: str,
    story: Storyteller,
) -> tuple[LoopMemory, tuple[str, object, JsonObject] | None]:
    """What a trigger gives: its words, what makes this cause another one than the last, and the evidence."""
    now_us = story.event_us
    trained_us = memory.trained_until_us or 0
    if trigger.metric is not None:
        value = _measured(story, view, trigger.metric, window)
        crossing = Crossing(below=trigger.below, above=trigger.above, windows=trigger.for_, clear=trigger.clear)
        fires, held = crossed(crossing, memory.held.get(place, Held()), value)
        memory = msgspec.structs.replace(memory, held={**memory.held, place: held})
        if not fires:
            return memory, None
        side, bound = ("below", trigger.below) if trigger.below is not None else ("above", trigger.above)
        text = f"{trigger.metric} of version {version} is {value:.4g}, {side} {bound:g}"
        text += f" for {trigger.for_} windows" if trigger.for_ > 1 else ""
        return memory, (text, window, {"metric": trigger.metric, "value": value, "bound": bound})
    if trigger.labels is not None:
        count = world.analyst.new_labels(view.namespace, view.name, trained_us, now_us)
        if count < trigger.labels:
            return memory, None
        return memory, (f"{count} labels came since the last training", trained_us, {"labels": count})
    if trigger.staleness is not None:
        if now_us - trained_us < parse_duration(trigger.staleness):
            return memory, None
        text = f"version {version} was trained on data until {to_text(trained_us)}, more than {trigger.staleness} ago"
        return memory, (text, trained_us, {"trainedUntil": to_text(trained_us)})
    last_us = max(memory.fired_us[-1] if memory.fired_us else 0, trained_us)
    slot_us = next_slot(trigger.cron, last_us=last_us, created_us=last_us, now_us=now_us, catch_up=False)
    if slot_us is None or slot_us > now_us:
        return memory, None
    return memory, (f"the schedule {trigger.schedule!r} says so", slot_us, {"slot": to_text(slot_us)})


def _measured(story: Storyteller, view: LoopView, metric: str, window: int) -> float | None:
    """The value of a metric over all rows of a window: `accuracy`, or with its monitor, `drift/statistic`."""
    monitor, _, name = metric.rpartition("/")
    query = select(measurements.c.value).where(
        measurements.c.namespace == view.namespace,
        measurements.c.loop == view.name,
        measurements.c.window == window,
        measurements.c.monitor == (monitor or "performance"),
        measurements.c.metric == name,
        measurements.c.feature == "",
        measurements.c.slice == "",
    )
    return story.transaction.execute(query).scalars().first()
