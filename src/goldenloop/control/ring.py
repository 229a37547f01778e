"""The ring, one look at a time: every loop is brought from what is true now towards what it should be.

Level-based: nothing here remembers what it did a moment ago, so it may be killed at any instruction and started again. In a loop that
replays, requests wait at the next tick until everything before it is decided, runs that it caused included.
"""

from __future__ import annotations

import logging

import msgspec

from goldenloop.control.loops import establish, mark_strangers, show
from goldenloop.control.memory import LoopMemory, RolloutMemory
from goldenloop.control.progress import MEMORY, ROLLOUT, RolloutProgress, next_check
from goldenloop.control.publication import BEFORE_ALL_TIME, service_of, table_of
from goldenloop.control.runs import RunReconciler, under_way
from goldenloop.control.services.reconciler import ServiceReconciler, Standing
from goldenloop.control.ticks import Ticks
from goldenloop.control.view import LOOP, LoopView
from goldenloop.control.world import Storyteller, World
from goldenloop.core.clock import SECOND, Clock
from goldenloop.core.errors import GoldenloopError, UnavailableError
from goldenloop.core.phases import RolloutPhase
from goldenloop.core.routing import RoutingTable, Service
from goldenloop.monitors.analyst import Summary
from goldenloop.monitors.windows import grid_for
from goldenloop.registry import versions
from goldenloop.registry.versions import ModelVersion
from goldenloop.store import memories, resources
from goldenloop.store.database import Transaction

SETTLED_AFTER_US = 5 * SECOND  # without replay a request is logged at the latest so long after it arrived
TICKS_AT_A_LOOK = 200  # of one loop, so that no loop starves another

_log = logging.getLogger(__name__)
_NOTHING = Summary(rows=0, first_us=None, watermark_us=None, labelled=0, waiting_labels=0)


