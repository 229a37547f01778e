"""The gate never passes without evidence, nor what is worse; and says why."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.phases import Verdict
from goldenloop.evaluation.gate import Evaluation, Evidence, Thresholds, judge
from goldenloop.stats.losses import zero_one_loss


def world(seed: int, rows: int, *, accuracy: float) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    """Labels of two classes and answers that are right so often."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(np.array(["no", "yes"], dtype=object), size=rows)
    return labels, answers_to(labels, seed + 1, accuracy=accuracy)


def answers_to(labels: NDArray[np.object_], seed: int, *, accuracy: float) -> NDArray[np.object_]:
    right = np.random.default_rng(seed).random(labels.size) < accuracy
    return np.where(right, labels, np.where(labels == "no", "yes", "no"))


def test_a_good_first_version_passes_and_the_record_survives_json() -> None:
    labels, answers = world(1, 400, accuracy=0.85)
    probabilities = np.where((answers == "yes")[:, None], [0.2, 0.8], [0.8, 0.2])
    found = judge(
        "classification",
        labels,
        Evidence(answers=answers, probabilities=probabilities),
        classes=("no", "yes"),
        slices={"half": np.array(["a", "b"] * 200, dtype=object)},
        training_rows=1_000,
        agreement=1.0,
    )
    assert found.verdict is Verdict.PASS
    assert "there is no champion yet" in found.reason
    assert found.challenger_metrics.keys() == {"accuracy", "macro_f1", "log_loss", "brier", "auc"}
    assert {part.rows for part in found.slices} == {200}
    assert msgspec.json.decode(msgspec.json.encode(found), type=Evaluation) == found


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000), rows=st.integers(0, 120), accuracy=st.floats(0.0, 1.0), champion=st.floats(0.0, 1.0)
)
def test_what_is_worse_than_the_baseline_or_the_champion_never_passes(
    seed: int, rows: int, accuracy: float, champion: float
) -> None:
    labels, answers = world(seed, rows, accuracy=accuracy)
    theirs = answers_to(labels, seed + 2, accuracy=champion)
    found = judge(
        "classification", labels, Evidence(answers=answers), champion=Evidence(answers=theirs), training_rows=1_000
    )
    if found.verdict is Verdict.PASS:
        assert rows >= 30
        majority = max(np.count_nonzero(labels == "no"), np.count_nonzero(labels == "yes")) / rows
        assert np.mean(answers == labels) > majority
        assert np.mean(answers == labels) >= np.mean(theirs == labels)
    else:
        assert found.reason


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), rows=st.integers(60, 200))
def test_comparing_is_symmetric(seed: int, rows: int) -> None:
    labels, first = world(seed, rows, accuracy=0.9)
    second = answers_to(labels, seed + 5, accuracy=0.8)
    one = judge("classification", labels, Evidence(answers=first), champion=Evidence(answers=second), training_rows=100)
    other = judge(
        "classification", labels, Evidence(answers=second), champion=Evidence(answers=first), training_rows=100
    )
    assert one.champion_gain is not None
    assert other.champion_gain is not None
    assert one.champion_gain.estimate == pytest.approx(-other.champion_gain.estimate)
    assert (one.challenger_loss, one.champion_loss) == (other.champion_loss, other.challenger_loss)


def test_the_champion_itself_passes_again() -> None:
    labels, answers = world(3, 300, accuracy=0.9)
    found = judge(
        "classification", labels, Evidence(answers=answers), champion=Evidence(answers=answers), training_rows=100
    )
    assert found.verdict is Verdict.PASS
    assert found.champion_gain is not None
    assert found.champion_gain.low == found.champion_gain.high == 0.0


@pytest.mark.parametrize(
    ("rows", "labelled", "training_rows", "part"),
    [(0, 0, 100, "no row"), (200, 0, 100, "no row"), (200, 20, 100, "20 labelled"), (200, 200, 10, "10 training rows")],
)
def test_too_little_is_inconclusive(rows: int, labelled: int, training_rows: int, part: str) -> None:
    labels, answers = world(4, rows, accuracy=1.0)
    labels = np.where(np.arange(rows) < labelled, labels, None)
    found = judge("classification", labels, Evidence(answers=answers), training_rows=training_rows)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert part in found.reason
    assert found.unlabelled_rows == rows - labelled


def test_one_class_cannot_be_beaten() -> None:
    labels = np.full(100, "only", dtype=object)
    found = judge("classification", labels, Evidence(answers=labels), training_rows=100)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "every label of the evaluation set is 'only'" in found.reason
    assert found.challenger_loss == 0.0


def test_answers_that_are_missing_are_losses() -> None:
    labels, answers = world(5, 300, accuracy=1.0)
    silent = np.where(np.arange(300) % 2 == 0, answers, None)
    found = judge(
        "classification", labels, Evidence(answers=silent), champion=Evidence(answers=answers), training_rows=100
    )
    assert found.verdict is Verdict.FAIL
    assert found.failures == 150
    assert found.challenger_loss == pytest.approx(zero_one_loss(labels, silent).mean()) == 0.5
    nothing = judge("regression", np.arange(100.0), Evidence(answers=np.full(100, math.nan)), training_rows=100)
    assert nothing.verdict is Verdict.FAIL
    assert nothing.challenger_metrics["mae"] is None


def test_contradictory_labels_leave_nothing_to_learn() -> None:
    labels = np.array(["a", "b"] * 100, dtype=object)  # the same rows, both labels
    found = judge("classification", labels, Evidence(answers=np.full(200, "a", dtype=object)), training_rows=100)
    assert found.verdict is Verdict.FAIL


