"""A rollout on its way: begun, looked at, ended, by evidence or by hand. What changes who answers is one transaction."""

from __future__ import annotations

import msgspec

from goldenloop.control.analysing import Analyses, begun
from goldenloop.control.counting import first_state, look, margin_left
from goldenloop.control.memory import LoopMemory, MonitorMemory, RolloutMemory
from goldenloop.control.objectives import frozen_by
from goldenloop.control.rollout_status import ROLLOUT_KIND, show_rollout
from goldenloop.control.view import CHECKS_PER_WINDOW, LoopView
from goldenloop.control.watching import next_watch
from goldenloop.control.world import Storyteller, World
from goldenloop.core.clock import to_text
from goldenloop.core.json import Json, JsonObject
from goldenloop.core.phases import RolloutPhase, VersionState
from goldenloop.monitors.analyst import Summary
from goldenloop.monitors.reference import Reference
from goldenloop.monitors.windows import Grid
from goldenloop.registry import versions
from goldenloop.registry.versions import ModelVersion
from goldenloop.rollouts import decide as rollouts
from goldenloop.stats.betting import MeanEvidence
from goldenloop.stats.spending import ErrorBudget
from goldenloop.store import memories, resources
from goldenloop.store.database import Transaction
from goldenloop.triggers.costs import earned

MEMORY = "loop"
MONITORS = "monitors"
ROLLOUT = "rollout"


def begin(
    story: Storyteller,
    view: LoopView,
    memory: LoopMemory,
    *,
    champion: ModelVersion,
    challenger: ModelVersion,
    rows: int,
) -> LoopMemory:
    """Put a blessed version into the shadow of the champion (or into its first share, where the loop wants no shadow)."""
    transaction = story.transaction
    policy = view.spec.rollout
    budget = (memory.budget or ErrorBudget.of(policy.alpha)).rescaled(policy.alpha)
    alpha, margin = budget.next_share, margin_left(view.spec, memory)
    name = f"{view.name}-{challenger.number}"
    if resources.find(transaction, ROLLOUT_KIND, view.namespace, name) is not None:
        name = f"{name}-{view.uid[-6:]}"  # somebody else's has the name
    state = first_state(
        view.spec, champion=champion.name, challenger=challenger.name, started_us=story.event_us, margin=margin
    )
    state = msgspec.structs.replace(state, analyses=begun(view))
    document: JsonObject = {
        "metadata": {"name": name, "ownerReferences": [resources.owner_reference(view.document)]},
        "spec": {
            "service": view.name,
            "champion": champion.name,
            "challenger": challenger.name,
            "policy": msgspec.to_builtins(policy),
            "alpha": alpha,
            "started": to_text(story.event_us),
        },
    }
    resources.create(transaction, ROLLOUT_KIND, view.namespace, document, now_us=story.now_us)
    # Before the first request there is no grid yet; the first tick sets it.
    check = 0 if memory.grid is None else next_check(memory.grid, story.event_us, rows)
    kept = RolloutMemory(
        name=name,
        state=state,
        next_check=check,
        alpha=alpha,
        margin=margin,
        slice_columns=_slice_columns(transaction, view, challenger),
    )
    memories.remember(transaction, view.namespace, view.name, ROLLOUT, kept)
    show_rollout(transaction, view, kept, rollouts.phase_of(state), "begun", now_us=story.event_us)
    where = "in the shadow" if state.step == 0 else f"with {policy.steps[0]:g} % of the traffic"
    if state.is_split:
        where += f", and version {champion.name} with as much as the baseline"
    story.tell(
        "Rollout",
        f"version {challenger.name} scores every request beside version {champion.name}, {where}",
        rollout=name,
        champion=champion.number,
        challenger=challenger.number,
        alpha=alpha,
    )
    return msgspec.structs.replace(memory, rollouts=memory.rollouts + 1, budget=budget.begin())


def _slice_columns(transaction: Transaction, view: LoopView, challenger: ModelVersion) -> tuple[str, ...]:
    """The columns whose values are the groups that are guarded: as the Loop says, or protected or found by the evaluation."""
    chosen = view.spec.rollout.guardrails.slices
    if isinstance(chosen, tuple):
        return chosen
    evaluation = versions.last_evaluation(transaction, view.namespace, view.name, challenger.number)
    found = _conditions_in({} if evaluation is None else evaluation.evidence)
    return tuple(dict.fromkeys((*view.spec.data.protected, *found)))


