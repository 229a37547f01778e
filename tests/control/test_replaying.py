"""A stream through the real pipeline, in this process: the loop closes on a change, and says no where rows are wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ring_worlds import Rule, Scenario, Simulation

from goldenloop.control.replaying import Journal, ReplayRow, replay_rows
from goldenloop.core.clock import DAY, HOUR
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.payloads.records import Label

START_US = 20_000 * DAY
ROWS_A_DAY = 60
PAST_DAYS, DAYS, CHANGE = 40, 26, 6


def made_up(first_day: int, days: int, *, change: int | None, seed: int) -> list[ReplayRow]:
    """The label is whether a + b is positive; from the day of the change on, whether a - b is. One label in twenty is wrong."""
    generator = np.random.default_rng(seed)
    rows = []
    for day in range(first_day, first_day + days):
        for place in range(ROWS_A_DAY):
            a, b = generator.normal(size=2)
            value = a - b if change is not None and day >= first_day + change else a + b
            truth = (value > 0) != (generator.random() < 0.05)
            rows.append(
                ReplayRow(
                    START_US + day * DAY + place * (DAY // ROWS_A_DAY),
                    {"a": float(a), "b": float(b), "place": "north" if a > 1 else "south"},
                    "yes" if truth else "no",
                )
            )
    return rows


def loop_on(past: list[ReplayRow], folder: Path) -> JsonObject:
    columns = {name: [row.features[name] for row in past] for name in past[0].features}
    at = pa.array([row.event_us for row in past], type=pa.timestamp("us", tz="UTC"))
    table = pa.table({**columns, "at": at, "label": [row.label for row in past]})
    pq.write_table(table, folder / "past.parquet")
    return {
        "apiVersion": "goldenloop.dev/v1alpha1",
        "kind": "Loop",
        "metadata": {"name": "made-up"},
        "spec": {
            "data": {
                "source": str(folder / "past.parquet"),
                "label": "label",
                "timestamp": "at",
                "window": "5d",
            },
            "labels": {"delay": "6h"},
            "windows": {"size": "1d"},
            "retrain": {"falseAlarmWindows": 100, "cooldown": "1d", "minNewLabels": 100},
            "rollout": {"maxDuration": "10d"},
        },
    }


@pytest.mark.process
def test_a_change_in_the_stream_ends_in_a_promotion(tmp_path: Path) -> None:
    document = loop_on(made_up(0, PAST_DAYS, change=None, seed=1), tmp_path)
    rows = made_up(PAST_DAYS, DAYS, change=CHANGE, seed=2)
    answered = []
    result = replay_rows(document, rows, folder=tmp_path / "home", delivery_us=HOUR, on_answered=answered.append)
    told = [str(line["kind"]) for line in result.timeline]
    assert result.promotions >= 1, told
    assert told.index("Golden") < told.index("Served") < told.index("Trigger") < told.index("Promoted")
    assert [each.row for each in answered] == rows
    assert len({each.prediction for each in answered}) == len(rows) == result.rows
    assert result.windows == DAYS - 1
    assert result.metric == "accuracy"
    values = [window.value for window in result.quality if window.value is not None]
    assert min(values[:CHANGE]) > 0.8
    assert min(values[CHANGE : CHANGE + 2]) < 0.7
    assert values[-1] > 0.8


def test_rows_that_are_wrong_are_refused_with_what_is_wrong(tmp_path: Path) -> None:
    scenario = Scenario(train=lambda _number, _regime: Rule(errors=(0.1,), salt=0.0), windows=1)
    replay = Simulation(tmp_path / "world", scenario).replay
    replay.begin()
    rows = scenario.rows(1)
    with pytest.raises(InvalidSpecError, match="before the one above it"):
        replay.send([rows[1], rows[0]])
    features = {name: value for name, value in rows[2].features.items() if name != "noise"}
    with pytest.raises(InvalidSpecError, match="'noise' is missing"):
        replay.send([ReplayRow(rows[2].event_us, features)])


def test_a_document_that_is_no_loop_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpecError, match="no spec"):
        replay_rows({"metadata": {"name": "x"}}, [], folder=tmp_path)


def test_every_reader_of_a_journal_gets_everything_once() -> None:
    journal = Journal()
    first, second = journal.reader(), journal.reader()
    labels = [Label(prediction=str(number), row=0, label="a", observed_us=None, arrival_us=1) for number in range(3)]
    journal.append(labels[0])
    assert first() == labels[:1]
    journal.append(labels[1])
    journal.append(labels[2])
    assert first() == labels[1:]
    assert first() == []
    assert second() == labels
