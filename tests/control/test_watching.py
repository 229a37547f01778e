"""Which monitors a loop has, how the promise is shared out, and what a window leads to: measurements, alarms, warnings, nothing else."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from goldenloop.control.view import LoopView
from goldenloop.control.watching import (
    FAST_TRACK,
    MOST_BROKEN,
    SHARES,
    asked,
    explained,
    first_watch,
    learn,
    next_watch,
    watched,
    with_broken,
)
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json, JsonObject
from goldenloop.core.phases import Verdict
from goldenloop.monitors import catalogue
from goldenloop.monitors.catalogue import CATALOGUE
from goldenloop.monitors.findings import Chosen, Finding
from goldenloop.monitors.reference import Reference
from goldenloop.standards.documents import convert
from goldenloop.standards.loop import LoopSpec, check_loop
from goldenloop.testing.monitors import past_of, reference_of

CHOSEN = (
    Chosen(monitor="drift", chosen=True, why="always"),
    Chosen(monitor="performance", chosen=True, why="always"),
    Chosen(monitor="fairness", chosen=False, why="data.protected names no column"),
    *(
        Chosen(monitor=name, chosen=False, why="not here")
        for name in CATALOGUE
        if name not in ("drift", "performance", "fairness")
    ),
)


def view(monitors: Json = "auto", *, promised: int = 100) -> LoopView:
    spec: JsonObject = {"data": {"label": "y"}, "monitors": monitors, "retrain": {"falseAlarmWindows": promised}}
    document: JsonObject = {
        "metadata": {"namespace": "default", "name": "loan", "uid": "u", "generation": 1},
        "spec": spec,
    }
    return LoopView.of(document)


def reference() -> Reference:
    past = past_of()
    return msgspec.structs.replace(
        reference_of(past),
        scores={
            "multivariateDrift": tuple(np.random.default_rng(0).normal(size=30).tolist()),
            "volume/rows": (40.0,) * 60,
        },
        chosen=catalogue.choose(past),
    )


def names(view: LoopView) -> list[str]:
    return [each.name for each in watched(view, CHOSEN)]


def test_auto_is_what_was_chosen_and_a_list_changes_it() -> None:
    assert names(view()) == ["drift", "performance"]
    assert names(view(["auto", {"type": "drift", "enabled": False}, {"type": "fairness"}])) == [
        "performance",
        "fairness",
    ]
    assert names(view([{"type": "volume"}])) == ["volume"]
    before_the_first_version = {each.type for each in watched(view(), ())}
    assert before_the_first_version == {name for name, monitor in CATALOGUE.items() if monitor.essential}


def test_every_monitor_is_explained() -> None:
    found = {each.monitor: each for each in explained(view(["auto", {"type": "drift", "enabled": False}]), CHOSEN)}
    assert found.keys() == CATALOGUE.keys()
    assert (found["drift"].chosen, found["drift"].why) == (False, "given")
    assert found["fairness"].why == "auto: data.protected names no column"
    assert (found["performance"].chosen, found["performance"].why) == (True, "auto: always")


def test_the_shares_of_the_promise_add_up_to_one() -> None:
    assert sum(1 / share for share in SHARES.values()) == pytest.approx(1.0)
    assert SHARES.keys() == {name for name, monitor in CATALOGUE.items() if monitor.promised}
    memory = first_watch(view(promised=50), "1", reference())
    thresholds = [
        memory.loss.windows_per_false_alarm,
        *(each.windows_per_false_alarm for each in memory.detectors.values()),
    ]
    assert sum(1 / threshold for threshold in thresholds) == pytest.approx(1 / 50)
    assert memory.detectors["multivariateDrift"].calibrated
    assert memory.learned["volume/rows"].values == (40.0,) * 60


def test_warnings_share_one_window_in_a_hundred() -> None:
    memory = first_watch(view(), "1", reference())
    found = asked(view(), memory)
    others = [each for each in found if each.settings.type not in SHARES]
    assert len(others) == len(CATALOGUE) - len(SHARES)
    assert sum(each.significance for each in others) == pytest.approx(FAST_TRACK)


def test_a_new_champion_keeps_what_was_learned_and_starts_with_no_evidence() -> None:
    memory = first_watch(view(), "1", reference())
    judged, drift = memory.detectors["drift"].judge(50.0)
    assert judged.statistic > 1.0
    memory = msgspec.structs.replace(memory, detectors={**memory.detectors, "drift": drift})
    following = next_watch(memory, "2", msgspec.structs.replace(reference(), expected_loss=0.3))
    assert following.expected_loss == {"1": 0.2, "2": 0.3}
    assert all(each.statistic == 0.0 for each in following.detectors["drift"].detectors)
    assert following.learned == memory.learned


def test_a_value_is_judged_by_its_own_past_and_joins_it() -> None:
    memory = first_watch(view(), "1", reference())

    def rows(value: float) -> Finding:
        return Finding(monitor="volume", metric="rows", value=value, verdict=Verdict.PASS, learned="both")

    usual, memory = learn(memory, rows(40.0), among=5, at_us=0)
    assert usual.verdict is Verdict.PASS
    gone, memory = learn(memory, rows(3.0), among=5, at_us=0)
    assert (gone.verdict, gone.threshold) == (Verdict.FAIL, 40.0)
    assert memory.learned["volume/rows"].values[-2:] == (40.0, 3.0)
    fresh = Finding(monitor="service", metric="failed_share", value=0.5, verdict=Verdict.PASS, learned="high")
    learning, _ = learn(memory, fresh, among=5, at_us=0)
    assert learning.verdict is Verdict.INCONCLUSIVE
    assert "50 more needed" in learning.note
    certain, _ = learn(memory, msgspec.structs.replace(fresh, verdict=Verdict.FAIL), among=5, at_us=0)
    assert certain.verdict is Verdict.FAIL


def test_broken_spans_are_bounded_and_never_forgotten() -> None:
    memory = first_watch(view(), "1", reference())
    for window in range(3):
        memory = with_broken(memory, window * 10, window * 10 + 10)
    assert memory.broken == ((0, 30),)
    for window in range(2 * MOST_BROKEN):
        memory = with_broken(memory, 100 + window * 20, 110 + window * 20)
    assert len(memory.broken) == MOST_BROKEN
    for window in range(2 * MOST_BROKEN):
        assert any(start <= 100 + window * 20 < end for start, end in memory.broken)


@pytest.mark.parametrize(
    ("monitors", "told"),
    [
        ([{"type": "adversarial"}], "not watched"),
        ([{"type": "attributionDrift"}], "not watched"),
        ([{"type": "custom"}], "there is no source"),
        ([{"type": "custom", "source": "mine.py"}], "names no class"),
        ([{"type": "drift"}, {"type": "drift"}], "there twice"),
    ],
)
def test_lists_that_cannot_be_meant_are_refused(monitors: Json, told: str) -> None:
    with pytest.raises(InvalidSpecError, match=told):
        check_loop(convert({"data": {"label": "y"}, "monitors": monitors}, LoopSpec))
