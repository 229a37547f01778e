"""Rollouts by the thousand, at the level of losses: the rows of a seeded stream go through the very functions that the ring calls.

What is left out is what carries rows from here to there. A row is a pair of 0/1 losses; labels may be late, missing, or missing more often
for one outcome; rows belong to slices; versions may answer different rows. At each look `mean_effect` keeps the true mean difference over
the rows that were eligible so far, so that "wrong" is exactly what promise P2 says: promoted at a moment at which that mean is not above
what is tolerated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from goldenloop.control.counting import counted, first_state, watched_over, with_chosen_slices
from goldenloop.core.clock import DAY, HOUR
from goldenloop.monitors.comparing import BesideFacts, ComparedFacts
from goldenloop.rollouts.decide import Advance, Ask, GiveUp, Promote, RollBack, Terms, decide
from goldenloop.rollouts.evidence import RolloutState
from goldenloop.standards.loop import Data, Labels, LoopSpec, RolloutPolicy

LOOK_US = 4 * HOUR


@dataclass(frozen=True, kw_only=True)
class Stream:
    """`effect(t)` is the champion's error rate less the challenger's at the t-th row; `base(t)` the champion's."""

    effect: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    base: Callable[[NDArray[np.float64]], NDArray[np.float64]] = lambda at: np.full(at.shape, 0.2)
    disagreement: float = 0.15  # of rows on which exactly one of the two is wrong, at least as many as the effect
    rows_per_look: int = 60
    looks: int = 40
    missing: float = 0.0
    missing_if_won: float | None = None  # another chance of a missing label where the challenger alone is right
    slices: int = 0
    split: bool = False
    shares: tuple[float, ...] = (5.0, 25.0, 50.0, 100.0)
    missing_rule: str = "auto"
    failing: float = 0.0  # chance that the challenger fails
    patience: int | None = None  # looks up to which it goes on while a decision is in sight
    policy: dict[str, object] = field(default_factory=dict)

    def spec(self) -> LoopSpec:
        return LoopSpec(
            data=Data(),
            labels=Labels(feedback=self.split, missing=self.missing_rule),  # type: ignore[arg-type]
            rollout=RolloutPolicy(canary=self.shares, **self.policy),  # type: ignore[arg-type]
        )


@dataclass(frozen=True)
class End:
    how: str
    rows: int  # labelled, at the end
    looks: int
    mean_effect: float  # true, over the eligible rows so far
    evidence: float


def constant(value: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    return lambda at: np.full(at.shape, value)


def roll_out(stream: Stream, generator: np.random.Generator, *, alpha: float, harm_alpha: float = 0.025) -> End:
    """One rollout, look by look, to its end."""
    spec = stream.spec()
    margin = spec.rollout.margin / 2
    state = first_state(spec, champion="1", challenger="2", started_us=0, margin=margin)
    terms = Terms(
        shares=stream.shares,
        alpha=alpha,
        harm_alpha=harm_alpha,
        max_duration_us=stream.looks * LOOK_US,
        patience_us=None if stream.patience is None else stream.patience * LOOK_US,
        on_inconclusive=spec.rollout.on_inconclusive,
    )
    now_us, seen, total = 0, 0, 0.0
    while True:
        now_us += LOOK_US
        at = np.arange(seen, seen + stream.rows_per_look, dtype=np.float64)
        seen += stream.rows_per_look
        facts, effects = _facts(stream, state, at, generator)
        total += float(effects.sum())
        failed = int(generator.binomial(at.size, stream.failing))
        state = counted(state, facts, until_us=now_us, at_us=now_us)
        state = watched_over(
            state, BesideFacts(rows=at.size, challenger_alone_failed=failed), until_us=now_us, ratio=1.5
        )
        state = with_chosen_slices(state, spec, facts)
        how = ""
        match decide(state, terms, now_us=now_us):
            case Advance(step, _, _):
                state = msgspec.structs.replace(state, step=step)
            case Promote():
                how = "promoted"
            case RollBack():
                how = "rolled back"
            case GiveUp() | Ask():
                how = "given up"
            case _:
                pass
        if how:
            return End(how, state.labelled, now_us // LOOK_US, total / seen, state.promoting.evidence)


def ends(stream: Stream, count: int, *, seed: int, alpha: float = 0.05) -> list[End]:
    generator = np.random.default_rng(seed)
    return [roll_out(stream, generator, alpha=alpha) for _ in range(count)]


def wrong(found: list[End], *, tolerated: float = 0.0) -> int:
    """Promotions at a moment at which the challenger's true mean over its eligible rows was no better."""
    return sum(end.how == "promoted" and end.mean_effect <= -tolerated + 1e-12 for end in found)


def _facts(
    stream: Stream, state: RolloutState, at: NDArray[np.float64], generator: np.random.Generator
) -> tuple[ComparedFacts, NDArray[np.float64]]:
    effects, base = stream.effect(at), stream.base(at)
    if stream.split:
        return _split(stream, state, base, effects, generator), effects
    uniform = generator.random(at.size)
    apart = np.maximum(stream.disagreement, np.abs(effects))
    won = uniform < (apart + effects) / 2.0
    lost = ~won & (uniform < apart)
    differences = won.astype(float) - lost
    chance = np.full(at.size, stream.missing)
    if stream.missing_if_won is not None:
        chance[won] = stream.missing_if_won
    gone = generator.random(at.size) < chance
    # Of two answers to a row the one or the other may be the larger; which one it is says nothing about who is right.
    ways = (generator.random(at.size) < 0.5).astype(int)
    if stream.missing_if_won is not None:
        ways = won.astype(int)  # one answer means one outcome, as where only accepted cases are followed up
    differ = won | lost
    group = generator.integers(0, max(1, stream.slices), at.size)
    facts = ComparedFacts(
        labelled=int((~gone).sum()),
        missing=int(gone.sum()),
        differences=tuple(differences[~gone].tolist()),
        bounded=tuple(np.where(gone, -differ.astype(float), differences).tolist()),
        directions=tuple((2 * ways + gone)[differ].tolist()),
        values={"group": {str(each): int((group == each).sum()) for each in range(stream.slices)}}
        if stream.slices
        else {},
        slices={f"group={each}": tuple(differences[~gone & (group == each)].tolist()) for each in range(stream.slices)},
    )
    return facts, effects


def _split(
    stream: Stream,
    state: RolloutState,
    base: NDArray[np.float64],
    effects: NDArray[np.float64],
    generator: np.random.Generator,
) -> ComparedFacts:
    share = stream.shares[state.step - 1] / 100
    dealt = generator.random(base.size)
    turns, baseline = dealt < share, dealt >= 1 - share
    mine = turns | baseline
    rates = np.where(turns, base - effects, base)[mine]
    losses = (generator.random(rates.size) < rates).astype(float)
    gone = generator.random(rates.size) < stream.missing
    return ComparedFacts(
        labelled=int((~gone).sum()),
        missing=int(gone.sum()),
        losses=tuple(losses[~gone].tolist()),
        turns=tuple(turns[mine][~gone].tolist()),
        bounded_losses=tuple(np.where(gone, turns[mine].astype(float), losses).tolist()),
        bounded_turns=tuple(turns[mine].tolist()),
        unlabelled=tuple(gone.tolist()),
    )


DAYS = DAY // LOOK_US
