"""Keeps objectives: counts once a minute what the wall clock counts, judges every SLO, and does what was asked for a spent budget.

Level-based: what was counted, and the status in which each SLO was left, are in the store; nothing is remembered between two looks but when
it was looked.
"""

from __future__ import annotations

import logging

import msgspec
from sqlalchemy import func, select

from goldenloop.control.counters import Counters, ServiceCounts
from goldenloop.control.indicators import count, forget_totals, golden_since, key_of
from goldenloop.control.memory import LoopMemory, MonitorMemory, RolloutMemory
from goldenloop.control.objectives import SLO, Spent, judge_slo, stand
from goldenloop.control.progress import MEMORY, MONITORS, ROLLOUT, RolloutProgress, renewed, welcome
from goldenloop.control.view import LOOP, LoopView
from goldenloop.control.world import Storyteller, World
from goldenloop.core.clock import MINUTE, SECOND, to_text
from goldenloop.core.errors import GoldenloopError, UnavailableError
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import RolloutPhase, Verdict
from goldenloop.registry import versions
from goldenloop.registry.versions import Evaluation
from goldenloop.standards.kubernetes import condition
from goldenloop.standards.openslo import ServiceLevel, read_slo, slo_name
from goldenloop.store import memories, resources
from goldenloop.store.database import Transaction
from goldenloop.store.tables import measurements

_log = logging.getLogger(__name__)


class ObjectiveKeeper:
    """Judges all SLOs once in `every_us` of the wall clock, and a new one at once. One thread calls `advance`."""

    def __init__(self, world: World, counters: Counters, *, every_us: int = MINUTE) -> None:
        self._world = world
        self._counters = counters
        self._every_us = every_us
        self._looked_us: int | None = None
        self._generations: dict[str, int] = {}
        self._asked_us: int | None = None

    def advance(self) -> bool:
        """Look once; whether something was judged. Raises UnavailableError where the store does not answer."""
        now_us = self._world.clock.now_us()
        is_due = self._looked_us is None or not 0 <= now_us - self._looked_us < self._every_us
        if not is_due and self._asked_us is not None and 0 <= now_us - self._asked_us < SECOND:
            return False
        self._asked_us = now_us
        with self._world.database.read() as transaction:
            documents = resources.listing(transaction, SLO)
        generations = {_uid(each): int(str(resources.metadata_of(each)["generation"])) for each in documents}
        new = [each for each in documents if self._generations.get(_uid(each)) != generations[_uid(each)]]
        gone = self._generations.keys() - generations.keys()
        self._generations = generations
        if not is_due:
            documents = new
        if documents:
            counts = dict(self._counters.read())
            for document in documents:
                self._keep(document, counts, now_us)
        if is_due:
            self._looked_us = now_us
        if gone or is_due:
            self._forget_gone()
        return bool(new)

    def _keep(self, document: JsonObject, counts: dict[tuple[str, str], ServiceCounts], now_us: int) -> None:
        metadata = resources.metadata_of(document)
        namespace, name = str(metadata["namespace"]), str(metadata["name"])
        with self._world.lock, self._world.database.write() as transaction:
            current = resources.find(transaction, SLO, namespace, name)
            if current is None:
                return
            try:
                levels = read_slo(name, current["spec"])
                service = levels[0].service
                memory = memories.recall(transaction, namespace, service, MEMORY, LoopMemory)
                event_us = None if memory is None else memory.tick_us
                story = Storyteller(transaction, namespace, service, now_us if event_us is None else event_us, now_us)
                for level in levels:
                    self._count(story, _uid(current), level, counts)
                spent = judge_slo(transaction, current, story, event_us=event_us, at=to_text(now_us))
                _act_on_spent(self._world, story, current, spent)
            except UnavailableError:
                raise
            except GoldenloopError as error:
                # A document that was accepted by an older release, perhaps: it is said where it stands.
                _log.error("slo %s/%s: %s", namespace, name, error)
                state = condition("Measured", False, "NotReadable", str(error), at=to_text(now_us))
                resources.set_status(transaction, SLO, namespace, name, {"conditions": [state]})

    def _count(
        self, story: Storyteller, uid: str, level: ServiceLevel, counts: dict[tuple[str, str], ServiceCounts]
    ) -> None:
        """Write down what the wall clock counts of an objective."""
        if not level.indicator.is_of_the_service:
            return
        seen = _seen(story.transaction, story.namespace, level, counts, story.now_us)
        if seen is None:
            return
        good, total = seen
        stepped = count(
            story.transaction,
            key_of(uid, level),
            good=good,
            total=total,
            now_us=story.now_us,
            window_us=level.window_us,
        )
        if stepped:
            story.tell(
                "ClockBack",
                f"the clock was set back; what {level.indicator.text} counted since is taken to have happened now",
                slo=level.name,
            )

    def _forget_gone(self) -> None:
        with self._world.database.write() as transaction:
            keys = set()
            for document in resources.listing(transaction, SLO):
                try:
                    levels = read_slo(str(resources.metadata_of(document)["name"]), document["spec"])
                except GoldenloopError:
                    continue  # it was said when it was looked at
                keys |= {key_of(_uid(document), level) for level in levels}
            forget_totals(transaction, keys)


