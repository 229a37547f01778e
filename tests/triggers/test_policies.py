"""Policies alone, on streams of losses that are made up; the classic detectors beside river's."""

from __future__ import annotations

import numpy as np
import pytest

from goldenloop.core.errors import InvalidSpecError
from goldenloop.triggers.costs import Costs
from goldenloop.triggers.detectors import Adwin, PageHinkley
from goldenloop.triggers.policies import Policy, Windows, policy_named, simulate

ROWS = 400
KNOWN = Costs.of([0.1, 0.12, 0.08, 0.1, 0.11, 0.09], expected=0.1, windows_per_false_alarm=1000.0)


def policy(name: str) -> Policy:
    return policy_named(name, known=KNOWN, price=lambda usual: usual)


def stream(*, changes_at: int, helps: bool = True, count: int = 40, delay: int = 0) -> Windows:
    """From a window on, versions of before it lose 0.4 more, and fresh ones too where training does not help."""
    generator = np.random.default_rng(5)

    def losses(version: int, window: int) -> np.ndarray:
        stale = window >= changes_at and (version < changes_at or not helps)
        wrong: np.ndarray = generator.random(ROWS) < (0.5 if stale else 0.1)
        return wrong.astype(float)

    return Windows(count=count, losses=losses, train=lambda _: True, due=lambda window: max(0, window - delay))


def runs_of(name: str, windows: Windows) -> list[int]:
    return sorted(set(simulate(policy(name), windows)) - {0})


@pytest.mark.parametrize("name", ["cost", "adwin", "page-hinkley", "accuracy<0.7", "loss>0.3"])
def test_each_policy_trains_soon_after_a_change_and_then_rests(name: str) -> None:
    runs = runs_of(name, stream(changes_at=20))
    assert [run for run in runs if run < 20] == []
    assert len(runs) == 1
    assert runs[0] <= 24


def test_labels_that_come_late_make_it_later() -> None:
    assert runs_of("cost", stream(changes_at=20, delay=3))[0] == runs_of("cost", stream(changes_at=20))[0] + 3


def test_never_and_periodic() -> None:
    assert runs_of("never", stream(changes_at=20)) == []
    assert runs_of("periodic:10", stream(changes_at=20)) == [10, 20, 30]


def test_where_training_does_not_help_only_the_cost_finds_out() -> None:
    windows = stream(changes_at=10, helps=False, count=120)
    assert len(runs_of("loss>0.3", windows)) > 90
    assert len(runs_of("cost", windows)) <= 8


@pytest.mark.parametrize("name", ["", "periodic", "periodic:0", "never:2", "adwin2", "accuracy<high"])
def test_what_is_no_policy_is_refused(name: str) -> None:
    with pytest.raises(InvalidSpecError):
        policy(name)


def errors() -> np.ndarray:
    generator = np.random.default_rng(3)
    return np.concatenate([generator.random(1_500) < rate for rate in (0.2, 0.35, 0.1)]).astype(float)


def test_the_detectors_see_what_river_sees() -> None:
    """Recorded from river 0.26.1 with its defaults (Page-Hinkley: threshold 20, mode up). Its ADWIN begins anew after each change."""
    adwin, page_hinkley = Adwin(), PageHinkley(threshold=20.0)
    found: list[int] = []
    for place, value in enumerate(errors().tolist()):
        if adwin.update(value):
            found.append(place)
            assert adwin.width == 640 or place != 1663
            adwin = Adwin()
    assert found == [1663, 3103]
    assert adwin.width == 1396
    assert adwin.mean == pytest.approx(0.10673352435530085)
    stream = errors().tolist()
    assert [place for place, value in enumerate(stream) if page_hinkley.update(value)] == [654, 1562]
