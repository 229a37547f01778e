"""A rollout on its way: begun, looked at, ended, by evidence or by hand. What changes who answers is one transaction."""

from __future__ import annotations

import msgspec
import numpy as np

from goldenloop.control.memory import LoopMemory, MonitorMemory, RolloutMemory
from goldenloop.control.view import CHECKS_PER_WINDOW, LoopView
from goldenloop.control.world import Storyteller, World
from goldenloop.core.clock import to_text
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import RolloutPhase, VersionState
from goldenloop.monitors.analyst import PairedFacts, Span, Summary
from goldenloop.monitors.reference import Reference
from goldenloop.monitors.windows import Grid
from goldenloop.registry import versions
from goldenloop.registry.versions import ModelVersion
from goldenloop.rollouts import decide as rollouts
from goldenloop.rollouts.decide import RolloutState
from goldenloop.standards import kubernetes
from goldenloop.stats.betting import MeanEvidence, expected_count
from goldenloop.stats.spending import alpha_share
from goldenloop.store import memories, resources
from goldenloop.store.database import Transaction

MEMORY = "loop"
MONITORS = "monitors"
ROLLOUT = "rollout"
HISTORY_KEPT = 500  # points of the evidence line
ROLLOUT_KIND = kubernetes.kind_named("rollouts")


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
    number = memory.rollouts + 1
    policy = view.spec.rollout
    alpha = alpha_share(number, policy.alpha)
    name = f"{view.name}-{challenger.number}"
    if resources.find(transaction, ROLLOUT_KIND, view.namespace, name) is not None:
        name = f"{name}-{view.uid[-6:]}"  # somebody else's has the name
    bet = {"low": -1.0, "high": 1.0}
    state = RolloutState(
        champion=champion.name,
        challenger=challenger.name,
        started_us=story.event_us,
        counted_until_us=story.event_us,
        step=0 if policy.shadow or not policy.canary else 1,
        benefit=MeanEvidence.against(-policy.margin, **bet),
        harm=MeanEvidence.against(policy.margin, **bet),
    )
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
    kept = RolloutMemory(name=name, state=state, next_check=check, alpha=alpha)
    memories.remember(transaction, view.namespace, view.name, ROLLOUT, kept)
    _show(transaction, view, kept, rollouts.phase_of(state), "begun")
    where = "in the shadow" if state.step == 0 else f"with {policy.canary[0]:g} % of the traffic"
    story.tell(
        "Rollout",
        f"version {challenger.name} scores every request beside version {champion.name}, {where}",
        rollout=name,
        champion=champion.number,
        challenger=challenger.number,
        alpha=alpha,
    )
    return msgspec.structs.replace(memory, rollouts=number)


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
        # Only requests whose label window has closed count, in request order: labels that come sooner for one outcome mislead.
        until = max(rollout.state.counted_until_us, tick_us - self._view.label_delay_us)
        span = Span(
            namespace=self._view.namespace,
            service=self._view.name,
            start_us=rollout.state.counted_until_us,
            end_us=until,
            as_of_us=tick_us,
        )
        facts = self._world.analyst.paired(
            span,
            rollout.state.champion,
            rollout.state.challenger,
            memory.task,
            monitors.loss_scale,
            self._view.spec.labels.missing,
        )
        state = counted(rollout.state, facts, until_us=until, at_us=tick_us)
        rollout = msgspec.structs.replace(
            rollout, state=state, next_check=next_check(memory.grid, tick_us, summary.rows)
        )
        return self._act(memory, rollout, rollouts.decide(state, self._view.terms(rollout.alpha), now_us=tick_us))

    def end(self, memory: LoopMemory, rollout: RolloutMemory, phase: RolloutPhase, reason: str) -> LoopMemory:
        """End a rollout: the challenger becomes golden, or not."""
        challenger = self._version(rollout.state.challenger)
        if phase is RolloutPhase.PROMOTED:
            versions.make_golden(self._transaction, challenger)
            welcome(self._transaction, self._world, challenger)
            memory = renewed(memory)
        else:
            state = VersionState.QUARANTINED if phase is RolloutPhase.ROLLED_BACK else VersionState.SUPERSEDED
            versions.move(self._transaction, challenger, state)
            memory = set_back(memory, f"version {challenger.name}: {reason}", self._story.event_us)
        memories.forget_one(self._transaction, self._view.namespace, self._view.name, ROLLOUT)
        _show(self._transaction, self._view, rollout, phase, reason)
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
            benefit=rollout.state.benefit.log_evidence,
            threshold=self._view.terms(rollout.alpha).threshold,
        )
        return memory

    def _act(self, memory: LoopMemory, rollout: RolloutMemory, decision: rollouts.Decision) -> LoopMemory:
        match decision:
            case rollouts.Promote(reason):
                return self.end(memory, rollout, RolloutPhase.PROMOTED, reason)
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
                    benefit=state.benefit.log_evidence,
                )
            case rollouts.Wait(reason):
                pass
        memories.remember(self._transaction, self._view.namespace, self._view.name, ROLLOUT, rollout)
        _show(self._transaction, self._view, rollout, rollouts.phase_of(rollout.state), decision.reason)
        return memory

    def _version(self, name: str) -> ModelVersion:
        return versions.get(self._transaction, self._view.namespace, self._view.name, int(name))


