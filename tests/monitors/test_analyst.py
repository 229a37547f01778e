"""What the analyst says about a log: joins, late labels, cuts, missing labels, empty windows."""

from __future__ import annotations

import struct
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.signatures import Column, Signature
from goldenloop.monitors.analyst import LogAnalyst, QualityQuestion, Span
from goldenloop.monitors.catalogue.base import FEWEST_ROWS, Asked
from goldenloop.monitors.comparing import Comparison
from goldenloop.monitors.reference import Reference, split_watch
from goldenloop.payloads import ledger
from goldenloop.payloads.ledger import Ledger
from goldenloop.payloads.records import Label, Prediction, Record
from goldenloop.standards.loop import NamedMonitor

BOTH = Comparison(champion="1", challenger="2", task="classification", scale=1.0)
SIGNATURE = Signature(inputs=(Column(name="x", kind="number"),), task="classification", classes=("no", "yes"))


def predicted(
    number: int,
    *,
    at: int | None = None,
    alias: str | None = None,
    answers: dict[str, str | None] | None = None,
    by: str = "1",
    service: str = "loop",
) -> Prediction:
    """Request `number`; an answer None is a failure."""
    said = {"1": "yes"} if answers is None else answers
    return Prediction(
        id=f"id-{number:05d}",
        alias=alias,
        namespace="default",
        service=service,
        arrival_us=number,
        event_us=number * 10 if at is None else at,
        columns='["x"]',
        rows=1,
        numbers=struct.pack("<d", number),
        texts=(),
        version=by,
        reason="champion",
        answers={version: ((value, ()),) for version, value in said.items() if value is not None},
        failures={version: "it broke" for version, value in said.items() if value is None},
        latency_us=1_000,
    )


def labelled(number: int, label: str, *, at: int, name: str | None = None) -> Label:
    return Label(prediction=name or f"id-{number:05d}", row=0, label=label, observed_us=at, arrival_us=at)


def analyst_of(records: list[Record]) -> LogAnalyst:
    waiting = [records]
    analyst = LogAnalyst(lambda: waiting.pop() if waiting else [])
    analyst.expect("default", "loop", replay=True)
    analyst.sync()
    return analyst


def question(reference: str = "") -> QualityQuestion:
    """With a reference, what the performance monitor finds is asked for too."""
    return QualityQuestion(
        champion="1",
        reference=reference,
        signature=SIGNATURE,
        expected={"1": 0.1},
        scale=1.0,
        metric="accuracy",
        asked=(Asked(settings=NamedMonitor(type="performance")),) if reference else (),
    )


def reference_in(folder: Path) -> str:
    """The file of a reference of three windows."""
    columns, kinds = {"x": np.arange(90.0)}, {"x": "number"}
    windows = [np.arange(start, start + 30) for start in (0, 30, 60)]
    watched = split_watch(columns, kinds, windows)  # type: ignore[arg-type]  # the kinds are literals
    made = Reference(
        task="classification",
        features=watched,
        answers=watched,
        loss_scale=1.0,
        usual_loss=0.1,
        expected_loss=0.1,
        loss_windows=(),
    )
    (folder / "reference.json").write_bytes(msgspec.json.encode(made))
    return str(folder / "reference.json")


def span(start: int, end: int, *, as_of: int = 10**9, places: tuple[int, int] | None = None) -> Span:
    return Span(namespace="default", service="loop", start_us=start, end_us=end, as_of_us=as_of, places=places)


@settings(max_examples=30)
@given(st.randoms(use_true_random=False))
def test_the_order_in_which_a_log_is_read_changes_no_answer(random: object) -> None:
    """Rows before their labels, labels before their rows, and everything twice."""
    count = 60
    records: list[Record] = [
        predicted(number, answers={"1": "yes", "2": "no" if number % 3 else "yes"}) for number in range(count)
    ]
    records += [labelled(number, "yes" if number % 2 else "no", at=number * 10 + 55) for number in range(0, count, 2)]
    shuffled = [*records, *records[:20]]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    asked = span(100, 500, as_of=400)
    found = []
    for each in (records, shuffled):
        analyst = analyst_of(each)
        found.append(
            (
                analyst.quality(asked, question()),
                analyst.compare(asked, BOTH),
                analyst.new_labels("default", "loop", 100, 300),
                analyst.sync()["default/loop"].labelled,
            )
        )
    assert found[0] == found[1]
    assert found[0][3] == 30


def test_a_label_that_came_after_the_cut_is_not_there_yet() -> None:
    records: list[Record] = [predicted(number) for number in range(30)]
    records += [labelled(number, "no", at=1_000 + number) for number in range(30)]
    analyst = analyst_of(records)

    def known(as_of: int) -> int:
        return analyst.quality(span(0, 300, as_of=as_of), question()).labelled

    assert (known(999), known(1_000), known(1_014), known(1_029)) == (0, 1, 15, 30)


