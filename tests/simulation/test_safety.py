"""Whatever the stream, the labels and the challengers do: what must never happen does not. Each world checks after every turn."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from ring_worlds import Rule, Scenario, kinds, simulate, story

from goldenloop.control.replaying import ReplayRow
from goldenloop.core.clock import HOUR, MINUTE, from_text


def adapting(number: int, regime: int) -> Rule:
    """Trains what is right for the present regime and wrong for others."""
    errors = [0.4, 0.4, 0.4]
    errors[regime] = 0.1
    return Rule(errors=tuple(errors), salt=0.37 * number)


def worse(number: int, _regime: int) -> Rule:
    """The first version is good in regime 0; what follows is worse than it everywhere."""
    return Rule(errors=(0.1, 0.3) if number == 0 else (0.2, 0.4), salt=0.37 * number)


def equal(number: int, _regime: int) -> Rule:
    return Rule(errors=(0.1, 0.35), salt=0.37 * number)


def sudden(window: int) -> float:
    return 0.0 if window < 4 else 1.0


def gradual(window: int) -> float:
    return min(1.0, max(0.0, (window - 5) / 10))


SHORT = {"windows": 16, "rows_per_window": 30}

WORLDS: dict[str, Scenario] = {
    "no change": Scenario(train=adapting, **SHORT),
    "sudden change": Scenario(train=adapting, regime=sudden, **SHORT),
    "gradual change": Scenario(train=adapting, regime=gradual, **SHORT),
    "season": Scenario(train=adapting, season=lambda window: 0.5 * (window % 6 < 3), **SHORT),
    "late labels": Scenario(train=adapting, regime=sudden, label_delay_us=5 * HOUR + 10 * MINUTE, **SHORT),
    "missing labels": Scenario(train=adapting, regime=sudden, missing_labels=0.4, **SHORT),
    "labels that come sooner for one class": Scenario(
        train=worse, regime=sudden, biased_delay=True, label_delay_us=3 * HOUR, strict_gate=False, **SHORT
    ),
    "worse challengers": Scenario(train=worse, regime=sudden, strict_gate=False, **SHORT),
    "equal challengers": Scenario(train=equal, regime=sudden, **SHORT),
    "worse challengers without a shadow": Scenario(
        train=worse,
        regime=sudden,
        strict_gate=False,
        spec={"rollout": {"shadow": False, "maxDuration": "6h"}},
        **SHORT,
    ),
    "live": Scenario(train=adapting, regime=sudden, replay=False, **SHORT),
}


@pytest.mark.parametrize("name", WORLDS)
def test_no_world_breaks_a_rule(tmp_path: Path, name: str) -> None:
    result, simulation = simulate(tmp_path / "world", WORLDS[name], seed=3)
    assert simulation.turns > result.windows >= 15


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", WORLDS)
def test_no_world_breaks_a_rule_for_long(tmp_path: Path, name: str, seed: int) -> None:
    simulate(tmp_path / "world", WORLDS[name], seed=seed)


def test_without_labels_nothing_is_promoted_and_nothing_retrained(tmp_path: Path) -> None:
    scenario = Scenario(train=adapting, regime=sudden, missing_labels=1.0, **SHORT)
    result, _ = simulate(tmp_path / "world", scenario, seed=5)
    assert (result.promotions, result.runs, result.champion) == (0, 1, "1")
    assert all(window.value is None for window in result.quality)


def test_labels_that_stop_during_a_rollout_promote_nothing(tmp_path: Path) -> None:
    """The labels that raise the alarm are there; from then on none is."""
    scenario = Scenario(train=adapting, regime=sudden, **SHORT)
    rows = scenario.rows(4)
    result, _ = simulate(tmp_path / "with", scenario, seed=4, rows=rows)
    begun = next(str(line["at"]) for line in result.timeline if line["kind"] == "Rollout")
    silent = [row for row in rows if row.event_us < from_text(begun)]
    silent += [ReplayRow(row.event_us, row.features) for row in rows if row.event_us >= from_text(begun)]
    impatient = dataclasses.replace(scenario, spec={"rollout": {"maxDuration": "3h"}})
    without, _ = simulate(tmp_path / "without", impatient, seed=4, rows=silent)
    assert result.promotions == 1
    assert (without.promotions, without.champion) == (0, "1")
    assert "Inconclusive" in kinds(without)


def test_a_challenger_that_breaks_now_and_then_is_rolled_back(tmp_path: Path) -> None:
    def train(number: int, regime: int) -> Rule:
        rule = adapting(number, regime)
        return rule if number == 0 else Rule(errors=(0.35, 0.35), salt=0.2, fails=0.3)

    scenario = Scenario(train=train, regime=sudden, strict_gate=False, **SHORT)
    result, _ = simulate(tmp_path / "world", scenario, seed=2)
    assert result.promotions == 0
    assert "RolledBack" in kinds(result)


def test_a_challenger_that_no_worker_can_load_is_quarantined_and_the_champion_stays(tmp_path: Path) -> None:
    def train(number: int, regime: int) -> Rule:
        rule = adapting(number, regime)
        return rule if number == 0 else Rule(errors=rule.errors, salt=rule.salt, loads=False)

    result, _ = simulate(tmp_path / "world", Scenario(train=train, regime=sudden, **SHORT), seed=2)
    refused = [text for kind, _, text in story(result) if kind == "RolledBack"]
    assert refused
    assert all("cannot be loaded: " in text and "no model" in text for text in refused)
    assert (result.promotions, result.champion) == (0, "1")


def test_runs_that_fail_keep_the_champion_and_the_cause_comes_back(tmp_path: Path) -> None:
    """The first triggered run dies; the loss is still high, so another run follows and wins."""

    def train(number: int, regime: int) -> Rule | None:
        return None if number == 1 else adapting(number, regime)

    scenario = Scenario(train=train, regime=sudden, windows=26, rows_per_window=30)
    result, _ = simulate(tmp_path / "world", scenario, seed=2)
    told = kinds(result)
    assert told.count("RunFailed") == 1
    assert "Promoted" in told[told.index("RunFailed") :]
    assert result.runs >= 3


def test_data_that_cannot_be_prepared_starts_no_run(tmp_path: Path) -> None:
    scenario = Scenario(train=adapting, regime=sudden, broken_preparations=frozenset(range(60)), **SHORT)
    result, _ = simulate(tmp_path / "world", scenario, seed=2)
    assert result.runs == 1
    assert any(kind == "RunFailed" and "the source is gone" in text for kind, _, text in story(result))
    assert result.champion == "1"