def _conditions_in(evidence: Json) -> list[str]:
    """The columns of the slices that an evaluation found, wherever they stand in its evidence."""
    if isinstance(evidence, list):
        return [column for each in evidence for column in _conditions_in(each)]
    if not isinstance(evidence, dict):
        return []
    conditions = evidence.get("conditions")
    if isinstance(conditions, list):
        return [str(each["column"]) for each in conditions if isinstance(each, dict) and "column" in each]
    return [column for each in evidence.values() for column in _conditions_in(each)]


class RolloutProgress:
    """Looks at a rollout's evidence and does what it allows, inside the transaction of a tick."""

    def __init__(self, world: World, view: LoopView, story: Storyteller) -> None:
        self._world = world
        self._view = view
        self._transaction = story.transaction
        self._story = story

    def check(self, memory: LoopMemory, rollout: RolloutMemory, summary: Summary, tick_us: int) -> LoopMemory:
        """Count what is due by now, and decide."""
        monitors = memories.recall(self._transaction, self._view.namespace, self._view.name, MONITORS, MonitorMemory)
        assert monitors is not None
        assert memory.grid is not None
        state = look(self._world, self._view, memory, rollout, tick_us, monitors.loss_scale)
        rollout = msgspec.structs.replace(
            rollout, state=state, next_check=next_check(memory.grid, tick_us, summary.rows)
        )
        return self._act(memory, rollout, rollouts.decide(state, self._view.terms(rollout.alpha), now_us=tick_us))

    def heed(self, memory: LoopMemory, rollout: RolloutMemory, analyses: Analyses) -> LoopMemory:
        """Take in what a person's own analyses have measured, and decide if that changed something."""
        found = analyses.advance(self._transaction, self._view, rollout, now_us=self._story.now_us)
        if found == rollout.state.analyses:
            return memory
        state = msgspec.structs.replace(rollout.state, analyses=found)
        rollout = msgspec.structs.replace(rollout, state=state)
        decision = rollouts.decide(state, self._view.terms(rollout.alpha), now_us=self._story.event_us)
        return self._act(memory, rollout, decision)

    def end(
        self, memory: LoopMemory, rollout: RolloutMemory, phase: RolloutPhase, reason: str, *, is_proved: bool = False
    ) -> LoopMemory:
        """End a rollout: the challenger becomes golden, or not. `is_proved` where its own evidence promotes it."""
        challenger = self._version(rollout.state.challenger)
        budget = memory.budget or ErrorBudget.of(self._view.spec.rollout.alpha)
        evidence = rollout.state.promoting.evidence
        memory = msgspec.structs.replace(memory, budget=budget.end(rollout.alpha, evidence=evidence, found=is_proved))
        if phase is RolloutPhase.PROMOTED:
            versions.make_golden(self._transaction, challenger)
            welcome(self._transaction, self._world, challenger)
            memory = renewed(memory)
            if is_proved:
                used = 0.0 if _is_superior(rollout, self._view.terms(rollout.alpha)) else rollout.margin
                memory = msgspec.structs.replace(memory, margin_used=memory.margin_used + used)
        else:
            state = VersionState.QUARANTINED if phase is RolloutPhase.ROLLED_BACK else VersionState.SUPERSEDED
            versions.move(self._transaction, challenger, state)
            memory = set_back(memory, f"version {challenger.name}: {reason}", self._story.event_us)
        memories.forget_one(self._transaction, self._view.namespace, self._view.name, ROLLOUT)
        show_rollout(self._transaction, self._view, rollout, phase, reason, now_us=self._story.event_us)
        said = {
            RolloutPhase.PROMOTED: f"version {challenger.name} is golden",
            RolloutPhase.ROLLED_BACK: f"version {challenger.name} is rolled back",
            RolloutPhase.INCONCLUSIVE: f"version {challenger.name} is not taken",
        }[phase]
        self._story.tell(
            phase.value,
            f"{said}: {reason}",
            rollout=rollout.name,
            champion=int(rollout.state.champion),
            challenger=challenger.number,
            labelled=rollout.state.labelled,
            benefit=_deciding(rollout, phase).log_evidence,
            threshold=self._view.terms(rollout.alpha).threshold,
        )
        return memory

    def _act(self, memory: LoopMemory, rollout: RolloutMemory, decision: rollouts.Decision) -> LoopMemory:
        if isinstance(decision, rollouts.Promote | rollouts.Advance):
            story = self._story
            frozen = frozen_by(self._transaction, self._view, event_us=story.event_us, now_us=story.now_us)
            decision = rollouts.Wait(frozen) if frozen else decision
        match decision:
            case rollouts.Promote(reason):
                return self.end(memory, rollout, RolloutPhase.PROMOTED, reason, is_proved=True)
            case rollouts.RollBack(reason):
                return self.end(memory, rollout, RolloutPhase.ROLLED_BACK, reason)
            case rollouts.GiveUp(reason):
                return self.end(memory, rollout, RolloutPhase.INCONCLUSIVE, reason)
            case rollouts.Advance(step, share, reason):
                state = msgspec.structs.replace(rollout.state, step=step)
                rollout = msgspec.structs.replace(rollout, state=state)
                self._story.tell(
                    "Canary",
                    f"version {state.challenger} takes {share:g} % of the traffic: {reason}",
                    rollout=rollout.name,
                    share=share,
                    benefit=state.promoting.log_evidence,
                )
            case rollouts.Ask(reason):
                if not rollout.state.asks:
                    self._story.tell("Asking", f"version {rollout.state.challenger}: {reason}", rollout=rollout.name)
                rollout = msgspec.structs.replace(rollout, state=msgspec.structs.replace(rollout.state, asks=reason))
            case rollouts.Wait(reason):
                pass
        memories.remember(self._transaction, self._view.namespace, self._view.name, ROLLOUT, rollout)
        phase = rollouts.phase_of(rollout.state)
        show_rollout(self._transaction, self._view, rollout, phase, decision.reason, now_us=self._story.event_us)
        return memory

    def _version(self, name: str) -> ModelVersion:
        return versions.get(self._transaction, self._view.namespace, self._view.name, int(name))