def judge_at_tick(world: World, view: LoopView, memory: LoopMemory, story: Storyteller) -> LoopMemory:
    """Judge the loop's own objectives at a tick, in its transaction; the loop after what was done for a spent budget."""
    for index, objective in enumerate(view.spec.objectives):
        document = resources.find(story.transaction, SLO, view.namespace, slo_name(view.name, index, objective))
        if document is None:
            continue
        spent = judge_slo(story.transaction, document, story, event_us=story.event_us, at=to_text(story.now_us))
        for each in spent:
            if objective.on_spent != "fallBack" or each.level.indicator.is_of_the_service:
                continue
            # What is done here reads the loop as it stands at this moment of the tick.
            memories.remember(story.transaction, view.namespace, view.name, MEMORY, memory)
            fall_back(world, view, story, _uid(document), each, f"{objective.indicator} {objective.target}")
            memory = memories.recall(story.transaction, view.namespace, view.name, MEMORY, LoopMemory) or memory
    return memory


def fall_back(world: World, view: LoopView, story: Storyteller, uid: str, spent: Spent, promised: str) -> None:
    """Return to the version that was golden before, if the present one spent the budget by itself since it became golden.

    What an earlier champion did is no reason to take a later one out. A rollout that goes on ends, and the champion is quarantined.
    """
    transaction, namespace, name = story.transaction, view.namespace, view.name
    by_the_wall = spent.level.indicator.is_of_the_service
    from_us = golden_since(transaction, namespace, name, by_the_wall=by_the_wall)
    now_us = story.now_us if by_the_wall else story.event_us
    own = stand(transaction, namespace, uid, spent.level, now_us=now_us, from_us=from_us)
    present = versions.golden(transaction, namespace, name)
    earlier = versions.previous_golden(transaction, namespace, name)
    why = f"the error budget of {promised} is spent"
    if present is None or earlier is None or not own.is_spent:
        if spent.is_new:
            because = "no version was golden before" if earlier is None else "what answers now did not spend it"
            story.tell("NoFallBack", f"{why}, and {because}: the champion stays")
        return
    memory = memories.recall(transaction, namespace, name, MEMORY, LoopMemory)
    rollout = memories.recall(transaction, namespace, name, ROLLOUT, RolloutMemory)
    if memory is not None and rollout is not None:
        memory = RolloutProgress(world, view, story).end(
            memory, rollout, RolloutPhase.INCONCLUSIVE, f"its champion goes: {why}"
        )
    versions.make_golden(transaction, earlier, quarantine_old=True)
    record = Evaluation(
        namespace=namespace,
        model=name,
        challenger=earlier.number,
        champion=present.number,
        verdict=Verdict.PASS,
        reason=f"fallen back to: {why}",
        evidence={},
        decided_by="control",
    )
    versions.record_evaluation(transaction, record, now_us=story.now_us)
    if memory is not None:
        memories.remember(transaction, namespace, name, MEMORY, renewed(memory))
    if memories.recall(transaction, namespace, name, MONITORS, MonitorMemory) is not None:
        welcome(transaction, world, earlier)
    story.tell(
        "RolledBack",
        f"version {earlier.name} is golden again, version {present.name} is quarantined: {why}",
        champion=earlier.number,
        challenger=present.number,
    )


def _act_on_spent(world: World, story: Storyteller, slo: JsonObject, spent: tuple[Spent, ...]) -> None:
    """Do what the loop's objective asks for where the wall clock counts; the others are acted on at ticks."""
    mine = [each for each in spent if each.level.indicator.is_of_the_service]
    document = resources.find(story.transaction, LOOP, story.namespace, story.loop) if mine else None
    if document is None:
        return
    view, name = LoopView.of(document), str(resources.metadata_of(slo)["name"])
    for index, objective in enumerate(view.spec.objectives):
        if slo_name(view.name, index, objective) == name and objective.on_spent == "fallBack":
            for each in mine:
                fall_back(world, view, story, _uid(slo), each, f"{objective.indicator} {objective.target}")


def _seen(
    transaction: Transaction,
    namespace: str,
    level: ServiceLevel,
    counts: dict[tuple[str, str], ServiceCounts],
    now_us: int,
) -> tuple[float, float] | None:
    """Good and total as counters say them now; None where there is nothing to count."""
    indicator = level.indicator
    if indicator.kind == "dataFreshness":
        return _freshness(transaction, namespace, level, now_us)
    found = counts.get((namespace, level.service), ServiceCounts())
    if indicator.kind == "availability":
        return found.requests - found.failed, found.requests
    return found.within.get(indicator.bound or 0.0, 0.0), found.answered


def _freshness(
    transaction: Transaction, namespace: str, level: ServiceLevel, now_us: int
) -> tuple[float, float] | None:
    """One occurrence a look: whether the last window with data closed lately enough. None before the first, and in a replay's own time."""
    document = resources.find(transaction, LOOP, namespace, level.service)
    if document is not None and LoopView.of(document).spec.replay:
        return None
    mine = (measurements.c.namespace == namespace, measurements.c.loop == level.service, measurements.c.rows > 0)
    last = transaction.scalar(select(func.max(measurements.c.end_us)).where(*mine))
    if last is None:
        return None
    memory = memories.recall(transaction, namespace, f"slo/{level.name}", "looks", _Looks) or _Looks()
    good = level.indicator.meets((now_us - last) / SECOND)
    memory = _Looks(good=memory.good + good, total=memory.total + 1)
    memories.remember(transaction, namespace, f"slo/{level.name}", "looks", memory)
    return float(memory.good), float(memory.total)


class _Looks(msgspec.Struct, frozen=True, kw_only=True):
    """A counter of control's own: how often it looked, and how often what it saw was good."""

    good: int = 0
    total: int = 0


def _uid(document: JsonObject) -> str:
    return str(resources.metadata_of(document)["uid"])
