"""`backtest`: a stream with a sudden change, tried on the past. One backtest is run; the tests look at what it says."""

from __future__ import annotations

from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from goldenloop.cli.main import app
from goldenloop.control.backtesting import Stream, Told, backtest
from goldenloop.core.clock import HOUR, from_text, to_text
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.standards.documents import convert
from goldenloop.standards.loop import LoopSpec
from goldenloop.web.backtests import write_report

ROWS = 5_200
A_WINDOW = 100
WARM_UP = 0.5
START = from_text("2024-03-01T00:00:00Z")


def changing_stream(*, changes_at: int) -> pa.Table:
    """A row every 36 s; the class depends on the first column, and from row `changes_at` on on the other way round."""
    generator = np.random.default_rng(11)
    columns = {f"x{place}": generator.normal(size=ROWS) for place in range(3)}
    sign = np.where(np.arange(ROWS) < changes_at, 1.0, -1.0)
    label = np.where(sign * columns["x0"] + 0.3 * generator.normal(size=ROWS) > 0, "yes", "no")
    times = START + np.arange(ROWS) * (HOUR // A_WINDOW)
    return pa.table(
        {
            **columns,
            "outcome": label,
            "at": pa.array(times, type=pa.timestamp("us", tz="UTC")),
            "label_timestamp": pa.array(times + HOUR // 2, type=pa.timestamp("us", tz="UTC")),
        }
    )


def loop(**spec: object) -> JsonObject:
    given = {
        "data": {"label": "outcome", "timestamp": "at", "window": "6h"},
        "windows": {"size": "1h"},
        "labels": {"delay": "1h"},
        "retrain": {"falseAlarmWindows": 50, "cooldown": "1h", "minNewLabels": 100, "maxRunsPerDay": 24},
        "rollout": {"maxDuration": "1d"},
        **spec,
    }
    document: JsonObject = msgspec.to_builtins(
        {"apiVersion": "goldenloop.dev/v1alpha1", "kind": "Loop", "metadata": {"name": "tried"}, "spec": given}
    )
    return document


def cut(table: pa.Table, document: JsonObject, warm_up: float = WARM_UP) -> Stream:
    return Stream.of(table, convert(document["spec"], LoopSpec), warm_up=warm_up)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    document = loop()
    stream = cut(changing_stream(changes_at=3_600), document)
    return backtest(document, stream, folder=tmp_path_factory.mktemp("backtest"), every=4)


def test_windows_are_numbered_from_the_start_of_the_stream(told: Told) -> None:
    windows = told.backtest.windows
    assert [window.index for window in windows] == list(range(len(windows)))
    assert len(windows) == ROWS // A_WINDOW
    assert told.warm_up_windows == 26
    assert windows[26].start == to_text(START + 26 * HOUR)
    assert sum(window.rows for window in windows) == ROWS
    assert all(window.end == after.start for window, after in pairwise(windows))


def test_nothing_happens_before_the_change_and_the_loop_closes_after_it(told: Told) -> None:
    windows = told.backtest.windows
    assert not any(window.alarms or window.triggered or window.run for window in windows[:36])
    alarms = [alarm for window in windows[36:] for alarm in window.alarms]
    assert {"monitor", "feature", "kind", "value", "threshold"} == set(msgspec.to_builtins(alarms[0]))
    assert "concept drift" in {alarm.kind for alarm in alarms}
    assert any(window.triggered for window in windows[36:])
    assert told.backtest.runs == sum(1 for window in windows if window.run is not None) >= 1
    assert told.backtest.promotions == sum(window.promoted for window in windows) >= 1


def test_policies_are_compared_on_the_same_rows(told: Told) -> None:
    quality = told.backtest.quality
    assert quality.metric == "accuracy"
    for policy in (quality.loop, quality.never, quality.periodic):
        assert len(policy.windows) == len(told.backtest.windows)
        assert policy.windows[:26] == (None,) * 26
        assert all(value is not None for value in policy.windows[26:])
    # Before the change all three are the first version, after it the one that never learns is wrong nearly always.
    assert quality.loop.windows[26:36] == quality.never.windows[26:36]
    last = quality.never.windows[-1]
    assert last is not None
    assert last < 0.2
    assert quality.loop.overall is not None
    assert quality.never.overall is not None
    assert quality.loop.overall > quality.never.overall + 0.1
    assert told.periodic_runs <= 6


def test_the_report_is_whole_and_loads_nothing(told: Told) -> None:
    class Tags(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []
            self.seen: set[str] = set()

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert not any(name in ("src", "href") for name, _ in attrs)
            self.seen.add(tag)
            if tag not in ("meta", "br"):
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    report = write_report(told, name="<tried>")
    tags = Tags()
    tags.feed(report)
    assert tags.open == []
    assert {"svg", "polyline", "table"} <= tags.seen
    assert "<tried>" not in report
    assert "promoted" in report


def test_a_stream_without_a_time_is_taken_in_its_order() -> None:
    table = changing_stream(changes_at=ROWS).drop_columns(["at", "label_timestamp"])
    stream = cut(table, loop(data={"label": "outcome"}))
    assert [column.name for column in stream.schema.inputs] == ["x0", "x1", "x2"]
    assert np.diff(stream.times).tolist() == [1_000_000] * (ROWS - 1)
    assert stream.rows()[0].label == table.column("outcome")[stream.live].as_py()


def test_rows_are_brought_into_order_and_keep_when_their_label_came() -> None:
    table = changing_stream(changes_at=ROWS)
    shuffled = table.take(np.random.default_rng(3).permutation(ROWS))
    ours, theirs = cut(table, loop()).rows(), cut(shuffled, loop()).rows()
    assert ours == theirs
    assert ours[0].known_us == ours[0].event_us + HOUR // 2
    assert "label_timestamp" not in ours[0].features


@pytest.mark.parametrize(
    ("rows", "warm_up", "said"),
    [
        (ROWS, 1.5, "is not a part"),
        (ROWS, 0.0, "is not a part"),
        (150, 0.25, "at least 100 rows"),
        (ROWS, 0.01, "at least 100"),
    ],
)
def test_streams_that_are_too_short(rows: int, warm_up: float, said: str) -> None:
    with pytest.raises(InvalidSpecError, match=said):
        cut(changing_stream(changes_at=ROWS).slice(0, rows), loop(), warm_up)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--policy", "retrain"], "sets no field"),
        (["--policy", "retrain.falseAlarmWindow=50"], "falseAlarmWindow"),
        (["--policy", "retrain.falseAlarmWindows=often"], "falseAlarmWindows"),
        (["--policy", "task.more=1"], "task"),
        (["--warm-up", "2"], "is not a part"),
    ],
)
def test_wrong_use_says_what_and_where(tmp_path: Path, arguments: list[str], said: str) -> None:
    stream, file = tmp_path / "stream.parquet", tmp_path / "loop.yaml"
    pq.write_table(changing_stream(changes_at=ROWS), stream)
    file.write_bytes(msgspec.yaml.encode(loop()))
    result = CliRunner().invoke(app, ["backtest", str(file), "--data", str(stream), *arguments, "--output", "json"])
    assert result.exit_code == 1
    assert said in str(msgspec.json.decode(result.stdout.splitlines()[-1])["error"])
