"""Calibration, fairness, robustness, leakage and labels; and what checks mean for a verdict."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from subjects import by_income, regression, subject

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.phases import Verdict
from goldenloop.evaluation.checks import Check, Finding, carried_out, concluded
from goldenloop.evaluation.examining import Training, examine
from goldenloop.evaluation.gate import Evidence
from goldenloop.evaluation.leakage import best_columns, contradictions, duplicates, smell_leakage
from goldenloop.evaluation.quality import check_calibration, check_fairness
from goldenloop.evaluation.rows import row_codes
from goldenloop.evaluation.stability import check_robustness
from goldenloop.standards.evaluation import (
    CalibrationCheck,
    EvaluationSpec,
    FairnessCheck,
    LabelCheck,
    LeakageCheck,
    RobustnessCheck,
)
from goldenloop.stats.losses import Values


def check(name: str, verdict: Verdict, *, mode: str = "block", applies: bool = True) -> Check:
    return Check(name=name, mode=mode, verdict=verdict, reason=f"{name} said so", applies=applies)  # type: ignore[arg-type]


# what checks mean


def test_blocking_checks_stop_what_the_gate_lets_through_and_nothing_else() -> None:
    passed = (Verdict.PASS, "good")
    assert concluded(*passed, [check("a", Verdict.PASS), check("b", Verdict.FAIL, mode="warn")]) == passed
    assert concluded(*passed, [check("a", Verdict.INCONCLUSIVE, applies=False)]) == passed
    failed = concluded(*passed, [check("a", Verdict.ERROR), check("b", Verdict.FAIL)])
    assert failed == (Verdict.FAIL, "b: b said so")
    for verdict in (Verdict.ERROR, Verdict.INCONCLUSIVE):
        stopped, why = concluded(*passed, [check("a", verdict)])
        assert stopped is Verdict.INCONCLUSIVE
        assert "a check that has to pass came to nothing: a: a said so" in why
    assert concluded(Verdict.FAIL, "worse", [check("a", Verdict.PASS)]) == (Verdict.FAIL, "worse")


def test_a_check_that_raises_is_an_error_and_never_a_pass() -> None:
    def broken() -> Finding:
        raise ZeroDivisionError("by zero")

    made = carried_out("mine", "block", broken)
    assert made is not None
    assert made.verdict is Verdict.ERROR
    assert made.blocks
    assert "ZeroDivisionError: by zero" in made.reason
    assert carried_out("mine", "off", broken) is None


def test_all_checks_run_even_where_some_cannot() -> None:
    def broken() -> Finding:
        raise OSError("no room")

    seen = subject(0)
    training = Training(columns=seen.columns, labels=seen.labels, until_us=None, evaluation_times=None)
    made = examine(seen, training, EvaluationSpec(), margin=0.0, cost=broken)
    names = ["slices", "calibration", "fairness", "robustness", "serving", "leakage", "labels"]
    assert [each.name for each in made] == names
    assert not any(each.applies and each.verdict is Verdict.PASS for each in made)


# calibration


def test_probabilities_that_come_true_pass_and_boasting_fails() -> None:
    assert check_calibration(subject(4_000), CalibrationCheck()).verdict is Verdict.PASS

    def boasting(columns: dict[str, Values]) -> np.ndarray:
        return np.clip(by_income(columns) * 1.6 - 0.3, 0.01, 0.99)

    found = check_calibration(subject(4_000, rule=boasting), CalibrationCheck())
    assert found.verdict is Verdict.FAIL
    assert "Spiegelhalter's test p" in found.reason
    assert found.evidence["points"]


def test_calibration_without_evidence_is_inconclusive() -> None:
    few = check_calibration(subject(50), CalibrationCheck())
    assert few.verdict is Verdict.INCONCLUSIVE
    assert "50 rows are too few" in few.reason
    seen = subject()
    without = dataclasses.replace(seen, challenger=Evidence(answers=seen.challenger.answers))
    assert check_calibration(without, CalibrationCheck()).verdict is Verdict.INCONCLUSIVE
    unknown = dataclasses.replace(
        seen, challenger=Evidence(answers=seen.challenger.answers, probabilities=np.full((seen.rows, 2), np.nan))
    )
    assert check_calibration(unknown, CalibrationCheck()).verdict is Verdict.INCONCLUSIVE
    assert not check_calibration(regression(), CalibrationCheck()).applies


# fairness


def test_groups_that_are_treated_alike_pass_and_others_fail() -> None:
    seen = subject(2_000)
    sex = np.random.default_rng(1).choice(np.array(["f", "m"], dtype=object), 2_000)
    fair = dataclasses.replace(seen, protected={"sex": sex})
    assert check_fairness(fair, FairnessCheck()).verdict is Verdict.PASS
    answers = np.where(sex == "f", "no", seen.challenger.answers)
    unfair = dataclasses.replace(fair, challenger=Evidence(answers=answers))
    found = check_fairness(unfair, FairnessCheck())
    assert found.verdict is Verdict.FAIL
    assert "between sex=f and sex=m" in found.reason
    for metric in ("equalOpportunity", "demographicParity"):
        assert check_fairness(unfair, FairnessCheck(metric=metric)).verdict is Verdict.FAIL
    assert check_fairness(unfair, FairnessCheck(max_gap=1.0)).verdict is Verdict.PASS


def test_a_group_of_two_is_inconclusive_and_no_protected_column_is_nothing_to_look_at() -> None:
    seen = subject(400)
    tiny = dataclasses.replace(seen, protected={"sex": np.where(np.arange(400) < 2, "x", "f").astype(object)})
    found = check_fairness(tiny, FairnessCheck())
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "fewer than two groups are large enough" in found.reason
    assert not check_fairness(seen, FairnessCheck()).applies
    with pytest.raises(InvalidSpecError, match="no class 'maybe'"):
        check_fairness(tiny, FairnessCheck(favourable="maybe"))


def test_values_are_compared_by_their_loss() -> None:
    seen = regression(1_000)
    half = np.where(np.arange(1_000) % 2 == 0, "a", "b").astype(object)
    alike = dataclasses.replace(seen, protected={"group": half})
    assert check_fairness(alike, FairnessCheck()).verdict is Verdict.PASS
    worse = dataclasses.replace(alike, losses=np.where(half == "a", 0.5, 0.1) + seen.losses)
    assert check_fairness(worse, FairnessCheck()).verdict is Verdict.FAIL


# robustness


def test_a_smooth_model_stands_noise_and_a_brittle_one_does_not() -> None:
    assert check_robustness(subject(1_000), RobustnessCheck()).verdict is Verdict.PASS
    assert check_robustness(regression(), RobustnessCheck()).verdict is Verdict.PASS

    def brittle(columns: dict[str, Values]) -> np.ndarray:
        return np.round(np.asarray(columns["income"], dtype=np.float64) * 10.0) % 2.0

    found = check_robustness(subject(1_000, rule=brittle), RobustnessCheck())
    assert found.verdict is Verdict.FAIL
    assert "change by jitter" in found.reason
    assert check_robustness(subject(10), RobustnessCheck()).verdict is Verdict.INCONCLUSIVE


def test_missing_values_are_noise_where_the_data_has_them() -> None:
    seen = subject(500)
    income = np.asarray(seen.columns["income"], dtype=np.float64).copy()
    income[::4] = np.nan
    found = check_robustness(dataclasses.replace(seen, columns={**seen.columns, "income": income}), RobustnessCheck())
    effects = {effect["noise"]: effect["flips"]["value"] for effect in found.evidence["effects"]}  # type: ignore[union-attr, index, call-overload]
    assert effects["missing"] > 0.15
    assert found.verdict is Verdict.FAIL  # a quarter of the answers is missing then


def test_constant_columns_have_no_noise() -> None:
    columns: dict[str, Values] = {
        "income": np.full(100, 60.0),
        "age": np.ones(100),
        "city": np.full(100, "Oslo", object),
    }
    assert not check_robustness(dataclasses.replace(subject(100), columns=columns), RobustnessCheck()).applies


# leakage and labels


def smell(rows: int = 400, **changed: object) -> Finding:
    seen, past = subject(rows), subject(1_000, seed=9)
    given: dict[str, object] = {
        "training": past.columns,
        "training_labels": past.labels,
        "evaluation_times": np.arange(1_000, 1_000 + rows),
        "training_until_us": 999,
        **changed,
    }
    return smell_leakage(seen, LeakageCheck(), **given)  # type: ignore[arg-type]


def test_nothing_is_smelled_in_clean_data() -> None:
    found = smell()
    assert found.verdict is Verdict.PASS, found.reason


def test_evaluation_rows_earlier_than_training_are_smelled() -> None:
    found = smell(training_until_us=1_100)
    assert found.verdict is Verdict.FAIL
    assert "25.2% of the evaluation rows are earlier" in found.reason or "25.0% of" in found.reason


def test_rows_that_were_trained_on_are_smelled_and_natural_repeats_are_not() -> None:
    seen = subject(400)
    both = {name: np.concatenate([np.asarray(values), np.asarray(values)]) for name, values in seen.columns.items()}
    fresh = subject(1_000, seed=9)
    training = {
        name: np.concatenate([np.asarray(fresh.columns[name]), np.asarray(seen.columns[name])]) for name in both
    }
    labels = np.concatenate([fresh.labels, seen.labels])
    found = smell(training=training, training_labels=labels)
    assert found.verdict is Verdict.FAIL
    assert "100.0% of the evaluation rows are in the training data" in found.reason
    generator = np.random.default_rng(0)
    coins = [{"coin": generator.choice(np.array(["h", "t"], dtype=object), 500)} for _ in range(2)]
    shared, usual = duplicates(coins[0], np.zeros(500), coins[1], np.zeros(500))
    assert shared == usual == 1.0  # with two different rows everything repeats, which smells of nothing


def test_a_column_that_tells_the_label_alone_is_found_whatever_its_shape() -> None:
    generator = np.random.default_rng(2)
    rows = 600
    labels = np.where(generator.random(rows) < 0.4, "yes", "no").astype(object)
    columns: dict[str, Values] = {
        "noise": generator.normal(size=rows),
        "order": (labels == "yes") + generator.normal(0, 0.01, rows),
        "far": np.where(labels == "yes", generator.choice([-5.0, 5.0], rows), generator.normal(0, 0.1, rows)),
        "code": np.where(labels == "yes", "A", generator.choice(np.array(["B", "C"], dtype=object), rows)),
        "empty": np.full(rows, np.nan),
    }
    kinds = {name: "category" if name == "code" else "number" for name in columns}
    scores = dict(best_columns(columns, kinds, labels, task="classification"))  # type: ignore[arg-type]
    assert min(scores["order"], scores["far"], scores["code"]) > 0.99
    assert scores["noise"] < 0.65
    assert scores["empty"] == pytest.approx(0.5)
    values = generator.normal(size=rows)
    told = dict(
        best_columns(
            {"square": values, "noise": columns["noise"]}, kinds | {"square": "number"}, values**2, task="regression"
        )
    )  # type: ignore[arg-type]
    assert told["square"] > 0.8
    assert told["noise"] < 0.2
    assert best_columns(columns, kinds, np.full(rows, "yes", dtype=object), task="classification") == []  # type: ignore[arg-type]


def test_labels_that_contradict_each_other_are_counted() -> None:
    columns: dict[str, Values] = {
        name: np.asarray(values)[:1].repeat(100) for name, values in subject(100).columns.items()
    }
    labels = np.where(np.arange(100) < 30, "yes", "no").astype(object)
    seen = dataclasses.replace(subject(100), columns=columns, labels=labels)
    found = contradictions(seen, LabelCheck())
    assert found.verdict is Verdict.FAIL
    assert "no model can be right on more than 70.0%" in found.reason
    assert contradictions(subject(100), LabelCheck()).verdict is Verdict.PASS
    numbers = dataclasses.replace(regression(100), columns=columns, labels=np.where(np.arange(100) < 30, 0.0, 100.0))
    assert contradictions(numbers, LabelCheck()).evidence["contradicting"] == pytest.approx(0.3)
    assert not contradictions(subject(0), LabelCheck()).applies


def test_rows_are_equal_where_all_their_values_are() -> None:
    columns: dict[str, Values] = {
        "x": np.array([1.0, np.nan, 1.0, np.nan, 2.0]),
        "c": np.array(["a", None, "a", None, "a"], dtype=object),
    }
    codes = row_codes(columns).tolist()
    assert codes[0] == codes[2] != codes[4]
    assert codes[1] == codes[3]
    assert len({*codes}) == 3
    with pytest.raises(ValueError, match="not one table"):
        row_codes({"x": np.ones(2), "y": np.ones(3)})
