"""Fairness against fairlearn; intervals by simulation; small and strange groups."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fairlearn import metrics as fairlearn

from goldenloop.stats.fairness import Disparity, Fairness, fairness

pytestmark = pytest.mark.filterwarnings("error")


def by_metric(found: Fairness, attributes: str) -> dict[str, Disparity]:
    return {gap.metric: gap for gap in found.disparities if gap.attributes == attributes}


@pytest.mark.parametrize("seed", range(2))
def test_against_fairlearn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    count = 3_000
    groups = {
        "sex": generator.choice(["f", "m"], count),
        "age": generator.choice(np.array([1, 2, 3]), count),
    }
    actual = generator.random(count) < np.where(groups["sex"] == "f", 0.4, 0.6)
    selected = generator.random(count) < 0.2 + 0.4 * actual + 0.05 * groups["age"]
    found = fairness(groups, selected, actual.astype(float))
    both = np.array([f"{sex},{age}" for sex, age in zip(groups["sex"], groups["age"], strict=True)])
    for attributes, member in (("sex", groups["sex"]), ("age", groups["age"]), ("sex,age", both)):
        gaps = {name: gap.gap.value for name, gap in by_metric(found, attributes).items()}
        expected = {
            "demographic_parity_difference": fairlearn.demographic_parity_difference,
            "disparate_impact_ratio": fairlearn.demographic_parity_ratio,
            "equal_opportunity_difference": fairlearn.equal_opportunity_difference,
            "equalized_odds_difference": fairlearn.equalized_odds_difference,
        }
        for name, function in expected.items():
            assert gaps[name] == pytest.approx(function(actual, selected, sensitive_features=member)), (
                attributes,
                name,
            )
        for gap in by_metric(found, attributes).values():
            assert gap.gap.low <= gap.gap.value <= gap.gap.high
    frame = fairlearn.MetricFrame(
        metrics=fairlearn.selection_rate, y_true=actual, y_pred=selected, sensitive_features=both
    )
    for name, rate in frame.by_group.items():
        sex, age = name.split(",")
        group = next(group for group in found.groups if group.group == f"sex={sex},age={age}")
        assert group.selection_rate.value == pytest.approx(rate)


def test_intervals_hold_over_many_groups() -> None:
    """Five groups with rates 0.3 to 0.5: the true largest gap is 0.2, and it is nearly always inside."""
    generator = np.random.default_rng(3)
    member = np.repeat(np.arange(5), 150)
    rates = np.array([0.3, 0.35, 0.4, 0.45, 0.5])[member]
    covered, ratios = [], []
    for _ in range(300):
        gaps = by_metric(fairness({"g": member}, generator.random(750) < rates), "g")
        parity, impact = gaps["demographic_parity_difference"].gap, gaps["disparate_impact_ratio"].gap
        covered.append(parity.low <= 0.2 <= parity.high)
        ratios.append(impact.low <= 0.6 <= impact.high)
    assert np.mean(covered) >= 0.93
    assert np.mean(ratios) >= 0.93


def test_a_group_of_two_is_not_compared() -> None:
    member = np.array(["a"] * 200 + ["b"] * 200 + ["c"] * 2)
    selected = np.arange(402) % 2 == 0
    selected[400:] = False
    gap = by_metric(fairness({"g": member}, selected), "g")["demographic_parity_difference"]
    assert gap.gap.value == 0.0
    assert "g=c" in gap.gap.note
    only = by_metric(fairness({"g": member[200:]}, selected[200:]), "g")["demographic_parity_difference"]
    assert only.gap.value is None
    assert "two groups" in only.gap.note


def test_what_cannot_be_measured_is_said() -> None:
    member = np.array(["a", "b"] * 50)
    nobody = by_metric(fairness({"g": member}, np.zeros(100, dtype=bool)), "g")
    assert nobody["demographic_parity_difference"].gap.value == 0.0
    assert nobody["disparate_impact_ratio"].gap.value is None
    assert "favourable" in nobody["disparate_impact_ratio"].gap.note
    assert nobody["equal_opportunity_difference"].gap.value is None  # no labels
    assert nobody["equalized_odds_difference"].gap.value is None
    empty = fairness({"g": np.array([], dtype=object)}, np.array([], dtype=bool))
    assert empty.groups == ()
    assert all(gap.gap.value is None for gap in empty.disparities)
    assert fairness({}, np.array([True])).disparities == ()
    with pytest.raises(ValueError, match="belong together"):
        fairness({"g": member}, np.array([True]))
    with pytest.raises(ValueError, match="minimum"):
        fairness({"g": member}, np.zeros(100, dtype=bool), minimum=0)


def test_missing_and_many_groups() -> None:
    values = np.array([None, math.nan, "x", 1.0] * 30, dtype=object)
    found = fairness({"g": values}, np.arange(120) % 3 == 0)
    assert {group.group: group.rows for group in found.groups} == {"g=(missing)": 60, "g=x": 30, "g=1": 30}
    ids = np.arange(5_000)
    many = fairness({"id": ids, "same": np.zeros(5_000)}, ids % 2 == 0)
    assert len(many.groups) == 32 + 1 + 32
    assert "not looked at" in many.disparities[0].gap.note