def renewed(memory: LoopMemory) -> LoopMemory:
    """The loop with another champion: causes and setbacks were the old one's."""
    return msgspec.structs.replace(memory, alarm=None, unmet=None, setbacks=0, refused_us=None, failed="")


def set_back(memory: LoopMemory, why: str, event_us: int) -> LoopMemory:
    """The loop after a run that came to nothing."""
    # A cause that came meanwhile is not acted on as it stands: after the back-off it counts if the loss is still high.
    return msgspec.structs.replace(
        memory,
        failed=why,
        refused_us=event_us,
        setbacks=memory.setbacks + 1,
        alarm=None,
        unmet=memory.alarm if memory.alarm is not None else memory.unmet,
    )


def welcome(transaction: Transaction, world: World, champion: ModelVersion) -> None:
    """The monitors now watch another version: what is usual moves, how much it scatters is remembered."""
    path = world.artifacts.local(champion.folder) / "reference.json"
    reference = msgspec.json.decode(path.read_bytes(), type=Reference)
    monitors = memories.recall(transaction, champion.namespace, champion.model, MONITORS, MonitorMemory)
    assert monitors is not None
    memories.remember(
        transaction, champion.namespace, champion.model, MONITORS, relocated(monitors, champion.name, reference)
    )


def relocated(monitors: MonitorMemory, version: str, reference: Reference) -> MonitorMemory:
    """The monitors of a new champion."""
    drift, answers = monitors.drift, monitors.answers
    if reference.features.windows:
        drift = drift.relocate(float(np.mean(reference.features.windows)))
    if reference.answers.windows:
        answers = answers.relocate(float(np.mean(reference.answers.windows)))
    return msgspec.structs.replace(
        monitors,
        drift=drift.restart(),
        answers=answers.restart(),
        loss=monitors.loss.restart(),
        recent=(),
        expected_loss={**monitors.expected_loss, version: reference.expected_loss},
    )


def counted(state: RolloutState, facts: PairedFacts, *, until_us: int, at_us: int) -> RolloutState:
    """The state after these rows."""
    differences = np.array(facts.differences, dtype=np.float64)
    benefit, harm = state.benefit.update(differences), state.harm.update(-differences)
    labelled = state.labelled + facts.labelled
    point: dict[str, float | int | str] = {
        "at": to_text(at_us),
        "labelled": labelled,
        "benefit": benefit.log_evidence,
        "harm": harm.log_evidence,
        "step": state.step,
    }
    return msgspec.structs.replace(
        state,
        benefit=benefit,
        harm=harm,
        counted_until_us=until_us,
        labelled=labelled,
        missing=state.missing + facts.missing,
        skipped=state.skipped + facts.skipped,
        history=(*state.history, point)[-HISTORY_KEPT:],
    )


def next_check(grid: Grid, now_us: int, rows: int) -> int:
    """When a rollout looks next: four times a window, on the windows' own grid."""
    if grid.size_us is not None:
        step = max(1, grid.size_us // CHECKS_PER_WINDOW)
        return grid.origin_us + ((now_us - grid.origin_us) // step + 1) * step
    assert grid.rows is not None
    step = max(1, grid.rows // CHECKS_PER_WINDOW)
    return (rows // step + 1) * step


def share_of(view: LoopView, state: RolloutState) -> float:
    """The percent of the traffic that the challenger has."""
    return view.spec.rollout.canary[state.step - 1] if state.step else 0.0


def _show(transaction: Transaction, view: LoopView, rollout: RolloutMemory, phase: RolloutPhase, reason: str) -> None:
    state = rollout.state
    terms = view.terms(rollout.alpha)
    left = expected_count(state.benefit, terms.threshold)
    ended = phase in (RolloutPhase.PROMOTED, RolloutPhase.ROLLED_BACK, RolloutPhase.INCONCLUSIVE)
    share = share_of(view, state)
    status: JsonObject = {
        "phase": phase.value,
        "champion": state.champion,
        "challenger": state.challenger,
        "share": 100.0 if phase is RolloutPhase.PROMOTED else 0.0 if ended else share,
        "labelled": state.labelled,
        "missing": state.missing,
        "evidence": {
            "benefit": state.benefit.log_evidence,
            "harm": state.harm.log_evidence,
            "threshold": terms.threshold,
            "harmThreshold": terms.harm_threshold,
        },
        "history": [
            {**point, "phase": "Canary" if point["step"] else "Shadow", "share": _share_at(view, point["step"])}
            for point in state.history
        ],
        "reason": reason,
        "labelsUntilDecision": None if ended or left is None else round(left),
    }
    resources.set_status(transaction, ROLLOUT_KIND, view.namespace, rollout.name, status)


def _share_at(view: LoopView, step: object) -> float:
    return view.spec.rollout.canary[step - 1] if isinstance(step, int) and step else 0.0
