"""The same rows lead to the same decisions: in one go, in portions, and with a control process that dies on the way."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from ring_worlds import Rule, Scenario, Simulation, simulate, story


def adapting(number: int, regime: int) -> Rule:
    errors = [0.4, 0.4, 0.4]
    errors[regime] = 0.1
    return Rule(errors=tuple(errors), salt=0.37 * number)


def changing(window: int) -> float:
    return 0.0 if window < 3 else 1.0


BY_TIME = Scenario(train=adapting, regime=changing, windows=14, rows_per_window=30)
BY_ROWS = Scenario(train=adapting, regime=changing, windows=12, rows_per_window=20, spec={"windows": {"size": 20}})


def check_same(folder: Path, scenario: Scenario, seed: int, *, deaths: int) -> None:
    """Compare one go with a go in portions that so many deaths interrupt, at points drawn from the seed."""
    whole, simulation = simulate(folder / "whole", scenario, seed)
    assert whole.promotions >= 1
    draw = random.Random(seed)
    points = frozenset(draw.sample(range(1, simulation.points.passed), deaths))
    mortal, dying = simulate(folder / "mortal", scenario, seed, portion=draw.randrange(5, 60), deaths=points)
    assert dying.deaths >= deaths * 3 // 4  # after the last row fewer points may be left
    assert story(mortal) == story(whole)
    assert mortal.quality == whole.quality


def test_portions_and_deaths_change_nothing(tmp_path: Path) -> None:
    check_same(tmp_path, BY_TIME, 1, deaths=12)


def test_portions_and_deaths_change_nothing_where_rows_are_counted(tmp_path: Path) -> None:
    check_same(tmp_path, BY_ROWS, 1, deaths=12)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, 22))
def test_portions_and_deaths_change_nothing_for_every_seed(tmp_path: Path, seed: int) -> None:
    check_same(tmp_path, BY_TIME if seed % 3 else BY_ROWS, seed, deaths=60)


@pytest.mark.soak
def test_a_death_at_every_single_point_changes_nothing(tmp_path: Path) -> None:
    whole, simulation = simulate(tmp_path / "whole", BY_TIME, 1)
    for point in range(1, simulation.points.passed, 3):
        mortal, dying = simulate(tmp_path / f"mortal-{point}", BY_TIME, 1, deaths=frozenset({point}))
        assert dying.deaths == 1
        assert story(mortal) == story(whole), point


def test_nothing_is_told_twice_to_a_ring_that_looks_again(tmp_path: Path) -> None:
    """At rest, another look changes neither the story nor the table."""
    simulation = Simulation(tmp_path / "world", BY_TIME)
    result = simulation.go(BY_TIME.rows(1))
    table = simulation.router.table
    for _ in range(5):
        assert not simulation.advance()
    assert story(simulation.replay.result()) == story(result)
    assert simulation.router.table == table
