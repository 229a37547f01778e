"""The drift report of two files: what it finds, and what it says of frames that cannot be compared."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as parquet
import pytest

from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.core.phases import Verdict
from goldenloop.features.frames import open_frame
from goldenloop.monitors.drift_report import ColumnReport, DriftReport, Question, report_drift
from goldenloop.stats.comparison import CategoryChange
from goldenloop.web.reports import write_drift_report

ROWS = 3_000


def columns(seed: int, *, rows: int = ROWS) -> dict[str, object]:
    generator = np.random.default_rng(seed)
    return {
        "age": generator.normal(40.0, 12.0, rows),
        "visits": generator.poisson(3, rows),
        "price": pa.array(generator.lognormal(size=rows).astype(np.float32)),
        "city": generator.choice(["Oslo", "Bergen", "Molde"], rows, p=[0.6, 0.3, 0.1]),
        "member": generator.random(rows) < 0.3,
        "answer": generator.random(rows),
    }


def write(path: Path, table: pa.Table | dict[str, object]) -> Path:
    parquet.write_table(table if isinstance(table, pa.Table) else pa.table(table), path, row_group_size=700)
    return path


def compare(tmp_path: Path, before: object, after: object, question: Question | None = None) -> DriftReport:
    frames = [
        open_frame(str(write(tmp_path / f"{side}.parquet", rows)))  # type: ignore[arg-type]  # tables or mappings
        for side, rows in (("before", before), ("after", after))
    ]
    return report_drift(frames[0], frames[1], question or Question())


def named(report: DriftReport, column: str) -> ColumnReport:
    return next(each for each in report.columns if each.column == column)


def test_what_moved_is_found_and_nothing_else(tmp_path: Path) -> None:
    after = columns(2)
    after["age"] = np.asarray(after["age"]) + 8.0
    after["city"] = np.random.default_rng(5).choice(["Oslo", "Bergen", "Bodø"], ROWS, p=[0.2, 0.5, 0.3])
    after["answer"] = np.asarray(after["answer"]) ** 2
    report = compare(tmp_path, columns(1), after, Question(prediction="answer", label="member"))
    assert {each.column for each in report.columns if each.verdict is Verdict.FAIL} == {"age", "city", "answer"}
    assert [each.role for each in report.columns[:2]] == ["prediction", "label"]
    assert (report.verdict, report.drifted, report.compared) == (Verdict.FAIL, 3, 6)
    city = named(report, "city").comparison
    assert city is not None
    assert isinstance(city.change, CategoryChange)
    assert city.change.new_names[0][0] == "Bodø"
    assert city.change.gone_names[0][0] == "Molde"
    page = write_drift_report(report)
    assert page.count("<svg") == 6
    assert "http" not in page.replace("http-equiv", "")
    assert msgspec.json.decode(msgspec.json.encode(report))["verdict"] == "fail"


def test_nothing_changed(tmp_path: Path) -> None:
    report = compare(tmp_path, columns(1), columns(2))
    assert (report.verdict, report.drifted) == (Verdict.PASS, 0)


def test_many_rows_make_a_small_change_certain_but_no_drift(tmp_path: Path) -> None:
    before, after = ({"x": np.random.default_rng(seed).normal(size=100_000)} for seed in (1, 2))
    after["x"] += 0.05
    found = compare(tmp_path, before, after).columns[0]
    assert (found.adjusted_p or 1.0) < 1e-6
    assert (found.verdict, found.reason) == (Verdict.PASS, "changed, but by little")


def test_few_rows_make_a_large_distance_but_no_drift(tmp_path: Path) -> None:
    found = compare(tmp_path, columns(1, rows=20), columns(2, rows=20))
    assert found.drifted == 0
    assert max(each.effect or 0.0 for each in found.columns) > 0.1


def test_p_values_are_corrected_for_all_columns(tmp_path: Path) -> None:
    frames = [
        {f"x{place}": np.random.default_rng([side, place]).normal(size=200) for place in range(60)} for side in (1, 2)
    ]
    report = compare(tmp_path, *frames, Question(effect=0.0))
    smallest = min(report.columns, key=lambda each: each.p or 1.0)
    assert smallest.adjusted_p == pytest.approx(min(1.0, 60 * (smallest.p or 1.0)))
    assert report.drifted == 0


def test_the_pieces_in_which_a_frame_lies_make_no_difference(tmp_path: Path) -> None:
    table = pa.table(columns(1))
    (tmp_path / "parts").mkdir()
    for part in range(3):
        write(tmp_path / "parts" / f"{part}.parquet", table.slice(part * 1_000, 1_000))
    csv.write_csv(table, tmp_path / "rows.csv")
    after = open_frame(str(write(tmp_path / "after.parquet", columns(2))))
    one, other, third = (
        report_drift(open_frame(str(tmp_path / name)), after, Question())
        for name in ("parts", "rows.csv", write(tmp_path / "whole.parquet", table).name)
    )
    assert [each.p for each in one.columns] == pytest.approx([each.p for each in third.columns])
    assert [each.column for each in other.columns] == [each.column for each in third.columns]


def test_columns_that_vanish_come_or_change_their_type_are_errors(tmp_path: Path) -> None:
    before, after = columns(1), columns(2)
    del after["city"]
    after["added"] = np.arange(float(ROWS))
    after["visits"] = [f"{value}" for value in np.asarray(after["visits"])]
    report = compare(tmp_path, before, after)
    assert report.verdict is Verdict.ERROR
    told = {each.column: each.reason for each in report.columns if each.verdict is Verdict.ERROR}
    assert told == {
        "city": "the current frame has no such column",
        "added": "the reference frame has no such column",
        "visits": "its type changed from int64 to string",
    }
    assert "no such column" in write_drift_report(report)


def test_odd_columns_say_what_can_be_said(tmp_path: Path) -> None:
    before = {
        "nan": np.full(50, np.nan), "null": pa.nulls(50), "constant": np.ones(50), "emptied": np.arange(50.0),
        "infinite": [np.inf] * 25 + [0.0] * 25, "when": pa.array([0] * 50, pa.timestamp("us")), "texts": ["", "a"] * 25,
        "list": [[1]] * 50, "price": pa.array(["1.5"] * 50).cast(pa.decimal128(5, 2)),
        "codes": pa.array(["x", None] * 25).dictionary_encode(),
    }  # fmt: skip
    after = {**before, "emptied": np.full(50, np.nan)}
    report = compare(tmp_path, before, after)
    verdicts = {each.column: each.verdict.value for each in report.columns}
    assert verdicts == {
        "nan": "pass", "null": "pass", "constant": "pass", "emptied": "fail", "infinite": "pass", "when": "inconclusive",
        "texts": "pass", "list": "inconclusive", "price": "pass", "codes": "pass",
    }  # fmt: skip
    codes = named(report, "codes").comparison
    assert codes is not None
    assert codes.missing.reference == 0.5
    texts = named(report, "texts").comparison
    assert texts is not None
    assert texts.missing.reference == 0.5  # an empty text is missing, as in training
    assert "timestamp" in named(report, "when").reason
    write_drift_report(report)


def test_an_empty_frame_is_no_evidence(tmp_path: Path) -> None:
    before, nothing = pa.table(columns(1)), pa.table(columns(1)).slice(0, 0)
    for pair in ((before, nothing), (nothing, before), (nothing, nothing)):
        report = compare(tmp_path, *pair)
        assert report.verdict is Verdict.INCONCLUSIVE
        assert {each.verdict for each in report.columns} == {Verdict.INCONCLUSIVE}


@pytest.mark.parametrize("many", [700, pytest.param(10_000, marks=pytest.mark.soak)])
def test_many_columns(tmp_path: Path, many: int) -> None:
    wide = [
        {f"x{place}": np.random.default_rng([side, place % 50]).normal(size=20) for place in range(many)}
        for side in (1, 2)
    ]
    report = compare(tmp_path, *wide)
    assert (len(report.columns), report.drifted) == (many, 0)
    assert write_drift_report(report).count("<svg") == min(many, 1_000)


def test_ids_are_compared_within_bounds(tmp_path: Path) -> None:
    """Ids are new in every frame, which is no drift; that one of them comes again and again is."""
    before, after = ({"id": [f"{side}-{number}" for number in range(15_000)]} for side in ("before", "after"))
    found = compare(tmp_path, before, after).columns[0]
    assert found.verdict is Verdict.PASS
    assert "too many names to count each" in found.reason
    assert found.comparison is not None
    assert isinstance(found.comparison.change, CategoryChange)
    assert found.comparison.change.new is None
    after["id"][::3] = ["guest"] * 5_000
    assert compare(tmp_path, before, after).columns[0].verdict is Verdict.FAIL


def test_wrong_questions(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", columns(1))
    frame = open_frame(str(path))
    with pytest.raises(InvalidSpecError, match="neither frame has a column 'gone'"):
        report_drift(frame, frame, Question(prediction="gone"))
    with pytest.raises(InvalidSpecError, match="alpha"):
        report_drift(frame, frame, Question(alpha=1.5))
    with pytest.raises(NotFoundError):
        open_frame(str(tmp_path / "none.parquet"))
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InvalidSpecError, match="cannot be read"):
        open_frame(str(cut))
    (tmp_path / "mixed").mkdir()
    write(tmp_path / "mixed" / "a.parquet", {"x": [1.0]})
    write(tmp_path / "mixed" / "b.parquet", {"x": ["a"]})
    with pytest.raises(InvalidSpecError, match="not the same columns"):
        open_frame(str(tmp_path / "mixed"))
    damaged = bytearray(path.read_bytes())
    damaged[4:60] = b"\xff" * 56
    path.write_bytes(damaged)
    with pytest.raises(InvalidSpecError, match="cannot be read"):
        report_drift(open_frame(str(path)), open_frame(str(path)), Question())