class Ring:
    """Reconciles all loops of an installation, and the services that people wrote. One thread calls `advance`."""

    def __init__(
        self,
        world: World,
        table: RoutingTable,
        *,
        hand_written: ServiceReconciler | None = None,
        unwatched: Clock | None = None,
    ) -> None:
        """`unwatched`: nobody looks on while it turns, so what seldom changes and what is shown wait for a second of this clock."""
        self._world = world
        self._unwatched = unwatched
        self._hand_written = hand_written
        self._table = table
        self._errors: dict[str, str] = {}
        self._looked: dict[str, tuple[object, int]] = {}
        self._held: dict[str, tuple[int, int] | None] = {}  # by loop, as it was before the log was read

    @property
    def table(self) -> RoutingTable:
        """The table in force."""
        return self._table

    def advance(self) -> bool:
        """Look once at everything; whether something moved. Raises UnavailableError where the store does not answer."""
        moved = self._world.runs.advance()
        if self._clock_has_moved("strangers"):
            with self._world.database.write() as transaction:
                mark_strangers(transaction, self._world.clock)
        with self._world.database.read() as transaction:
            documents = resources.listing(transaction, LOOP)
        views = [LoopView.of(document) for document in documents]
        summaries = self._summaries(views)
        services: list[Service] = []
        for view in views:
            with self._world.lock:
                try:
                    changed, service = self._loop(view, summaries.get(f"{view.namespace}/{view.name}", _NOTHING))
                except UnavailableError:
                    raise
                except GoldenloopError as error:
                    changed, service = False, self._last_known(view)
                    self._say_once(view, str(error))
            moved = moved or changed
            if service is not None:
                services.append(service)
        standing = Standing() if self._hand_written is None else self._hand_written.advance(self._table)
        moved = moved or standing.moved
        services += standing.services
        following = table_of(services, standing.graphs, unloaded=standing.unloaded, after=self._table)
        if following is not None:
            self._world.router.publish(following)
            self._table = following
            moved = True
        return moved

    def _summaries(self, views: list[LoopView]) -> dict[str, Summary]:
        if not views:
            return {}
        for view in views:
            self._world.analyst.expect(view.namespace, view.name, replay=view.spec.replay)
        # Asked once a look, and before the log is read: a request that waits shows that all before it have come, but a log that was
        # read sooner does not hold all of those.
        self._held = {view.uid: self._world.router.held(view.namespace, view.name) for view in views}
        if any(held is not None for held in self._held.values()) and not self._world.router.settle():
            self._held = {}  # a worker may still have what is not in the log: nothing is decided on it yet
        return self._world.analyst.sync()

    def _loop(self, view: LoopView, summary: Summary) -> tuple[bool, Service | None]:
        world = self._world
        if self._is_due("establish", view, view.generation):
            with world.database.write() as transaction:
                establish(transaction, view, world.clock)
        moved = RunReconciler(world, view).advance()
        with world.database.read() as transaction:
            memory = memories.recall(transaction, view.namespace, view.name, MEMORY, LoopMemory)
            champion = versions.golden(transaction, view.namespace, view.name)
            busy = under_way(transaction, view)
        hold: int | None = None
        if memory is not None and champion is not None:
            ticked, memory = self._tick(view, memory, summary, busy)
            moved = moved or ticked
            hold = self._hold(view, memory, summary)
        with world.database.write() as transaction:
            self._drop_what_cannot_load(transaction, view)
            is_due = self._is_due("show", view, view.generation)
            if is_due or (moved and self._unwatched is None):
                show(transaction, view, world.clock, world.router.failures())
            memory = memories.recall(transaction, view.namespace, view.name, MEMORY, LoopMemory)
            champion = versions.golden(transaction, view.namespace, view.name)
            rollout = memories.recall(transaction, view.namespace, view.name, ROLLOUT, RolloutMemory)
            earlier = versions.previous_golden(transaction, view.namespace, view.name)
            challenger: ModelVersion | None = None
            if rollout is not None:
                challenger = versions.get(transaction, view.namespace, view.name, int(rollout.state.challenger))
            if world.attestor is not None and champion is not None:
                world.attestor.must_fit(transaction, world.artifacts, champion)
                if earlier is not None and world.attestor.refusal(transaction, world.artifacts, earlier):
                    earlier = None  # it is not what was signed, so nobody goes back to it
        if memory is None or champion is None:
            return moved, None
        service = service_of(view, champion, challenger, rollout, earlier, artifacts=world.artifacts, hold_from_us=hold)
        return moved, service

    def _tick(self, view: LoopView, memory: LoopMemory, summary: Summary, busy: str) -> tuple[bool, LoopMemory]:
        """Decide what is due. While a run is under way a replay stands still; a live loop goes on."""
        if view.spec.replay and busy:
            return False, memory
        watermark = self._watermark(view, summary)
        if watermark is None:
            return False, memory
        if memory.grid is None:
            return True, self._begin_grid(view, memory, summary, watermark)
        moved = False
        for _ in range(TICKS_AT_A_LOOK):
            with self._world.database.read() as transaction:
                rollout = memories.recall(transaction, view.namespace, view.name, ROLLOUT, RolloutMemory)
                golden = versions.golden(transaction, view.namespace, view.name)
                waiting = under_way(transaction, view)
            if golden is None or (view.spec.replay and waiting):
                break
            ticks = Ticks(self._world, view, memory)
            due = ticks.next_tick(summary, rollout)
            if due is None or due > watermark:
                break
            reference = self._world.artifacts.local(golden.folder) / "reference.json"
            ticks.decide(due, summary, golden, str(reference))
            moved = True
            with self._world.database.read() as transaction:
                following = memories.recall(transaction, view.namespace, view.name, MEMORY, LoopMemory)
            assert following is not None
            memory = following
        return moved, memory

    def _watermark(self, view: LoopView, summary: Summary) -> int | None:
        """The moment up to which everything is there: what waits at a replay's hold shows it, else the clock."""
        if view.spec.replay:
            held = self._held.get(view.uid)
            seen = [summary.watermark_us, None if held is None else held[1]]
            return max((moment for moment in seen if moment is not None), default=None)
        return None if summary.rows == 0 else self._world.clock.now_us() - SETTLED_AFTER_US

    def _begin_grid(self, view: LoopView, memory: LoopMemory, summary: Summary, watermark: int) -> LoopMemory:
        """Windows begin with the first request."""
        held = self._held.get(view.uid)
        first = summary.first_us if summary.first_us is not None else held[0] if held is not None else watermark
        grid = grid_for(memory.size, first)
        memory = msgspec.structs.replace(memory, grid=grid, tick_us=first)
        with self._world.database.write() as transaction:
            memories.remember(transaction, view.namespace, view.name, MEMORY, memory)
            rollout = memories.recall(transaction, view.namespace, view.name, ROLLOUT, RolloutMemory)
            if rollout is not None:
                state = msgspec.structs.replace(rollout.state, started_us=first, counted_until_us=first)
                rollout = msgspec.structs.replace(rollout, state=state, next_check=next_check(grid, first, 0))
                memories.remember(transaction, view.namespace, view.name, ROLLOUT, rollout)
            story = Storyteller(transaction, view.namespace, view.name, first, self._world.clock.now_us())
            story.tell("Served", f"requests arrive; windows of {memory.size.text} ({memory.size.why})")
        return memory

    def _hold(self, view: LoopView, memory: LoopMemory, summary: Summary) -> int | None:
        """From which event time on requests of a replay wait."""
        if not view.spec.replay:
            return None
        if memory.grid is None:
            return BEFORE_ALL_TIME
        with self._world.database.read() as transaction:
            rollout = memories.recall(transaction, view.namespace, view.name, ROLLOUT, RolloutMemory)
            busy = under_way(transaction, view)
        if busy:
            return memory.tick_us
        held = self._held.get(view.uid)
        return Ticks(self._world, view, memory).hold_from(summary, rollout, None if held is None else held[1])

    def _drop_what_cannot_load(self, transaction: Transaction, view: LoopView) -> None:
        """A challenger that no worker can load has failed; the champion stays."""
        rollout = memories.recall(transaction, view.namespace, view.name, ROLLOUT, RolloutMemory)
        memory = memories.recall(transaction, view.namespace, view.name, MEMORY, LoopMemory)
        if rollout is None or memory is None:
            return
        why = self._world.router.failures().get(f"{view.namespace}/{view.name}/{rollout.state.challenger}")
        attestor = self._world.attestor
        if why is None and attestor is not None:
            challenger = versions.get(transaction, view.namespace, view.name, int(rollout.state.challenger))
            why = attestor.refusal(transaction, self._world.artifacts, challenger)
        if why is None:
            return
        at = memory.tick_us if memory.tick_us is not None else rollout.state.started_us
        story = Storyteller(transaction, view.namespace, view.name, at, self._world.clock.now_us())
        progress = RolloutProgress(self._world, view, story)
        memory = progress.end(memory, rollout, RolloutPhase.ROLLED_BACK, f"it cannot be loaded: {why}")
        memories.remember(transaction, view.namespace, view.name, MEMORY, memory)

    def _is_due(self, what: str, view: LoopView, state: object) -> bool:
        """Whether to look again at what seldom changes: at once when its state is another one, else once a second."""
        return self._due(f"{what} {view.uid}", state)

    def _clock_has_moved(self, what: str) -> bool:
        """Whether a second has passed since this was looked at."""
        return self._due(what, None)

    def _due(self, key: str, state: object) -> bool:
        now_us = (self._unwatched or self._world.clock).now_us()
        looked = self._looked.get(key)
        if looked is not None and looked[0] == state and 0 <= now_us - looked[1] < SECOND:
            return False
        self._looked[key] = (state, now_us)
        return True

    def _last_known(self, view: LoopView) -> Service | None:
        """What the loop served before something went wrong: the champion stays."""
        for service in self._table.services:
            if (service.namespace, service.name) == (view.namespace, view.name):
                return service
        return None

    def _say_once(self, view: LoopView, text: str) -> None:
        if self._errors.get(view.uid) == text:
            return
        self._errors[view.uid] = text
        _log.error("loop %s/%s: %s", view.namespace, view.name, text)
        now_us = self._world.clock.now_us()
        with self._world.database.write() as transaction:
            Storyteller(transaction, view.namespace, view.name, now_us, now_us).tell("Error", text)
