"""What going on costs: due at the price and not before, bounded where training does not help, quiet where nothing changes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.triggers import costs
from goldenloop.triggers.costs import Costs, Trial

PAST = [0.18, 0.22, 0.2, 0.19, 0.21, 0.2, 0.23, 0.17, 0.2, 0.2, 0.19, 0.21]
PRICE = 0.3


def loop(*, bound: float = 1000.0) -> Costs:
    return Costs.of(PAST, expected=0.2, windows_per_false_alarm=bound)


def after(state: Costs, losses: list[float], version: str = "1") -> Costs:
    for loss in losses:
        state = costs.observed(state, loss, version=version)
    return state


def test_a_run_is_due_when_what_was_lost_reaches_its_price() -> None:
    state = after(loop(), [0.2, 0.2])
    due = []
    for _ in range(8):
        state = costs.observed(state, 0.3, version="1")
        due.append(costs.weighed(state, PRICE).due)
    assert due == [False, False, False, True, True, True, True, True]  # 0.1 a window, less a quarter of the scatter


def test_an_expensive_run_is_due_later_and_a_free_one_needs_evidence() -> None:
    state = after(loop(), [0.2, 0.2, 0.24])
    assert not costs.weighed(state, 0.0).due
    high = after(loop(), [0.2, 0.2, 0.4, 0.4])
    assert costs.weighed(high, PRICE).due
    assert not costs.weighed(high, 3 * PRICE).due


def test_what_was_saved_is_not_kept_for_later() -> None:
    assert after(loop(), [0.2, 0.2, *[0.05] * 50]).accumulated == 0.0


def test_a_new_champion_begins_with_nothing() -> None:
    state = after(loop(), [0.2, 0.2, 0.4, 0.4])
    state = after(costs.paid(state), [0.4])
    assert state.accumulated > 0.0  # the old one goes on losing while the next is tried
    assert after(state, [0.2], version="2").accumulated == 0.0


def test_fresh_windows_move_the_level_and_later_ones_do_not() -> None:
    state = after(loop(), [0.3, 0.3])
    assert state.level > 0.205
    assert after(state, [0.5] * 20).level == state.level


def test_runs_that_bring_nothing_make_the_next_dearer_until_nobody_tries() -> None:
    """The world has become noisier: every window loses 0.1 more, whatever is trained."""
    state, runs = loop(), []
    for window in range(400):
        state = costs.observed(state, 0.3, version="1")
        if costs.weighed(state, PRICE).due:
            runs.append(window)
            state = costs.earned(costs.paid(state), 0.0)
    gaps = [later - earlier for earlier, later in pairwise(runs)]
    assert len(runs) <= 7
    assert gaps == sorted(gaps)
    assert gaps[-1] > 10 * gaps[0]


def test_a_run_that_wins_back_its_price_earns_trust() -> None:
    state = costs.tried(loop(), 0.0, price=PRICE)
    for _ in range(costs.TRIAL_WINDOWS - 1):
        assert state.trial is not None
        state = costs.tried(state, PRICE / 4, price=PRICE)
    assert state.trial is None
    assert state.doublings == -1.0
    assert (
        costs.weighed(after(state, [0.2, 0.2, 0.24, 0.26, 0.3]), 0.1).threshold < costs.weighed(loop(), 0.1).threshold
    )


def test_a_trial_that_the_next_run_ends_counts_as_far_as_it_came() -> None:
    state = costs.tried(loop(), PRICE / 4, price=PRICE)
    assert state.trial == Trial(won=PRICE / 4, windows=1)
    assert costs.ended(state, price=PRICE).doublings == pytest.approx(0.5)
    assert costs.ended(loop(), price=PRICE) == loop()


def test_doublings_fade() -> None:
    state = costs.earned(loop(bound=10.0), 0.0)
    assert after(state, [0.2] * 10).doublings == pytest.approx(0.0)


@pytest.mark.parametrize("past", [[], [0.1], [0.1, float("nan"), 0.2]])
def test_a_past_that_says_too_little_gives_a_wide_scatter(past: list[float]) -> None:
    state = Costs.of(past, expected=0.2, windows_per_false_alarm=1000.0)
    assert (state.level, state.scatter) == (0.2, 0.1)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_refused(loss: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        costs.observed(loop(), loss, version="1")


@given(
    losses=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=200),
    price=st.floats(0.01, 2.0),
    bound=st.sampled_from([5.0, 50.0, 1000.0]),
)
def test_useless_runs_are_bounded_whatever_the_windows_look_like(
    losses: list[float], price: float, bound: float
) -> None:
    """The bound that the module states: T / N + log2(largest sum / price) + 1 useless runs in T windows, for any losses at all."""
    state, useless, largest = loop(bound=bound), 0, price
    for loss in losses:
        state = costs.observed(state, loss, version="1")
        largest = max(largest, state.accumulated)
        if costs.weighed(state, price).due:
            useless += 1
            state = costs.earned(costs.paid(state), 0.0)
    allowed = len(losses) / bound + np.log2(largest / price) + 1.0
    assert useless <= allowed + 1e-6 or state.doublings >= costs.MOST_DOUBLINGS - 1.0


@pytest.mark.parametrize("kind", ["independent", "heavy-tailed", "autocorrelated", "seasonal"])
def test_where_nothing_changes_runs_by_cost_are_rare(kind: str) -> None:
    """One in 50 promised, 400 windows, 10 streams: over all of them fewer runs than that, the first tries included."""
    generator = np.random.default_rng(7)
    count = 0
    for _ in range(10):
        noise = generator.normal(size=424)
        if kind == "heavy-tailed":
            noise = generator.standard_t(4, size=424) / np.sqrt(2.0)
        elif kind == "autocorrelated":
            for place in range(1, 424):
                noise[place] = 0.5 * noise[place - 1] + np.sqrt(0.75) * noise[place]
        elif kind == "seasonal":
            noise = (np.sqrt(2.0) * np.sin(2 * np.pi * np.arange(424) / 7) + 0.5 * noise) / np.sqrt(1.25)
        losses = np.clip(0.2 + 0.05 * noise, 0.0, 1.0).tolist()
        state = Costs.of(losses[:24], expected=0.2, windows_per_false_alarm=50.0)
        for loss in losses[24:]:
            state = costs.observed(state, loss, version="1")
            if costs.weighed(state, 0.2).due:
                count += 1
                state = costs.earned(costs.paid(state), 0.0)
    assert count <= 10 * 400 / 50
