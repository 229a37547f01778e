"""What the log says about two versions: on the same requests, and on requests that were dealt out between them."""

from __future__ import annotations

import math

import msgspec
import pytest

from goldenloop.monitors.comparing import Comparison, beside, compare, has_units
from goldenloop.payloads.ledger import Ledger, Rows
from goldenloop.payloads.records import Answer, Label, Prediction

ASKED = Comparison(champion="1", challenger="2", task="classification", scale=1.0)
SPLIT = msgspec.structs.replace(ASKED, split=True)


def request(
    number: int,
    *,
    ours: str | None = "yes",
    theirs: str | None = "no",
    by: str = "1",
    reason: str = "champion",
    unit: str = "",
    rows: int = 1,
    place: str = "north",
    took: dict[str, int] | None = None,
) -> Prediction:
    said = {"1": ours, "2": theirs}
    return Prediction(
        id=f"id-{number:05d}",
        alias=None,
        namespace="default",
        service="loop",
        arrival_us=number,
        event_us=number,
        columns='["place"]',
        rows=rows,
        numbers=b"",
        texts=(place,) * rows,
        version=by,
        reason=reason,
        answers={version: ((answer, ()),) * rows for version, answer in said.items() if answer is not None},
        failures={version: "it broke" for version, answer in said.items() if answer is None},
        latency_us=1_000,
        unit=unit,
        scored_us=took or {},
    )


def rows_of(*records: Prediction, labels: dict[int, str] | None = None) -> Rows:
    ledger = Ledger()
    for record in records:
        ledger.add_prediction(record)
    for number, label in (labels or {}).items():
        for row in range(3):
            ledger.add_label(Label(f"id-{number:05d}", row, label, None, 10))
    return ledger.between(0, 1_000_000)


def test_whose_turn_it_was_counts_and_not_who_answered() -> None:
    rows = rows_of(
        request(0, by="2", reason="canary"),
        request(1, by="1", reason="fallback", theirs=None),  # it was the challenger's turn, and it broke
        request(2, by="1", reason="baseline"),
        request(3, by="1", reason="champion"),  # of neither
        request(4, by="2", reason="asked"),  # somebody asked for this version
        request(5, by="1", reason="baseline"),
        labels={0: "yes", 1: "yes", 2: "yes", 3: "yes", 4: "yes"},
    )
    facts = compare(rows, SPLIT, None)
    assert facts.turns == (True, True, False)
    assert facts.losses == (1.0, 1.0, 0.0)
    assert (facts.labelled, facts.missing, facts.challenger_failures) == (3, 1, 1)
    assert facts.bounded_losses == (1.0, 1.0, 0.0, 0.0)  # a missing label of the baseline's is in its favour
    assert facts.unlabelled == (False, False, False, True)


def test_of_a_key_only_the_first_request_counts_also_when_it_came_earlier() -> None:
    one = {"by": "2", "reason": "sticky", "unit": "k1"}
    earlier = rows_of(request(0, **one), request(1, by="1", reason="champion", unit="k2"), labels={0: "yes", 1: "yes"})  # type: ignore[arg-type]
    rows = rows_of(
        request(10, **one),  # type: ignore[arg-type]
        request(11, by="2", reason="sticky", unit="k2"),  # before, it was of neither
        request(12, by="2", reason="sticky", unit="k2"),
        labels={10: "yes", 11: "yes", 12: "yes"},
    )
    assert has_units(rows)
    assert compare(rows, SPLIT, earlier).labelled == 1
    assert compare(rows, SPLIT, None).labelled == 2


def test_the_rows_of_one_request_were_dealt_out_together() -> None:
    rows = rows_of(request(0, by="2", reason="canary", rows=3), labels={0: "no"})
    facts = compare(rows, SPLIT, None)
    assert facts.losses == (0.0,)


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf])
def test_an_answer_that_is_no_number_is_none(nothing: float | None) -> None:
    record = request(0)
    answers: dict[str, tuple[Answer, ...]] = {"1": ((1.0, ()),)}
    failures = {}
    if nothing is None:
        failures["2"] = "it broke"
    else:
        answers["2"] = ((nothing, ()),)
    record = msgspec.structs.replace(record, answers=answers, failures=failures)
    rows = rows_of(record, labels={0: "1.0"})
    found = beside(rows, "1", "2")
    assert (found.rows, found.challenger_alone_failed, found.champion_alone_failed) == (1, 1, 0)
    regression = msgspec.structs.replace(ASKED, task="regression")
    assert compare(rows, regression, None).differences == (-1.0,)


def test_durations_are_compared_where_both_were_measured() -> None:
    rows = rows_of(request(0, took={"1": 100, "2": 300}), request(1, took={"1": 100}), request(2))
    found = beside(rows, "1", "2")
    assert (found.champion_us, found.challenger_us) == ((100,), (300,))


def test_slices_hold_the_rows_with_a_label_and_unknown_columns_none() -> None:
    rows = rows_of(
        request(0),
        request(1, place="south"),
        request(2, place="south", theirs="yes"),
        labels={0: "yes", 1: "no", 2: "yes"},
    )
    asked = msgspec.structs.replace(
        ASKED, columns=("place", "sex"), slices=(("place", "south"), ("place", "west"), ("sex", "f"))
    )
    facts = compare(rows, asked, None)
    assert facts.values == {"place": {"north": 1, "south": 2}}
    assert facts.slices == {"place=south": (1.0, 0.0), "place=west": ()}


def test_contradictory_labels_of_one_row_count_once_and_the_first_counts() -> None:
    ledger = Ledger()
    ledger.add_prediction(request(0))
    for arrival, label in enumerate(("yes", "no", "yes")):
        ledger.add_label(Label("id-00000", 0, label, None, arrival))
    facts = compare(ledger.between(0, 10), ASKED, None)
    assert facts.differences == (-1.0,)
    assert ledger.repeated_labels == 2