def test_a_gain_that_is_not_certain_is_inconclusive() -> None:
    labels, answers = world(6, 60, accuracy=0.58)
    found = judge("classification", labels, Evidence(answers=answers), training_rows=100)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "includes 0" in found.reason


def test_a_margin_lets_a_little_worse_through() -> None:
    labels, answers = world(7, 500, accuracy=0.9)
    worse = answers.copy()
    worse[:8] = ["no" if label == "yes" else "yes" for label in labels[:8]]
    strict = judge(
        "classification", labels, Evidence(answers=worse), champion=Evidence(answers=answers), training_rows=100
    )
    assert strict.verdict is Verdict.FAIL
    assert "higher than the champion's" in strict.reason
    lenient = judge(
        "classification",
        labels,
        Evidence(answers=worse),
        champion=Evidence(answers=answers),
        training_rows=100,
        thresholds=Thresholds(margin=0.03),
    )
    assert lenient.verdict is Verdict.PASS


def test_a_slice_that_suffers_is_named() -> None:
    labels, answers = world(8, 600, accuracy=0.8)
    group = np.array(["big"] * 540 + ["small"] * 60, dtype=object)
    better = answers.copy()
    better[:540] = labels[:540]
    better[540:] = answers_to(labels[540:], 9, accuracy=0.2)
    found = judge(
        "classification",
        labels,
        Evidence(answers=better),
        champion=Evidence(answers=answers),
        slices={"group": group},
        training_rows=100,
    )
    assert found.verdict is Verdict.FAIL
    assert "where group is small" in found.reason
    assert [part.worse for part in found.slices] == [False, True]
    tiny = judge(
        "classification",
        labels,
        Evidence(answers=better),
        champion=Evidence(answers=answers),
        slices={"group": group},
        training_rows=100,
        thresholds=Thresholds(min_slice_rows=61),
    )
    assert tiny.verdict is Verdict.PASS
    assert tiny.slices[1].p is None


def test_equal_models_are_seldom_refused_for_a_slice() -> None:
    refused = 0
    for seed in range(60):
        labels, first = world(100 + seed, 400, accuracy=0.8)
        second = answers_to(labels, 900 + seed, accuracy=0.8)
        cuts = {
            f"s{i}": np.random.default_rng(seed + i).choice(np.array(["a", "b", "c"], dtype=object), 400)
            for i in range(5)
        }
        found = judge(
            "classification",
            labels,
            Evidence(answers=first),
            champion=Evidence(answers=second),
            slices=cuts,
            training_rows=100,
        )
        refused += any(part.worse for part in found.slices)
    assert refused / 60 <= 0.05 + 2.0 * math.sqrt(0.05 * 0.95 / 60)


def test_a_conversion_that_differs_fails() -> None:
    labels, answers = world(10, 300, accuracy=0.95)
    for agreement in (0.9, math.nan):
        found = judge("classification", labels, Evidence(answers=answers), training_rows=100, agreement=agreement)
        assert found.verdict is Verdict.FAIL
        assert "converted model" in found.reason


def test_regression_is_judged_against_the_mean_and_on_slices() -> None:
    generator = np.random.default_rng(11)
    labels = generator.normal(10.0, 3.0, size=400)
    close, closer = labels + generator.normal(size=400), labels + 0.5 * generator.normal(size=400)
    cuts = {"side": np.array(["left", "right"] * 200, dtype=object)}
    good = judge(
        "regression", labels, Evidence(answers=closer), champion=Evidence(answers=close), slices=cuts, training_rows=100
    )
    assert good.verdict is Verdict.PASS
    assert good.baseline == pytest.approx(labels.mean())
    assert good.loss_scale == pytest.approx(np.subtract(*np.quantile(labels, (0.95, 0.05))))
    bad = judge(
        "regression", labels, Evidence(answers=close), champion=Evidence(answers=closer), slices=cuts, training_rows=100
    )
    assert bad.verdict is Verdict.FAIL
    assert all(part.worse for part in bad.slices)


def test_a_baseline_from_training_can_be_given() -> None:
    labels, answers = world(12, 200, accuracy=0.9)
    found = judge("classification", labels, Evidence(answers=answers), training_rows=100, baseline="never seen")
    assert found.baseline_loss == 1.0


def test_rows_that_do_not_match_are_refused() -> None:
    with pytest.raises(InvalidSpecError, match="challenger: 2 rows do not match 3 labels"):
        judge("classification", np.array(["a"] * 3), Evidence(answers=np.array(["a"] * 2)), training_rows=1)
    with pytest.raises(InvalidSpecError, match=r"slices\.s: 1 rows"):
        judge(
            "classification",
            np.array(["a"] * 3),
            Evidence(answers=np.array(["a"] * 3)),
            slices={"s": np.array(["x"], dtype=object)},
            training_rows=1,
        )
    with pytest.raises(InvalidSpecError, match="rows of probabilities"):
        judge(
            "classification",
            np.array(["a"]),
            Evidence(answers=np.array(["a"]), probabilities=np.ones((2, 1))),
            training_rows=1,
        )
    with pytest.raises(InvalidSpecError, match="Regression needs numbers"):
        judge("regression", np.array(["a"]), Evidence(answers=np.array([1.0])), training_rows=1)


def test_a_model_that_is_nearly_always_right_is_certain_on_few_rows() -> None:
    labels = np.array(["a", "b"] * 40, dtype=object)
    said = labels.copy()
    said[[5, 50]] = ["a", "b"]
    probabilities = np.where(said[:, None] == np.array(["a", "b"], dtype=object), 0.99, 0.01).astype(np.float64)
    judged = judge(
        "classification",
        labels,
        Evidence(answers=said, probabilities=probabilities),
        classes=("a", "b"),
        training_rows=320,
    )
    assert judged.verdict is Verdict.PASS, judged.reason
