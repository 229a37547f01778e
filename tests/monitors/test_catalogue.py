"""Every built-in monitor keeps the contract; what the catalogue says of itself is whole."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
import pytest

from goldenloop.core.phases import Verdict
from goldenloop.monitors import catalogue
from goldenloop.monitors.catalogue import CATALOGUE
from goldenloop.monitors.catalogue.base import Asked, Monitor
from goldenloop.monitors.findings import FEATURES_KEPT, FLAGGED_KEPT, Finding, Flag, Outcome, bounded
from goldenloop.monitors.reference import Reference
from goldenloop.standards.loop import _NOT_WATCHED, MonitorType, NamedMonitor
from goldenloop.testing.monitors import MonitorSuite, past_of, reference_of, window_like

PAGE = Path(__file__).parents[2] / "docs" / "monitors.md"


class BuiltIn(MonitorSuite):
    """One of the catalogue, by the name of its class."""

    NAME = ""

    def monitor(self) -> Monitor:  # type: ignore[type-arg]
        return CATALOGUE[self.NAME]


for _name in CATALOGUE:
    globals()[f"Test{_name[0].upper()}{_name[1:]}"] = type(f"Test{_name}", (BuiltIn,), {"NAME": _name})
del BuiltIn


def reference() -> Reference:
    past = past_of()
    fitted, scores = catalogue.fit(past)
    return msgspec.structs.replace(reference_of(past), fitted=fitted, scores=scores, chosen=catalogue.choose(past))


def measured(name: str, what: str, **settings: object) -> dict[tuple[str, str, str], Finding]:
    asked = Asked(settings=NamedMonitor(type=name, **settings))  # type: ignore[arg-type]
    outcome = catalogue.measure(asked, window_like(past_of(), what), reference())
    return {(each.metric, each.feature, each.slice): each for each in outcome.findings}


def test_every_type_is_in_the_catalogue_or_refused_and_on_the_page() -> None:
    page = PAGE.read_text()
    for name in get_args(MonitorType):
        assert (name in CATALOGUE) != (name in _NOT_WATCHED) or name == "custom"
        assert f"`{name}`" in page, name
    for monitor in CATALOGUE.values():
        assert monitor.watches in page, monitor.name
        assert monitor.changed


def test_all_are_chosen_or_left_out_with_a_reason() -> None:
    chosen = {each.monitor: each for each in catalogue.choose(past_of())}
    assert chosen.keys() == CATALOGUE.keys()
    assert chosen["fairness"].why == "sex, age are protected"
    assert all(each.chosen for each in chosen.values()), chosen


def test_what_a_monitor_raises_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Outcome:
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr(type(CATALOGUE["skew"]), "measure", broken)
    found = measured("skew", "usual")
    assert found["error", "", ""].verdict is Verdict.ERROR
    assert found["error", "", ""].note == "ZeroDivisionError: a mistake"


def test_a_broken_schema_says_so_and_a_usual_window_does_not() -> None:
    past, known = past_of(), reference()

    def broken(what: str) -> str:
        asked = Asked(settings=NamedMonitor(type="schema"))
        return catalogue.measure(asked, window_like(past, what), known).broken

    assert broken("vanished") == "income: no row has it"
    assert broken("unreadable") == "income: 100% of the values are of another type"
    assert broken("missing").startswith("income: every value is missing, of the reference's 0.1%")
    assert "city" not in broken("missing") or "city: every value is missing" in broken("missing")
    assert broken("usual") == broken("new category") == broken("empty") == ""


@pytest.mark.parametrize(
    ("monitor", "what", "metric", "feature"),
    [
        ("missing", "missing", "share", "income"),
        ("ranges", "infinite", "outside_share", "income"),
        ("categories", "new category", "new_share", "city"),
        ("skew", "constant", "overlap", "income"),
    ],
)
def test_each_names_the_feature_that_changed(monitor: str, what: str, metric: str, feature: str) -> None:
    assert measured(monitor, what)[metric, feature, ""].verdict is Verdict.FAIL
    usual = measured(monitor, "usual")
    assert all(each.verdict is not Verdict.FAIL for each in usual.values()), usual


def test_strange_rows_are_flagged_by_their_prediction() -> None:
    past, known = past_of(), reference()
    window = window_like(past, "usual")
    window.columns["income"][7] = 1e5
    asked = Asked(settings=NamedMonitor(type="outliers"))
    flags = catalogue.measure(asked, window, known).flags
    assert flags[0].prediction == "id-7"
    assert flags[0].threshold is not None
    assert flags[0].score > flags[0].threshold


def test_a_group_of_two_is_not_compared() -> None:
    found = measured("fairness", "group of two")
    assert found["selection_rate", "", "sex=f"].verdict is Verdict.INCONCLUSIVE
    assert "fewer than 30" in found["selection_rate", "", "sex=f"].note
    assert found["demographic_parity_difference", "sex", ""].verdict is Verdict.INCONCLUSIVE


def test_a_threshold_that_a_person_gives_decides() -> None:
    assert measured("performance", "usual", threshold=0.99)["accuracy", "", ""].verdict is Verdict.FAIL
    assert measured("performance", "usual", threshold=0.5)["accuracy", "", ""].verdict is Verdict.PASS
    assert measured("volume", "usual", threshold=10_000)["rows", "", ""].verdict is Verdict.FAIL
    assert measured("outliers", "usual", threshold="learned")["flagged_share", "", ""].learned == "high"


def test_performance_is_told_by_slice() -> None:
    found = measured("performance", "usual")
    slices = [part for metric, _, part in found if metric == "accuracy" and part]
    assert {"sex=f", "sex=m", "city=a"} <= set(slices)
    assert found["labelled_share", "", ""].value == 1.0
    low, high = found["accuracy", "", ""].low, found["accuracy", "", ""].high
    assert low is not None
    assert high is not None
    assert low < 0.8 < high


def test_concept_drift_is_what_confidence_does_not_explain() -> None:
    past, known = past_of(), reference()
    window = window_like(past, "usual")
    turned = [{"no": "yes", "yes": "no"}[str(label)] for label in window.labels]
    asked = Asked(settings=NamedMonitor(type="conceptDrift"))
    values = []
    for labels in (list(window.labels), turned):
        outcome = catalogue.measure(asked, msgspec_replace(window, labels), known)
        values.append(outcome.findings[0].value or 0.0)
    assert abs(values[0]) < 0.15
    assert values[1] > 0.4


def msgspec_replace(window: object, labels: list[str]) -> object:
    from dataclasses import replace

    return replace(window, labels=labels)  # type: ignore[type-var]


def test_ten_thousand_columns_and_rows_are_bounded() -> None:
    findings = tuple(
        Finding(monitor="drift", metric="score", value=float(number), verdict=Verdict.PASS, feature=f"c{number}")
        for number in range(10_000)
    )
    flags = tuple(Flag(monitor="outliers", prediction="p", row=row, score=float(row)) for row in range(1_000))
    worst = Finding(monitor="drift", metric="score", value=-5.0, verdict=Verdict.FAIL, feature="worst")
    odd = Finding(monitor="drift", metric="top", value=float("nan"), verdict=Verdict.PASS)
    kept = bounded(Outcome(findings=(*findings, worst, odd), flags=flags))
    features = [each.feature for each in kept.findings if each.feature]
    assert features[:2] == ["worst", "c9999"]
    assert len(features) == FEATURES_KEPT
    assert len(kept.flags) == FLAGGED_KEPT
    assert kept.flags[0].row == 999
    assert kept.findings[0].value is None
    assert kept.findings[0].verdict is Verdict.INCONCLUSIVE


def test_learned_thresholds_begin_with_the_reference_windows() -> None:
    found = catalogue.history(past_of(), reference())
    assert {"missing/surprise", "ranges/surprise", "categories/surprise", "outliers/flagged_share"} <= found.keys()
    assert len(found["volume/rows"]) == 30
    assert set(found["volume/rows"]) == {40.0}
    assert all(np.isfinite(values).all() for values in found.values())
