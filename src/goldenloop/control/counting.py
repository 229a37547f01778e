"""From what the payload log shows of two versions to the evidence of their rollout."""

from __future__ import annotations

import msgspec
import numpy as np

from goldenloop.control.memory import LoopMemory, RolloutMemory
from goldenloop.control.view import SLICES_PART, UNLABELLED_PART, LoopView
from goldenloop.control.world import World
from goldenloop.core.clock import to_text
from goldenloop.monitors.analyst import Span
from goldenloop.monitors.comparing import BesideFacts, ComparedFacts, Comparison
from goldenloop.rollouts import evidence
from goldenloop.rollouts.evidence import RolloutState, bet_against
from goldenloop.standards.loop import LoopSpec

HISTORY_KEPT = 500  # points of the evidence line
FEWEST_FOR_SLICES = 20  # labelled rows by whose values the slices are chosen
MARGIN_PART = 0.5  # of the margin that is left, what one rollout may use


def first_state(spec: LoopSpec, *, champion: str, challenger: str, started_us: int, margin: float) -> RolloutState:
    """A rollout of which nothing is known yet."""
    policy, is_split = spec.rollout, spec.labels.feedback
    by_margin_at_the_end = policy.on_inconclusive == "nonInferior"
    tolerated = 0.0 if by_margin_at_the_end else margin
    benefit = bet_against(-tolerated, is_split=is_split)
    rule = spec.labels.missing
    undirected = bet_against(0.0, is_split=is_split)
    return RolloutState(
        champion=champion,
        challenger=challenger,
        started_us=started_us,
        counted_until_us=started_us,
        watched_until_us=started_us,
        # Without a shadow, and where predictions change what happens, it begins with its first share.
        step=1 if policy.steps and (is_split or not policy.shadow) else 0,
        benefit=benefit,
        harm=bet_against(tolerated, is_split=is_split),
        is_split=is_split,
        missing_rule=rule,
        bounded=None if rule == "ignore" else benefit,
        selective=(undirected, undirected) if rule == "auto" else (),
        superior=undirected if tolerated else None,
        non_inferior=bet_against(-margin, is_split=is_split) if by_margin_at_the_end and margin else None,
        guards=evidence.guards_of(
            alpha=policy.alpha * UNLABELLED_PART, errors=policy.guardrails.errors, latency=policy.guardrails.latency
        ),
    )


def margin_left(spec: LoopSpec, memory: LoopMemory) -> float:
    """What the next rollout may lose: part of what is left of the loop's margin, so that small losses cannot add up beyond it."""
    return max(0.0, spec.rollout.margin - memory.margin_used) * MARGIN_PART


def look(
    world: World, view: LoopView, memory: LoopMemory, rollout: RolloutMemory, tick_us: int, scale: float
) -> RolloutState:
    """Count everything that may be counted at this tick."""
    state = rollout.state
    # Only requests whose label window has closed count, in request order: labels that come sooner for one outcome mislead.
    until_us = max(state.counted_until_us, tick_us - view.label_delay_us)
    span = Span(
        namespace=view.namespace,
        service=view.name,
        start_us=state.counted_until_us,
        end_us=until_us,
        as_of_us=tick_us,
    )
    asked = Comparison(
        champion=state.champion,
        challenger=state.challenger,
        task=memory.task,
        scale=scale,
        split=state.is_split,
        since_us=state.started_us,
        columns=() if state.slices_chosen else rollout.slice_columns,
        slices=tuple(_slice_of(guard.name) for guard in state.guards if guard.kind == "slice"),
    )
    compared = world.analyst.compare(span, asked)
    watched = msgspec.structs.replace(span, start_us=max(state.watched_until_us, state.started_us), end_us=tick_us)
    beside = world.analyst.beside(watched, state.champion, state.challenger)
    state = counted(state, compared, until_us=until_us, at_us=tick_us)
    state = watched_over(state, beside, until_us=tick_us, ratio=view.spec.rollout.guardrails.latency)
    return with_chosen_slices(state, view.spec, compared)


