"""Windows as they come in bad times, from the log through the analyst: a verdict that says so, never a crash, never rows to train on."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from goldenloop.core.phases import Verdict
from goldenloop.core.signatures import Column, Signature
from goldenloop.monitors import catalogue
from goldenloop.monitors.analyst import LogAnalyst, QualityQuestion, Span, WindowFacts
from goldenloop.monitors.catalogue import CATALOGUE
from goldenloop.monitors.catalogue.base import Asked
from goldenloop.payloads.records import Label, Prediction, Record, columns_of
from goldenloop.standards.loop import NamedMonitor
from goldenloop.testing.monitors import past_of, reference_of

ROWS = 200
NUMBERS, TEXTS = ("income", "age"), ("city", "sex")
ASKED = tuple(Asked(settings=NamedMonitor(type=monitor.name)) for monitor in CATALOGUE.values())


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> str:
    past = past_of()
    fitted, scores = catalogue.fit(past)
    made = msgspec.structs.replace(reference_of(past), fitted=fitted, scores=scores)
    path = tmp_path_factory.mktemp("reference") / "reference.json"
    path.write_bytes(msgspec.json.encode(made))
    return str(path)


def prediction(
    number: int,
    *,
    income: float = 1.0,
    city: str | None = "a",
    sex: str = "f",
    at: int | None = None,
    columns: Sequence[str] = (*NUMBERS, *TEXTS),
) -> Prediction:
    numbers = {"income": income, "age": 20.0 + number % 50}
    texts = {"city": city, "sex": sex}
    chance = 0.2 + 0.6 * (number % 2)
    return Prediction(
        id=f"id-{number:05d}",
        alias=None,
        namespace="default",
        service="loop",
        arrival_us=number,
        event_us=number * 10 if at is None else at,
        columns=columns_of(columns),
        rows=1,
        numbers=struct.pack(
            f"<{sum(name in columns for name in NUMBERS)}d", *[numbers[n] for n in NUMBERS if n in columns]
        ),
        texts=tuple(texts[name] for name in TEXTS if name in columns),
        version="1",
        reason="champion",
        answers={"1": (("yes" if chance > 0.5 else "no", (1.0 - chance, chance)),)},
        failures={},
        latency_us=1_000,
    )


def usual(number: int) -> Prediction:
    generator = np.random.default_rng(number)
    return prediction(
        number,
        income=float(generator.lognormal()),
        city=str(generator.choice(["a", "b", "c", ""])) or None,
        sex=str(generator.choice(["f", "m"])),
    )


def analyst_of(records: Sequence[Record]) -> LogAnalyst:
    waiting = [list(records)]
    analyst = LogAnalyst(lambda: waiting.pop() if waiting else [])
    analyst.expect("default", "loop", replay=True)
    analyst.sync()
    return analyst


SPAN = Span(namespace="default", service="loop", start_us=0, end_us=ROWS * 10, as_of_us=10**9)


def closed(records: Sequence[Record], reference: str) -> WindowFacts:
    return analyst_of(records).window(SPAN, "1", reference, past_of().training.signature, ASKED)


MAKERS: dict[str, Callable[[int], Prediction]] = {
    "not a number": lambda number: prediction(number, income=float("nan"), city=None),
    "infinite": lambda number: prediction(number, income=float("inf")),
    "constant": prediction,
    "never seen": lambda number: prediction(number, city="moon"),
    "vanished": lambda number: prediction(number, columns=("age", *TEXTS)),
    "type changed": lambda number: prediction(number, columns=("age", "city", "sex")),
}


@pytest.mark.parametrize("what", sorted(MAKERS))
@pytest.mark.parametrize("count", [0, 1, ROWS])
def test_every_window_is_answered(what: str, count: int, reference: str) -> None:
    facts = closed([MAKERS[what](number) for number in range(count)], reference)
    assert facts.rows == count
    assert not [each for each in facts.findings if each.verdict is Verdict.ERROR]
    measured = {each.monitor for each in facts.findings} | facts.scores.keys()
    assert measured == {name for name, monitor in CATALOGUE.items() if not monitor.needs_labels}
    assert all(np.isfinite(score) for score in facts.scores.values())


def test_usual_rows_fail_nothing(reference: str) -> None:
    facts = closed([usual(number) for number in range(ROWS)], reference)
    assert not [each for each in facts.findings if each.verdict is Verdict.FAIL]
    assert not facts.broken


@pytest.mark.parametrize(
    ("what", "monitor"),
    [("never seen", "categories"), ("infinite", "ranges"), ("not a number", "missing"), ("vanished", "schema")],
)
def test_the_monitor_in_question_fails(what: str, monitor: str, reference: str) -> None:
    facts = closed([MAKERS[what](number) for number in range(ROWS)], reference)
    assert monitor in {each.monitor for each in facts.findings if each.verdict is Verdict.FAIL}
    assert bool(facts.broken) is (what in ("vanished", "not a number"))


def test_a_type_that_changed_is_read_from_old_records_and_breaks_the_schema(reference: str) -> None:
    """A log may hold text where the model takes numbers: rows that an earlier signature wrote."""
    signature = Signature(
        inputs=(*past_of().training.signature.inputs[:-1], Column(name="sex", kind="number")),
        task="classification",
        classes=("no", "yes"),
    )
    analyst = analyst_of([usual(number) for number in range(ROWS)])
    asked = (Asked(settings=NamedMonitor(type="schema")),)
    facts = analyst.window(SPAN, "1", reference, signature, asked)
    assert facts.broken == "sex: 100% of the values are of another type"


def test_rows_that_come_twice_and_out_of_order_count_once(reference: str) -> None:
    records = [usual(number) for number in range(ROWS)]
    assert closed([*records, *records[::-1]], reference) == closed(records, reference)


def test_labels_before_their_predictions_are_found(reference: str) -> None:
    labels: list[Record] = [
        Label(prediction=f"id-{number:05d}", row=0, label="yes", observed_us=5, arrival_us=5) for number in range(ROWS)
    ]
    question = QualityQuestion(
        champion="1",
        reference=reference,
        signature=past_of().training.signature,
        expected={"1": 0.2},
        scale=1.0,
        metric="accuracy",
        asked=ASKED,
    )
    facts = analyst_of([*labels, *(usual(number) for number in range(ROWS))]).quality(SPAN, question)
    assert (facts.labelled, facts.metrics["accuracy"]) == (ROWS, 0.5)
    assert facts.residual == pytest.approx(0.3)
    none = analyst_of([usual(number) for number in range(ROWS)]).quality(SPAN, question)
    assert none.residual is None
    assert {each.verdict for each in none.findings if each.metric in ("accuracy", "calibration_error")} == {
        Verdict.INCONCLUSIVE
    }


def test_two_members_of_a_group_prove_nothing(reference: str) -> None:
    records = [prediction(number, sex="m" if number < 2 else "f") for number in range(ROWS)]
    question = QualityQuestion(
        champion="1",
        reference=reference,
        signature=past_of().training.signature,
        expected={"1": 0.2},
        scale=1.0,
        metric="accuracy",
        asked=(Asked(settings=NamedMonitor(type="fairness")),),
    )
    found = {
        (each.metric, each.feature, each.slice): each for each in analyst_of(records).quality(SPAN, question).findings
    }
    assert found["demographic_parity_difference", "sex", ""].verdict is Verdict.INCONCLUSIVE
    assert found["selection_rate", "", "sex=m"].value is None


def test_rows_of_broken_windows_are_left_out_of_training(tmp_path: Path) -> None:
    records: list[Record] = [usual(number) for number in range(ROWS)]
    records += [
        Label(prediction=f"id-{number:05d}", row=0, label="yes", observed_us=5, arrival_us=5) for number in range(ROWS)
    ]
    analyst = analyst_of(records)
    whole = analyst.training_rows(SPAN, "truth", "", str(tmp_path / "whole.parquet"), ())
    cut = analyst.training_rows(SPAN, "truth", "", str(tmp_path / "cut.parquet"), ((500, 1_000), (1_500, 10_000)))
    assert (whole.rows, cut.rows) == (ROWS, ROWS - 50 - 50)


def test_ten_thousand_columns(tmp_path: Path) -> None:
    names = [f"c{place}" for place in range(10_000)]
    signature = Signature(
        inputs=tuple(Column(name=name, kind="number") for name in names), task="regression", classes=()
    )
    generator = np.random.default_rng(0)
    past = past_of("regression")
    small = reference_of(past)
    path = tmp_path / "reference.json"
    path.write_bytes(msgspec.json.encode(small))
    rows = [
        msgspec.structs.replace(
            prediction(number), columns=columns_of(names), numbers=generator.normal(size=10_000).tobytes(), texts=()
        )
        for number in range(25)
    ]
    asked = tuple(Asked(settings=NamedMonitor(type=name)) for name in ("schema", "missing", "outliers", "ranges"))  # type: ignore[arg-type]
    facts = analyst_of(rows).window(SPAN, "1", str(path), signature, asked)
    assert facts.rows == 25
    assert not [each for each in facts.findings if each.verdict is Verdict.ERROR]
    assert len(facts.findings) < 500