def renewed(memory: LoopMemory) -> LoopMemory:
    """The loop with another champion: causes and setbacks were the old one's."""
    costs = None if memory.costs is None else earned(memory.costs, 1.0)
    return msgspec.structs.replace(memory, alarm=None, unmet=None, setbacks=0, refused_us=None, failed="", costs=costs)


def set_back(memory: LoopMemory, why: str, event_us: int) -> LoopMemory:
    """The loop after a run that came to nothing."""
    # A cause that came meanwhile is not acted on as it stands: after the back-off it counts if the loss is still high.
    return msgspec.structs.replace(
        memory,
        failed=why,
        refused_us=event_us,
        setbacks=memory.setbacks + 1,
        alarm=None,
        unmet=memory.alarm if memory.alarm is not None and memory.alarm.kind == "loss" else memory.unmet,
        costs=None if memory.costs is None else earned(memory.costs, 0.0),
    )


def welcome(transaction: Transaction, world: World, champion: ModelVersion) -> None:
    """The monitors now watch another version: what is usual moves, how much it scatters is remembered."""
    path = world.artifacts.local(champion.folder) / "reference.json"
    reference = msgspec.json.decode(path.read_bytes(), type=Reference)
    monitors = memories.recall(transaction, champion.namespace, champion.model, MONITORS, MonitorMemory)
    assert monitors is not None
    memories.remember(
        transaction, champion.namespace, champion.model, MONITORS, next_watch(monitors, champion.name, reference)
    )


def next_check(grid: Grid, now_us: int, rows: int) -> int:
    """When a rollout looks next: four times a window, on the windows' own grid."""
    if grid.size_us is not None:
        step = max(1, grid.size_us // CHECKS_PER_WINDOW)
        return grid.origin_us + ((now_us - grid.origin_us) // step + 1) * step
    assert grid.rows is not None
    step = max(1, grid.rows // CHECKS_PER_WINDOW)
    return (rows // step + 1) * step


def _is_superior(rollout: RolloutMemory, terms: rollouts.Terms) -> bool:
    """Whether a challenger that is taken was proved to lose less, so that nothing of the margin is used."""
    state = rollout.state
    better = state.superior if state.superior is not None else state.promoting
    return better.log_evidence >= terms.threshold


def _deciding(rollout: RolloutMemory, phase: RolloutPhase) -> MeanEvidence:
    """The evidence that a promotion rested on; of other ends, the one that it would have rested on."""
    state = rollout.state
    if phase is RolloutPhase.PROMOTED and state.non_inferior is not None:
        return max(state.promoting, state.non_inferior, key=lambda each: each.log_evidence)
    return state.promoting
