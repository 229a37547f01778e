"""What is counted of a rollout, and what each kind of guard needs before it rolls back."""

from __future__ import annotations

import dataclasses
import math

import msgspec
import numpy as np
import pytest

from goldenloop.control.counting import counted, first_state, margin_left, with_chosen_slices
from goldenloop.control.memory import LoopMemory
from goldenloop.core.clock import DAY, WEEK
from goldenloop.monitors.comparing import ComparedFacts
from goldenloop.monitors.windows import choose_size
from goldenloop.rollouts import evidence
from goldenloop.rollouts.decide import Ask, GiveUp, Promote, RollBack, Terms, Wait, decide, time_to_decision_us
from goldenloop.rollouts.evidence import AnalysisState, MetricState, RolloutState
from goldenloop.standards.loop import Data, Labels, LoopSpec
from goldenloop.standards.rollout import Guardrails, RolloutPolicy

TERMS = Terms(shares=(), alpha=0.02, harm_alpha=0.025, max_duration_us=7 * DAY)


def begun(*, missing: str = "auto", feedback: bool = False, margin: float = 0.0, **policy: object) -> RolloutState:
    spec = LoopSpec(
        data=Data(),
        labels=Labels(feedback=feedback, missing=missing),  # type: ignore[arg-type]
        rollout=RolloutPolicy(**policy),  # type: ignore[arg-type]
    )
    return first_state(spec, champion="1", challenger="2", started_us=0, margin=margin)


def paired(state: RolloutState, differences: list[float], *, bounded: list[float] | None = None) -> RolloutState:
    values = np.array(differences)
    worst = values if bounded is None else np.array(bounded)
    return evidence.with_differences(state, values, bounded=worst, directions=np.array([], dtype=np.int64))


def test_missing_labels_count_by_the_rule_that_the_loop_declares() -> None:
    won, lost = [1.0] * 30, [-1.0] * 30
    for rule, promotes in (("ignore", True), ("auto", True), ("againstChallenger", False)):
        state = paired(begun(missing=rule), won, bounded=[*won, *lost])
        assert (state.promoting.log_evidence >= TERMS.threshold) is promotes
        assert state.harm.log_evidence < 0.0  # a label that did not come is no harm


def test_labels_that_are_missing_one_way_count_against_the_challenger_from_then_on() -> None:
    won, lost = [1.0] * 200, [-1.0] * 200
    state = begun(missing="auto")
    directions = np.array([2, 1] * 200)  # where the versions differ one way the label came, the other way it did not
    state = evidence.with_differences(state, np.array(won), bounded=np.array(won + lost), directions=directions)
    assert state.is_selective
    assert state.benefit.log_evidence > TERMS.threshold > state.promoting.log_evidence
    assert isinstance(decide(state, TERMS, now_us=1), Wait)


def test_labels_that_are_missing_both_ways_alike_are_left_out() -> None:
    generator = np.random.default_rng(1)
    directions = 2 * generator.integers(0, 2, 4_000) + (generator.random(4_000) < 0.3)
    state = evidence.with_differences(
        begun(), np.array([1.0] * 40), bounded=np.array([1.0] * 40), directions=directions
    )
    assert not state.is_selective


def test_a_challenger_that_gives_nothing_is_rolled_back_before_any_label_is_there() -> None:
    state = evidence.with_failures(begun(), rows=25, challenger_alone=25, champion_alone=0)
    found = decide(state, TERMS, now_us=1)
    assert isinstance(found, RollBack)
    assert "fails oftener" in found.reason
    same = evidence.with_failures(begun(), rows=5_000, challenger_alone=40, champion_alone=40)
    assert isinstance(decide(same, TERMS, now_us=1), Wait)


def test_failures_within_the_tolerance_are_seldom_harm() -> None:
    generator = np.random.default_rng(2)
    fired = 0
    for _ in range(100):
        state = begun(guardrails=Guardrails(errors=0.01))
        for _ in range(20):
            state = evidence.with_failures(
                state, rows=100, challenger_alone=int(generator.binomial(100, 0.01)), champion_alone=0
            )
            if state.guards[0].has_fired:
                fired += 1
                break
    assert fired <= 100 * 0.00625 + 3 * math.sqrt(100 * 0.00625)


