"""What going on costs: the loss that a fresh version would not have, added up, against the price of a run.

The unit is the window loss: the mean loss of a row (0..1) over one window, so 0.2 is one window in which every fifth row is lost.

Renting or buying. A champion that has grown stale loses a little with every window; training anew costs a price once. Who trains when
what was lost since the last training has reached the price pays at most twice what somebody pays who knows the future, as long as the
next version is fresh again (Karlin, Manasse, Rudolph & Sleator, "Competitive snoopy caching", Algorithmica 3 (1988), on ski rental;
Mahadevan & Mathioudakis, "Cost-aware retraining for machine learning", Knowledge-Based Systems 293 (2024), for the trade-off). Three
things stand in the way of using that as it is, and each has its rule here.

1. *What would a fresh version lose?* Nobody knows before it is trained. The level is what fresh versions did lose: on windows before the
   loop began (rolling origins) and on the first windows of every champion, the latest ones weighing most.
2. *Chance.* A window is now harder, now easier. Each window is therefore allowed a part of the usual scatter, what is saved never counts
   (the sum does not go below zero), and the sum must exceed the scatter as well as the price. This is Page's cumulative sum.
3. *Training may not help*: the world has become noisier, or labels are wrong. Each run is held against its price. One that does not win
   it back doubles the price of the next, one that does halves it again, and by itself a doubled price comes back within
   `windows_per_false_alarm` windows.

Bound. Rule 3 holds whatever windows look like, independent or not: in T windows at most T / N + log2(largest sum / price) + 1 runs bring
nothing, where N is `windows_per_false_alarm` (as long as the price has not doubled six times, where it stays;
trust that runs have earned allows three more). While nothing changes the
largest sum grows with the logarithm of T, so beyond the first few tries runs by cost are no more frequent than one in N windows. Before
a run has won back its price the sum must also reach what normal windows reach by chance once in N; each that has halves that.

Where it is late: the sum is held against the scatter of windows, so a rise that is small beside it (Elec2: .05 beside .09) is seen after
tens of windows at N = 1000; with N = 2 the price alone decides. benchmarks/results/policies.md has the whole front.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

FRESH_WINDOWS = 2  # of a champion: they say what a fresh version loses
TRIAL_WINDOWS = 8  # within which a run has to win back its price
MOST_REMEMBERED = 20  # fresh windows; older ones fade
ALLOWANCE = 0.25  # of the scatter, that each window may exceed the level by
MOST_DOUBLINGS = 6.0  # of the price, by runs that brought nothing
MOST_TRUST = 3.0  # halvings of the evidence asked for, by runs that won back their price
_SMALLEST_SCATTER = 0.005


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """A run on trial: what it won back so far, in window losses, over how many windows."""

    won: float = 0.0
    windows: int = 0


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the costs of a loop. Losses are means of windows; `doublings` is the burden of runs that brought nothing."""

    level: float
    scatter: float
    remembered: int  # windows behind level and scatter
    windows_per_false_alarm: float
    version: str = ""  # that the last window was answered by
    age: int = 0  # windows of that version so far
    accumulated: float = 0.0
    windows: int = 0  # over which it accumulated
    doublings: float = 0.0
    trial: Trial | None = None

    @classmethod
    def of(cls, losses: Sequence[float], *, expected: float, windows_per_false_alarm: float) -> Costs:
        """What the past says: losses of freshly trained models, oldest first; `expected` is what the first version should lose.

        The level is what is expected, which has the first version's own evaluation in it; the past says how much windows scatter, and for
        how many windows the two count. Fewer than three losses say nothing about scatter: it is taken as half of the level, and learned.
        """
        known = [loss for loss in losses if math.isfinite(loss)]
        if len(known) < 3:
            return cls(
                level=expected,
                scatter=max(_SMALLEST_SCATTER, expected / 2.0),
                remembered=1,
                windows_per_false_alarm=windows_per_false_alarm,
            )
        mean = sum(known) / len(known)
        variance = sum((loss - mean) ** 2 for loss in known) / (len(known) - 1)
        return cls(
            level=expected,
            scatter=max(_SMALLEST_SCATTER, math.sqrt(variance)),
            remembered=min(len(known), MOST_REMEMBERED),
            windows_per_false_alarm=windows_per_false_alarm,
        )


class Weighed(msgspec.Struct, frozen=True, kw_only=True):
    """The sum against the price, in window losses. `threshold` is the price as burdened, or what chance reaches if that is more."""

    due: bool
    accumulated: float
    price: float
    threshold: float
    windows: int
    level: float
    scatter: float


