"""What should happen does, in bounded time."""

from __future__ import annotations

from pathlib import Path

import pytest
from ring_worlds import Rule, Scenario, simulate

from goldenloop.core.clock import DAY, HOUR, MINUTE, from_text


def adapting(number: int, regime: int) -> Rule:
    errors = [0.4, 0.4, 0.4]
    errors[regime] = 0.1
    return Rule(errors=tuple(errors), salt=0.37 * number)


def changing(window: int) -> float:
    return 0.0 if window < 4 else 1.0


def check_it_closed(told: list[str]) -> None:
    # What going on costs is a cause before the loss is an alarm under the promise.
    assert told.index("Trigger") < told.index("Blessed", 2) < told.index("Rollout")
    assert told.index("Rollout") < told.index("Canary") < told.index("Promoted")


@pytest.mark.parametrize("seed", [1])
def test_a_lasting_change_ends_in_a_promotion(tmp_path: Path, seed: int) -> None:
    scenario = Scenario(train=adapting, regime=changing, windows=17, rows_per_window=30)
    result, _ = simulate(tmp_path / "world", scenario, seed)
    told = [str(line["kind"]) for line in result.timeline if "the data" not in str(line["text"])]
    check_it_closed(told)
    assert result.champion == "2"
    later = [window.value for window in result.quality[-6:] if window.value is not None]
    assert min(later) > 0.7


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(40))
def test_a_lasting_change_ends_in_a_promotion_for_every_seed(tmp_path: Path, seed: int) -> None:
    scenario = Scenario(train=adapting, regime=changing, windows=40, rows_per_window=30)
    result, _ = simulate(tmp_path / "world", scenario, seed)
    assert result.promotions >= 1


@pytest.mark.soak
def test_the_world_may_change_twice(tmp_path: Path) -> None:
    def twice(window: int) -> float:
        return 0.0 if window < 6 else 1.0 if window < 24 else 2.0

    scenario = Scenario(train=adapting, regime=twice, windows=42, rows_per_window=30)
    result, _ = simulate(tmp_path / "world", scenario, seed=1)
    assert result.promotions == 2
    assert result.champion is not None


@pytest.mark.parametrize(("size", "check"), [("1h", 15 * MINUTE), (30, HOUR)])
def test_a_rollout_ends_by_its_longest_duration(tmp_path: Path, size: str | int, check: int) -> None:
    """The challenger is exactly as good as the champion, so the evidence never decides."""

    def train(_number: int, _regime: int) -> Rule:
        return Rule(errors=(0.1, 0.35), salt=0.0)

    longest = 3 * HOUR + HOUR  # it counts from when the first labels are due
    scenario = Scenario(
        train=train,
        regime=changing,
        windows=14,
        rows_per_window=30,
        spec={"windows": {"size": size}, "rollout": {"maxDuration": "3h"}},
    )
    result, _ = simulate(tmp_path / "world", scenario, seed=1)
    moments = {str(line["kind"]): from_text(str(line["at"])) for line in result.timeline}
    first = next(from_text(str(line["at"])) for line in result.timeline if line["kind"] == "Rollout")
    ended = next(from_text(str(line["at"])) for line in result.timeline if line["kind"] == "Inconclusive")
    assert longest <= ended - first <= longest + check
    assert "Promoted" not in moments


def test_a_stream_with_a_hole_in_it_goes_on(tmp_path: Path) -> None:
    """Two days without a request: their windows are empty, nothing is concluded from them, and what follows is measured."""
    scenario = Scenario(train=adapting, windows=12, rows_per_window=30)
    rows = scenario.rows(1)
    half = len(rows) // 2
    later = [type(row)(row.event_us + DAY, row.features, row.label, row.event_us + DAY + HOUR) for row in rows[half:]]
    result, _ = simulate(tmp_path / "world", scenario, 1, rows=[*rows[:half], *later])
    empty = [window for window in result.quality if window.labelled == 0]
    assert len(empty) == 24
    assert all(window.value is None for window in empty)
    assert result.quality[-1].value is not None
    assert result.runs == 1