@pytest.mark.parametrize(("factor", "fires"), [(1.0, False), (1.3, False), (3.0, True)])
def test_a_slower_challenger_is_rolled_back_and_an_equal_one_is_not(factor: float, fires: bool) -> None:
    """Durations that depend on each other and on the hour: the quantiles are compared on the same requests."""
    generator = np.random.default_rng(3)
    state = begun()
    for look in range(12):
        level = 20_000 * (1 + look % 4)
        champion = level * generator.lognormal(0.0, 0.5, 200)
        challenger = factor * level * generator.lognormal(0.0, 0.5, 200)
        state = evidence.with_times(state, champion, challenger, ratio=1.5)
    found = decide(state, TERMS, now_us=1)
    assert isinstance(found, RollBack) is fires
    if fires:
        assert "slower (latency p" in found.reason


def test_a_challenger_that_is_slower_by_less_than_a_millisecond_is_not_harm() -> None:
    state = begun()
    for _ in range(10):
        state = evidence.with_times(state, np.full(100, 50.0), np.full(100, 900.0), ratio=1.5)
    assert isinstance(decide(state, TERMS, now_us=1), Wait)


def test_a_slice_in_which_the_challenger_loses_more_holds_and_then_rolls_back() -> None:
    spec = LoopSpec(data=Data(protected=("sex",)))
    state = paired(begun(), [1.0] * 60)
    facts = ComparedFacts(values={"sex": {"female": 30, "male": 40}, "city": {str(each): 1 for each in range(50)}})
    state = with_chosen_slices(msgspec.structs.replace(state, labelled=60), spec, facts)
    slices = [guard.name for guard in state.guards if guard.kind == "slice"]
    assert slices == ["sex=male", "sex=female"]  # by size; a column of fifty values names no groups
    assert isinstance(decide(state, TERMS, now_us=1), Promote)
    bad = np.array([-1.0] * 5)
    while not state.guards[-1].holds:
        state = evidence.with_slices(state, {"sex=female": bad})
    held = decide(state, TERMS, now_us=1)
    assert isinstance(held, Wait)
    assert "held by sex=female" in held.reason
    state = evidence.with_slices(state, {"sex=female": np.array([-1.0] * 20)})
    rolled_back = decide(state, TERMS, now_us=1)
    assert isinstance(rolled_back, RollBack)
    assert "where sex=female" in rolled_back.reason


def test_a_slice_with_three_rows_decides_nothing() -> None:
    spec = LoopSpec(data=Data(protected=("sex",)))
    state = paired(begun(), [1.0] * 60)
    facts = ComparedFacts(values={"sex": {"female": 57, "male": 3}})
    state = with_chosen_slices(msgspec.structs.replace(state, labelled=60), spec, facts)
    state = evidence.with_slices(state, {"sex=male": np.array([-1.0, -1.0, -1.0])})
    assert isinstance(decide(state, TERMS, now_us=1), Promote)


def test_a_metric_that_is_constant_never_decides_and_the_champion_stays() -> None:
    state = paired(begun(), [0.0] * 5_000)
    assert isinstance(decide(state, TERMS, now_us=7 * DAY - 1), Wait)
    assert isinstance(decide(state, TERMS, now_us=7 * DAY), GiveUp)


def test_what_happens_when_time_is_up() -> None:
    undecided = [1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0] * 150
    keep = paired(begun(), undecided)
    assert isinstance(decide(keep, TERMS, now_us=8 * DAY), GiveUp)
    ask = dataclasses.replace(TERMS, on_inconclusive="ask")
    asked = decide(keep, ask, now_us=8 * DAY)
    assert isinstance(asked, Ask)
    assert isinstance(decide(paired(keep, [1.0] * 100), ask, now_us=9 * DAY), Promote)  # evidence may still decide
    by_margin = dataclasses.replace(TERMS, on_inconclusive="nonInferior")
    enough = paired(begun(on_inconclusive="nonInferior", margin=0.1), undecided)
    assert isinstance(decide(enough, by_margin, now_us=7 * DAY - 1), Wait)
    taken = decide(enough, by_margin, now_us=7 * DAY)
    assert isinstance(taken, Promote)
    assert "not worse by more than the margin" in taken.reason
    few = paired(begun(on_inconclusive="nonInferior", margin=0.1), [1.0, -1.0] * 5)
    assert isinstance(decide(few, by_margin, now_us=7 * DAY), GiveUp)