def observed(costs: Costs, loss: float, *, version: str) -> Costs:
    """The costs after one more window: its mean loss, and the champion of it. Raises ValueError for a loss that is no number."""
    if not math.isfinite(loss):
        raise ValueError(f"a window's loss must be a finite number, not {loss}")
    renewed = version != costs.version
    age = 1 if renewed else costs.age + 1
    accumulated = 0.0 if renewed and costs.version else costs.accumulated
    windows = 0 if renewed and costs.version else costs.windows
    excess = loss - costs.level - ALLOWANCE * costs.scatter
    total = max(0.0, accumulated + excess)
    costs = msgspec.structs.replace(
        costs,
        version=version,
        age=age,
        accumulated=total,
        windows=windows + 1 if total > 0.0 else 0,
        doublings=_towards_zero(costs.doublings, 1.0 / costs.windows_per_false_alarm),
    )
    return _learned(costs, loss) if age <= FRESH_WINDOWS else costs


def weighed(costs: Costs, price: float) -> Weighed:
    """Whether a run is due at this price (window losses)."""
    burden = 2.0 ** max(0.0, costs.doublings)
    evidence = chance_reach(costs.windows_per_false_alarm) * costs.scatter * 2.0**costs.doublings
    threshold = max(price * burden, evidence)
    return Weighed(
        due=costs.accumulated >= threshold,
        accumulated=costs.accumulated,
        price=price,
        threshold=threshold,
        windows=costs.windows,
        level=costs.level,
        scatter=costs.scatter,
    )


def expected_gain(costs: Costs) -> float:
    """What training is expected to win back a window, by what is known now: the excess of the latest windows, as far as runs have helped.

    Runs that win back their price are expected to win back all of the excess; each one too many that did not halves what is expected.
    """
    if costs.windows == 0:
        return 0.0
    return costs.accumulated / costs.windows * math.pow(2.0, -max(0.0, costs.doublings))


def paid(costs: Costs) -> Costs:
    """The costs when a run has been started: what was lost until now is settled."""
    return msgspec.structs.replace(costs, accumulated=0.0, windows=0)


def earned(costs: Costs, share: float) -> Costs:
    """The costs when it is known which share of its price a run has won back; nothing below 0 and beyond 1 counts.

    >>> costs = Costs.of([0.1, 0.2, 0.3], expected=0.2, windows_per_false_alarm=100)
    >>> earned(earned(costs, 0.0), 0.0).doublings, earned(earned(costs, 0.0), 1.0).doublings
    (2.0, 0.0)
    """
    change = 1.0 - 2.0 * min(1.0, max(0.0, share))
    doublings = min(MOST_DOUBLINGS, max(-MOST_TRUST, costs.doublings + change))
    return msgspec.structs.replace(costs, doublings=doublings, trial=None)


def tried(costs: Costs, gain: float, *, price: float) -> Costs:
    """The costs after a window of a run on trial: `gain` is the loss of the version before, on the same rows, less that of the new one."""
    trial = costs.trial or Trial()
    trial = Trial(won=trial.won + gain, windows=trial.windows + 1)
    if trial.windows < TRIAL_WINDOWS:
        return msgspec.structs.replace(costs, trial=trial)
    return earned(costs, trial.won / price)


def ended(costs: Costs, *, price: float) -> Costs:
    """The costs when the next run begins before the trial of the last one is over: what it won until now is what it won."""
    return costs if costs.trial is None else earned(costs, costs.trial.won / price)


def chance_reach(windows: float) -> float:
    """The height, in scatters, that the sum reaches by chance once in so many windows: Siegmund's approximation for normal windows.

    Source: Siegmund, "Sequential Analysis" (1985), section 2.6: with the allowance k and b = h + 1.166 the mean run to h is
    (exp(2kb) - 2kb - 1) / (2k^2).

    >>> round(chance_reach(1000), 2), round(chance_reach(50), 2), chance_reach(1.0)
    (8.58, 3.34, 0.0)
    """
    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2.0
        exponent = 2.0 * ALLOWANCE * middle
        run = (math.exp(min(exponent, 700.0)) - exponent - 1.0) / (2.0 * ALLOWANCE**2)
        low, high = (middle, high) if run < windows else (low, middle)
    return max(0.0, low - 1.166)


def _towards_zero(value: float, step: float) -> float:
    return max(0.0, value - step) if value > 0.0 else min(0.0, value + step)


def _learned(costs: Costs, loss: float) -> Costs:
    remembered = min(MOST_REMEMBERED, costs.remembered + 1)
    weight = 1.0 / remembered
    difference = loss - costs.level
    variance = (1.0 - weight) * (costs.scatter**2 + weight * difference**2)
    return msgspec.structs.replace(
        costs,
        level=costs.level + weight * difference,
        scatter=max(_SMALLEST_SCATTER, math.sqrt(variance)),
        remembered=remembered,
    )