def counted(state: RolloutState, facts: ComparedFacts, *, until_us: int, at_us: int) -> RolloutState:
    """The state after these rows, and one more point of the evidence line."""
    if state.is_split:
        state = evidence.with_turns(
            state,
            np.array(facts.losses, dtype=np.float64),
            np.array(facts.turns, dtype=np.bool_),
            bounded_losses=np.array(facts.bounded_losses, dtype=np.float64),
            bounded_turns=np.array(facts.bounded_turns, dtype=np.bool_),
            missing=np.array(facts.unlabelled, dtype=np.bool_),
        )
    else:
        state = evidence.with_differences(
            state,
            np.array(facts.differences, dtype=np.float64),
            bounded=np.array(facts.bounded, dtype=np.float64),
            directions=np.array(facts.directions, dtype=np.int64),
        )
    state = evidence.with_slices(state, {name: np.array(values) for name, values in facts.slices.items()})
    ignored = state.missing_rule == "ignore" or (state.missing_rule == "auto" and not state.is_selective)
    state = msgspec.structs.replace(
        state,
        counted_until_us=until_us,
        labelled=state.labelled + facts.labelled,
        missing=state.missing + facts.missing,
        skipped=state.skipped + (facts.missing if ignored else 0),
    )
    point: dict[str, float | int | str] = {
        "at": to_text(at_us),
        "labelled": state.labelled,
        "benefit": state.promoting.log_evidence,
        "harm": state.harm.log_evidence,
        "step": state.step,
    }
    return msgspec.structs.replace(state, history=_thinned((*state.history, point)))


def watched_over(state: RolloutState, facts: BesideFacts, *, until_us: int, ratio: float) -> RolloutState:
    """The state after what shows without labels."""
    state = evidence.with_failures(
        state,
        rows=facts.rows,
        challenger_alone=facts.challenger_alone_failed,
        champion_alone=facts.champion_alone_failed,
    )
    champion_us = np.array(facts.champion_us, dtype=np.float64)
    challenger_us = np.array(facts.challenger_us, dtype=np.float64)
    state = evidence.with_times(state, champion_us, challenger_us, ratio=ratio)
    return msgspec.structs.replace(state, watched_until_us=until_us)


def with_chosen_slices(state: RolloutState, spec: LoopSpec, facts: ComparedFacts) -> RolloutState:
    """Choose the slices, once, by which values the first labelled rows have; how the versions did on them has no say in it."""
    if state.slices_chosen:
        return state
    rails = spec.rollout.guardrails
    seen = {column: dict(values) for column, values in state.values_seen.items()}
    for column, values in facts.values.items():
        counts = seen.setdefault(column, {})
        for value, rows in values.items():
            if value in counts or len(counts) <= rails.max_slices:  # one more than groups may have says enough
                counts[value] = counts.get(value, 0) + rows
    if state.labelled < FEWEST_FOR_SLICES:
        return msgspec.structs.replace(state, values_seen=seen)
    found = [
        (rows, f"{column}={value}")
        for column, values in seen.items()
        if len(values) <= rails.max_slices  # more are no groups
        for value, rows in values.items()
    ]
    names = [name for _, name in sorted(found, key=lambda each: (-each[0], each[1]))[: rails.max_slices]]
    if not names:
        return msgspec.structs.replace(state, slices_chosen=True, values_seen={})
    made = evidence.slice_guards(
        names, alpha=spec.rollout.alpha * SLICES_PART, margin=rails.slice_margin, is_split=state.is_split
    )
    return msgspec.structs.replace(state, slices_chosen=True, values_seen={}, guards=(*state.guards, *made))


def _slice_of(name: str) -> tuple[str, str]:
    column, _, value = name.partition("=")
    return column, value


def _thinned(
    history: tuple[dict[str, float | int | str], ...],
) -> tuple[dict[str, float | int | str], ...]:
    """The line with every second point left out where it has grown too long; the first and the last stay."""
    return history if len(history) <= HISTORY_KEPT else (*history[:-1:2], history[-1])
