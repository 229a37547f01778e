"""What a rollout shows: its evidence on the way to its thresholds, when a decision may be expected, and what each would do."""

from __future__ import annotations

from goldenloop.control.memory import RolloutMemory
from goldenloop.control.view import LoopView
from goldenloop.core.clock import SECOND, to_text
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import RolloutPhase
from goldenloop.rollouts import decide as rollouts
from goldenloop.rollouts.decide import Terms
from goldenloop.rollouts.evidence import RolloutState
from goldenloop.standards import kubernetes
from goldenloop.store import resources
from goldenloop.store.database import Transaction

ROLLOUT_KIND = kubernetes.kind_named("rollouts")
_ENDS = (RolloutPhase.PROMOTED, RolloutPhase.ROLLED_BACK, RolloutPhase.INCONCLUSIVE)


def show_rollout(
    transaction: Transaction, view: LoopView, rollout: RolloutMemory, phase: RolloutPhase, reason: str, *, now_us: int
) -> None:
    """Write the status of a rollout. `now_us` is the loop's own time."""
    state, terms = rollout.state, view.terms(rollout.alpha)
    has_ended = phase in _ENDS
    left = None if has_ended else rollouts.labels_to_decision(state, terms)
    left_us = None if has_ended else rollouts.time_to_decision_us(state, terms)
    latest_us = state.started_us + (terms.patience_us or terms.max_duration_us)
    share = share_of(view, state)
    status: JsonObject = {
        "phase": phase.value,
        "champion": state.champion,
        "challenger": state.challenger,
        "share": 100.0 if phase is RolloutPhase.PROMOTED else 0.0 if has_ended else share,
        "baselineShare": 0.0 if has_ended else baseline_of(view, state),
        "comparison": "split" if state.is_split else "paired",
        "labelled": state.labelled,
        "missing": state.missing,
        "missingIgnored": state.skipped,
        "missingSelective": state.is_selective,
        "difference": state.difference,
        "evidence": {
            "benefit": state.promoting.log_evidence,
            "harm": state.harm.log_evidence,
            "threshold": terms.threshold,
            "harmThreshold": terms.harm_threshold,
        },
        "guards": [
            {
                "name": guard.name,
                "kind": guard.kind,
                "harm": guard.harm.log_evidence,
                "threshold": guard.threshold,
                "rows": guard.harm.count,
                "worseBy": guard.harm.mean,
                "tolerated": guard.harm.bound,
                "verdict": "harm" if guard.has_fired else "held" if guard.holds else "pass",
            }
            for guard in state.guards
        ],
        "analyses": [
            {
                "name": each.name,
                "phase": each.phase,
                "message": each.message,
                "metrics": {metric.name: metric.message for metric in each.metrics},
            }
            for each in state.analyses
        ],
        "history": [
            {
                **point,
                "phase": "Canary" if point["step"] else "Shadow",
                "share": _share_at(view, point["step"]),
            }
            for point in state.history
        ],
        "reason": reason,
        "waitsFor": "person" if state.asks and not has_ended else None,
        "alpha": rollout.alpha,
        "margin": rollout.margin,
        "startedAt": to_text(state.started_us),
        "latestEnd": None if has_ended or state.asks else to_text(latest_us),
        "labelsUntilDecision": None if left is None else round(left),
        "secondsUntilDecision": None if left_us is None else left_us // SECOND,
        "outcomes": {} if has_ended else _outcomes(view, state, terms, rollout),
        "at": to_text(now_us),
    }
    resources.set_status(transaction, ROLLOUT_KIND, view.namespace, rollout.name, status)


def share_of(view: LoopView, state: RolloutState) -> float:
    """The percent of the traffic that the challenger has."""
    return view.spec.rollout.steps[state.step - 1] if state.step else 0.0


def baseline_of(view: LoopView, state: RolloutState) -> float:
    """The percent of the traffic that the champion has as the baseline: as much as the challenger, where they are compared by it."""
    return min(share_of(view, state), 50.0) if state.is_split else 0.0


def _outcomes(view: LoopView, state: RolloutState, terms: Terms, rollout: RolloutMemory) -> JsonObject:
    """What each end would do, in words."""
    champion, challenger = f"version {state.champion}", f"version {state.challenger}"
    share = share_of(view, state)
    steps = len(terms.shares)
    found: JsonObject = {
        "promote": f"at evidence e^{terms.threshold:.1f} {challenger} becomes golden and answers every request",
        "rollBack": f"at evidence of harm e^{terms.harm_threshold:.1f}, or of any guard, {champion} answers every request within a "
        f"second and {challenger} is quarantined",
        "inconclusive": _inconclusive(terms, champion, challenger, rollout.margin),
    }
    if steps and state.step < steps - 1:
        need = terms.threshold * (state.step + 1) / steps
        found["advance"] = f"at evidence e^{need:.1f} its share goes from {share:g} to {terms.shares[state.step]:g} %"
    return found


def _inconclusive(terms: Terms, champion: str, challenger: str, margin: float) -> str:
    if terms.on_inconclusive == "ask":
        return (
            f"when time is up a person decides: goldenloop promote, or goldenloop rollback; until then {champion} stays"
        )
    if terms.on_inconclusive == "nonInferior":
        return f"when time is up {challenger} is taken if it is proved to lose at most {margin:g} more, else {champion} stays"
    return f"when time is up {champion} stays and {challenger} is not taken"


def _share_at(view: LoopView, step: object) -> float:
    steps = view.spec.rollout.steps
    return steps[step - 1] if isinstance(step, int) and 0 < step <= len(steps) else 0.0