def test_an_automatic_duration_goes_on_only_while_a_decision_is_in_sight() -> None:
    terms = dataclasses.replace(TERMS, patience_us=8 * WEEK)
    promising = msgspec.structs.replace(paired(begun(), [1.0, 0.0, 0.0, 0.0] * 2), labelled=8, counted_until_us=7 * DAY)
    assert time_to_decision_us(promising, terms) is not None
    assert isinstance(decide(promising, terms, now_us=8 * DAY), Wait)
    assert isinstance(decide(promising, terms, now_us=8 * WEEK), GiveUp)
    early = msgspec.structs.replace(paired(begun(), [1.0, -1.0] * 4), labelled=8, counted_until_us=7 * DAY)
    assert isinstance(decide(early, terms, now_us=8 * DAY), Wait)  # too few to say that there is nothing
    hopeless = msgspec.structs.replace(paired(begun(), [1.0, -1.0] * 300), labelled=600, counted_until_us=7 * DAY)
    assert isinstance(decide(hopeless, terms, now_us=8 * DAY), GiveUp)
    unlabelled = msgspec.structs.replace(begun(), counted_until_us=7 * DAY)
    assert isinstance(decide(unlabelled, terms, now_us=8 * DAY), GiveUp)


@pytest.mark.parametrize(
    ("analysis", "decision"),
    [
        (AnalysisState(name="checks", phase="Successful"), Promote),
        (AnalysisState(name="checks"), Wait),  # nothing was measured yet
        (AnalysisState(name="checks", phase="Inconclusive"), Wait),
        (AnalysisState(name="checks", phase="Failed"), RollBack),
        (AnalysisState(name="checks", phase="Error"), GiveUp),
        (AnalysisState(name="checks", is_endless=True), Wait),
        (
            AnalysisState(name="checks", is_endless=True, metrics=(MetricState(name="m", next_us=0, successful=1),)),
            Promote,
        ),
    ],
    ids=["successful", "running", "inconclusive", "failed", "error", "endless-unmeasured", "endless-measured"],
)
def test_an_analysis_of_a_persons_own_has_its_say(analysis: AnalysisState, decision: type) -> None:
    state = msgspec.structs.replace(paired(begun(), [1.0] * 60), analyses=(analysis,))
    assert isinstance(decide(state, TERMS, now_us=1), decision)


def test_small_losses_cannot_add_up_beyond_the_margin() -> None:
    spec = LoopSpec(data=Data(), rollout=RolloutPolicy(margin=0.02))
    memory = LoopMemory(
        uid="u",
        task="classification",
        metric="accuracy",
        label="y",
        timestamp="",
        data_schema={},
        choices={},
        size=choose_size("1h", None),
    )
    used = 0.0
    for _ in range(60):
        given = margin_left(spec, msgspec.structs.replace(memory, margin_used=used))
        assert 0.0 <= given <= (0.02 - used) / 2 + 1e-15
        used += given
    assert used <= 0.02


def test_requests_that_are_dealt_out_are_compared_at_the_same_moment() -> None:
    """The level of the loss goes up and down under both; only the difference counts."""
    generator = np.random.default_rng(4)
    state = begun(feedback=True)
    assert state.step == 1
    assert state.is_split
    for look in range(40):
        rate = 0.1 if look % 2 else 0.5
        turns = generator.random(200) < 0.5
        losses = (generator.random(200) < np.where(turns, rate - 0.08, rate)).astype(float)
        facts = ComparedFacts(
            labelled=200,
            losses=tuple(losses.tolist()),
            turns=tuple(turns.tolist()),
            bounded_losses=tuple(losses.tolist()),
            bounded_turns=tuple(turns.tolist()),
            unlabelled=(False,) * 200,
        )
        state = counted(state, facts, until_us=look, at_us=look)
    assert state.difference == pytest.approx(0.08, abs=0.02)
    assert isinstance(decide(state, TERMS, now_us=1), Promote)


def test_the_evidence_line_keeps_its_ends_and_a_bound() -> None:
    state = begun()
    for look in range(1_100):
        state = counted(state, ComparedFacts(differences=(0.0,), bounded=(0.0,), labelled=1), until_us=look, at_us=look)
    assert len(state.history) <= 500
    assert state.history[0]["labelled"] == 1
    assert state.history[-1]["labelled"] == 1_100
    assert msgspec.json.decode(msgspec.json.encode(state), type=RolloutState) == state