def test_a_label_finds_its_request_by_the_clients_own_id_and_only_the_first_counts(tmp_path: Path) -> None:
    records: list[Record] = [predicted(number, alias=f"order-{number}") for number in range(25)]
    records += [labelled(number, "yes", at=500, name=f"order-{number}") for number in range(25)]
    records += [labelled(number, "no", at=400) for number in range(25)]
    facts = analyst_of(records).quality(span(0, 250), question(reference_in(tmp_path)))
    assert (facts.labelled, facts.metrics["accuracy"]) == (25, 1.0)
    assert facts.residual == pytest.approx(-0.1)


def test_labels_without_a_request_wait_and_are_counted() -> None:
    analyst = analyst_of([predicted(1), labelled(9, "no", at=5)])
    assert analyst.sync()["default/loop"].waiting_labels == 1


def test_a_missing_label_counts_against_the_challenger_where_the_two_differ() -> None:
    records: list[Record] = [predicted(number, answers={"1": "yes", "2": "yes"}) for number in range(4)]
    records += [predicted(number, answers={"1": "yes", "2": "no"}) for number in range(4, 10)]
    records += [labelled(4, "no", at=200), labelled(5, "yes", at=200)]
    analyst = analyst_of(records)
    facts = analyst.compare(span(0, 100), BOTH)
    assert facts.bounded == (0.0, 0.0, 0.0, 0.0, 1.0, -1.0, -1.0, -1.0, -1.0, -1.0)
    assert facts.differences == (1.0, -1.0)
    assert (facts.labelled, facts.missing) == (2, 8)
    assert facts.directions == (0, 0, 1, 1, 1, 1)  # one way, four of them without a label


def test_a_challenger_that_fails_loses_and_one_that_was_not_asked_is_left_out() -> None:
    records: list[Record] = [predicted(0, answers={"1": "yes", "2": None}), predicted(1, answers={"1": "yes"})]
    records += [predicted(2, answers={"1": None, "2": "yes"}, by="2")]
    records += [labelled(number, "yes", at=100) for number in range(3)]
    facts = analyst_of(records).compare(span(0, 100), BOTH)
    assert facts.differences == (-1.0,)
    assert (facts.challenger_failures, facts.unscored) == (1, 2)


def test_a_window_with_few_rows_or_few_labels_says_nothing(tmp_path: Path) -> None:
    analyst = analyst_of([predicted(number) for number in range(FEWEST_ROWS - 1)])
    reference = tmp_path / "reference.json"
    with pytest.raises(InvalidSpecError, match="cannot be read"):
        analyst.window(span(0, 10_000), "1", str(reference), SIGNATURE, ())
    quality = analyst.quality(span(0, 10_000), question())
    assert (quality.labelled, quality.residual, quality.metrics) == (0, None, {})
    empty = analyst.compare(span(50_000, 60_000), BOTH)
    assert empty.differences == ()


def test_rows_to_train_on_are_those_with_a_label_and_whole(tmp_path: Path) -> None:
    records: list[Record] = [predicted(number) for number in range(10)]
    records += [labelled(number, "yes", at=50) for number in range(5)]
    analyst = analyst_of(records)
    path = tmp_path / "rows.parquet"
    facts = analyst.training_rows(span(10, 10_000), "truth", "at", str(path))
    assert facts.rows == 4
    table = pq.read_table(path)
    assert table.column_names == ["x", "truth", "at"]
    assert table.column("x").to_pylist() == [1.0, 2.0, 3.0, 4.0]
    assert [file.name for file in tmp_path.iterdir()] == ["rows.parquet"]
    nothing = analyst.training_rows(span(60, 100), "truth", "at", str(tmp_path / "none.parquet"))
    assert (nothing.rows, nothing.path) == (0, None)


def test_rows_that_leave_memory_keep_the_places_of_those_that_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "ROWS_KEPT", 300)
    kept = Ledger(event_time_labels=True)
    for number in range(1_000):
        kept.add_prediction(predicted(number))
    assert len(kept) == 1_000
    assert kept.event_time_at(950) == 9_500
    assert kept.count_before(9_500) == 950
    rows = kept.slice(940, 960)
    assert rows.columns["x"] == [float(number) for number in range(940, 960)]
    assert len(kept.slice(0, 1_000)) <= 300
    assert list(kept.slice(0, 10).ids) == []
    assert not kept.add_label(labelled(3, "yes", at=5))
    assert kept.add_label(labelled(999, "yes", at=5))


def test_answers_of_several_services_do_not_mix() -> None:
    analyst = analyst_of([predicted(1), predicted(2, service="other"), labelled(2, "yes", at=30)])
    summaries = analyst.sync()
    assert {name: (each.rows, each.labelled) for name, each in summaries.items()} == {
        "default/loop": (1, 0),
        "default/other": (1, 1),
    }
    assert isinstance(analyst.event_time_at("default", "other", 0), int | np.integer)
