"""Behavioural tests: they hold, fail with counterexamples, or say why they cannot be carried out."""

from __future__ import annotations

import numpy as np
import pytest
from subjects import by_income, regression, subject

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import Verdict
from goldenloop.evaluation.behaviour import run_test
from goldenloop.standards.documents import convert
from goldenloop.standards.evaluation import BehaviourTest, EvaluationSpec, change_of, check_evaluation
from goldenloop.stats.losses import Values


def a_test(**given: object) -> BehaviourTest:
    return convert({"name": "it", **given}, BehaviourTest, where="behaviour")


def unfair(columns: dict[str, Values]) -> np.ndarray:
    return by_income(columns) * np.where(np.asarray(columns["city"]) == "Voss", 0.2, 1.0)


def test_what_does_not_matter_does_not_change_the_answer() -> None:
    cities = {"city": ["Bergen", "Oslo", "Voss"]}
    assert run_test(subject(), a_test(invariance=cities)).verdict is Verdict.PASS
    found = run_test(subject(rule=unfair), a_test(invariance=cities))
    assert found.verdict is Verdict.FAIL
    assert 0.3 < found.evidence["share"] < 0.8  # type: ignore[operator]
    examples = found.evidence["counterexamples"]
    assert isinstance(examples, list)
    assert len(examples) == 3
    assert run_test(regression(), a_test(invariance={"age": [20, 70]})).verdict is Verdict.PASS


def test_a_probability_may_move_by_a_tolerance() -> None:
    cities = {"city": ["Oslo", "Voss"]}
    assert run_test(subject(rule=unfair), a_test(invariance=cities, tolerance=0.9)).verdict is Verdict.PASS
    assert run_test(subject(rule=unfair), a_test(invariance=cities, tolerance=0.01)).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("direction", "verdict"),
    [
        ({"column": "income", "change": "+10%", "expect": "up"}, Verdict.PASS),
        ({"column": "income", "change": -5, "expect": "up"}, Verdict.FAIL),
        ({"column": "income", "change": 5, "expect": "down", "of": "no"}, Verdict.PASS),
        ({"column": "age", "change": 1, "expect": "up"}, Verdict.PASS),
    ],
    ids=["helps", "hurts", "other class", "no effect"],
)
def test_directions(direction: JsonObject, verdict: Verdict) -> None:
    assert run_test(subject(), a_test(direction=direction)).verdict is verdict


def test_a_direction_of_values() -> None:
    up = {"column": "income", "change": 1, "expect": "up"}
    assert run_test(regression(), a_test(direction=up)).verdict is Verdict.PASS
    assert run_test(regression(), a_test(direction={**up, "expect": "down"})).verdict is Verdict.FAIL


def test_cases_that_must_be_right() -> None:
    rows = [{"income": 90, "city": "Oslo", "repaid": "yes"}, {"income": 10, "age": 30, "repaid": "no"}]
    assert run_test(subject(), a_test(minimum={"rows": rows, "atLeast": 1.0})).verdict is Verdict.PASS
    wrong = [*rows, {"income": 90, "repaid": "no"}]
    found = run_test(subject(), a_test(minimum={"rows": wrong, "atLeast": 1.0}))
    assert found.verdict is Verdict.FAIL
    assert "accuracy is 0.6667 on 3 written cases; at least 1 is asked for" in found.reason
    error = {"rows": [{"income": 40, "repaid": 81}], "metric": "mae", "atMost": 2}
    assert run_test(regression(), a_test(minimum=error)).verdict is Verdict.PASS


def test_a_minimum_on_a_part_needs_rows() -> None:
    assert run_test(subject(), a_test(minimum={"where": {"city": "Oslo"}, "atLeast": 0.6})).verdict is Verdict.PASS
    seen = subject()
    seen.columns["city"][:3] = "Moss"  # type: ignore[index]
    found = run_test(seen, a_test(minimum={"where": {"city": "Moss"}, "atLeast": 0.6}))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "on 3 rows where city is Moss nothing can be said; 30 rows are needed" in found.reason


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"invariance": {"citi": ["a", "b"]}}, "there is no column 'citi'. Did you mean 'city'"),
        ({"invariance": {"age": ["old", "young"]}}, "column 'age' holds numbers"),
        ({"direction": {"column": "city", "change": 1, "expect": "up"}}, "holds categories, which have no direction"),
        ({"direction": {"column": "age", "change": 1, "expect": "up", "of": "perhaps"}}, "no class 'perhaps'"),
        ({"minimum": {"rows": [{"income": 1}], "atLeast": 1}}, "row 0 has no 'repaid'"),
        ({"minimum": {"where": {"city": "Oslo"}, "atLeast": 1, "metric": "f2"}}, "no metric 'f2'"),
        ({"invariance": {"age": list(range(9)), "income": list(range(9))}}, "81 combinations"),
    ],
    ids=["column", "kind", "category", "class", "label", "metric", "combinations"],
)
def test_what_cannot_be_carried_out_is_an_error_that_says_why(given: JsonObject, said: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        run_test(subject(), a_test(**given))
    assert said in str(caught.value)


def test_answers_that_are_missing_hold_nothing() -> None:
    silent = subject(rule=lambda columns: np.full(len(columns["age"]), np.nan))
    assert run_test(silent, a_test(invariance={"city": ["Oslo", "Voss"]})).verdict is Verdict.FAIL
    up = {"column": "income", "change": 1, "expect": "up"}
    assert run_test(silent, a_test(direction=up)).verdict is Verdict.FAIL


def test_no_rows_are_no_evidence() -> None:
    assert run_test(subject(0), a_test(invariance={"city": ["Oslo", "Voss"]})).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ([{"name": "a"}], "asks for one thing"),
        ([{"name": "a", "invariance": {"x": [1, 2]}, "minimum": {"where": {"x": 1}, "atLeast": 1}}], "one thing"),
        ([{"name": "a", "invariance": {"x": [1]}}], "leave nothing to compare"),
        ([{"name": "a", "direction": {"column": "x", "change": "much", "expect": "up"}}], "'much' is not a change"),
        ([{"name": "a", "minimum": {"atLeast": 1}}], "it must say which rows"),
        ([{"name": "a", "minimum": {"where": {"x": 1}}}], "it must give one bound"),
        ([{"name": "a", "invariance": {"x": [1, 2]}}] * 2, "not a name of its own"),
    ],
    ids=["nothing", "two", "one value", "change", "rows", "bound", "name"],
)
def test_tests_that_mean_nothing_are_refused_when_they_are_written(behaviour: list[JsonObject], said: str) -> None:
    spec = convert({"behaviour": behaviour}, EvaluationSpec, where="spec.evaluation")
    with pytest.raises(InvalidSpecError) as caught:
        check_evaluation(spec)
    assert said in str(caught.value)
    assert caught.value.where.startswith("spec.evaluation.behaviour")


def test_changes_are_read() -> None:
    assert change_of("-25%") == (-0.25, True)
    assert change_of("3") == (3.0, False)
    with pytest.raises(InvalidSpecError):
        change_of(0)
