"""Has what AnalysisTemplates ask for measured, and lets it have its say in the rollouts that they guard."""

from __future__ import annotations

from goldenloop.control.analysing import Analyses
from goldenloop.control.memory import LoopMemory, RolloutMemory
from goldenloop.control.progress import MEMORY, ROLLOUT, RolloutProgress
from goldenloop.control.view import LOOP, LoopView
from goldenloop.control.world import Storyteller, World
from goldenloop.core.clock import SECOND
from goldenloop.store import memories, resources

_LOOK_US = SECOND


class AnalysisKeeper:
    """Looks once a second at the rollouts that analyses guard. One thread calls `advance`."""

    def __init__(self, world: World, analyses: Analyses | None = None) -> None:
        self._world = world
        self._analyses = analyses or Analyses()
        self._looked_us: int | None = None

    def advance(self) -> bool:
        """Whether an analysis had something to say."""
        now_us = self._world.clock.now_us()
        if self._looked_us is not None and 0 <= now_us - self._looked_us < _LOOK_US:
            return False
        self._looked_us = now_us
        with self._world.database.read() as transaction:
            documents = resources.listing(transaction, LOOP)
        guarded = [view for view in map(LoopView.of, documents) if view.spec.rollout.analysis]
        heeded = [self._heed(view, now_us) for view in guarded]  # each is looked at, whatever the others said
        return any(heeded)

    def close(self) -> None:
        """Begin no measurement more."""
        self._analyses.close()

    def _heed(self, view: LoopView, now_us: int) -> bool:
        with self._world.lock, self._world.database.write() as transaction:
            rollout = memories.recall(transaction, view.namespace, view.name, ROLLOUT, RolloutMemory)
            memory = memories.recall(transaction, view.namespace, view.name, MEMORY, LoopMemory)
            if rollout is None or memory is None or not rollout.state.analyses:
                return False
            at_us = memory.tick_us if memory.tick_us is not None else rollout.state.started_us
            story = Storyteller(transaction, view.namespace, view.name, at_us, now_us)
            after = RolloutProgress(self._world, view, story).heed(memory, rollout, self._analyses)
            memories.remember(transaction, view.namespace, view.name, MEMORY, after)
            return after != memory
