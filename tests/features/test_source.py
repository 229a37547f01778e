"""Reading data: what a newcomer's files may be like, and what is said when they are not right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenloop.core.errors import GoldenloopError, InvalidSpecError, NotFoundError
from goldenloop.features.source import Window, content_version, read_artifact, read_source, write_parquet

TABLE = pa.table({"at": [1, 2, 3, 4], "n": [1.5, None, 3.0, 4.0], "town": ["a", "b", "", "d, e"]})


def test_files_and_folders(tmp_path: Path) -> None:
    csv.write_csv(TABLE.slice(0, 2), tmp_path / "a.csv")
    write_parquet(TABLE.slice(2), tmp_path / "b.parquet")
    assert read_source(str(tmp_path)).to_pylist()[3] == {"at": 4, "n": 4.0, "town": "d, e"}
    assert read_source(str(tmp_path / "a.csv")).num_rows == 2


def test_a_window_is_cut_by_time(tmp_path: Path) -> None:
    write_parquet(TABLE, tmp_path / "a.parquet")
    window = Window(column="at", start_us=2_000_000, end_us=4_000_000)
    assert read_source(str(tmp_path / "a.parquet"), window=window)["at"].to_pylist() == [2, 3]
    with pytest.raises(InvalidSpecError, match="no column 'when'"):
        read_source(str(tmp_path / "a.parquet"), window=Window(column="when"))


def test_the_kind_of_a_column_is_inferred_from_the_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("a,b\n" + "1,2\n" * 400_000 + "x,2\n")
    assert read_source(str(file)).schema.field("a").type == pa.string()


@pytest.mark.parametrize(
    ("name", "text", "message", "where"),
    [
        ("a.csv", "a,b\n1,2\n3\n", "1 values, 2 columns are named", "a.csv, line 3"),
        ("a.csv", "a,b\n", "no rows", "a.csv"),
        ("a.csv", "", "empty", "a.csv"),
        ("a.csv", "a,a\n1,2\n", "named twice: a", "a.csv"),
        ("a.xlsx", "x", "not a format", "a.xlsx"),
        ("a.parquet", "not parquet", "cannot be read", "a.parquet"),
    ],
)
def test_a_wrong_file_says_what_and_where(tmp_path: Path, name: str, text: str, message: str, where: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidSpecError, match=message) as caught:
        read_source(str(tmp_path / name))
    assert caught.value.where.endswith(where)
    assert caught.value.mend


def test_files_that_do_not_go_together(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    (tmp_path / "b.csv").write_text("a,c\n1,2\n")
    with pytest.raises(InvalidSpecError, match=r"not the same columns as a\.csv: b, c"):
        read_source(str(tmp_path))
    (tmp_path / "b.csv").write_text("a,b\nx,2\n")
    with pytest.raises(InvalidSpecError, match="do not go together"):
        read_source(str(tmp_path))


def test_what_is_not_there_or_comes_later(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_source(str(tmp_path / "nothing.csv"))
    with pytest.raises(NotFoundError, match=r"no \.csv"):
        read_source(str(tmp_path))
    (tmp_path / "_delta_log").mkdir()
    for location, message in ((str(tmp_path), "Delta"), ("s3://bucket/x", "only files"), ("feast:view", "only files")):
        with pytest.raises(InvalidSpecError, match=message):
            read_source(location)


def test_a_data_set_without_a_suffix(tmp_path: Path) -> None:
    write_parquet(TABLE, tmp_path / "x")
    csv.write_csv(TABLE, tmp_path / "y")
    assert read_artifact(tmp_path / "x").num_rows == read_artifact(tmp_path / "y").num_rows == 4
    (tmp_path / "z").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(GoldenloopError):
        read_artifact(tmp_path / "z")


COLUMNS = st.lists(
    st.tuples(st.integers(-(2**40), 2**40), st.none() | st.floats(allow_nan=False), st.text(max_size=5), st.booleans()),
    min_size=1,
    max_size=20,
)


@given(COLUMNS, st.integers(1, 20))
def test_the_version_goes_by_content(rows: list[tuple[int, float | None, str, bool]], split: int) -> None:
    """Chunks, column order, and a round trip through Parquet change nothing; any changed value does."""
    table = pa.table(dict(zip("abcd", map(list, zip(*rows, strict=True)), strict=True)))
    version = content_version(table)
    assert version.rows == len(rows)
    assert content_version(pa.concat_tables([table.slice(0, split), table.slice(split)])) == version
    assert content_version(table.select(["d", "c", "b", "a"])).digest == version.digest
    encoded = table.set_column(2, "c", table.column("c").dictionary_encode())
    assert content_version(encoded).digest == version.digest
    sink = pa.BufferOutputStream()
    import pyarrow.parquet as parquet

    parquet.write_table(table, sink, compression="zstd")
    assert content_version(parquet.read_table(sink.getvalue())).digest == version.digest
    changed = table.set_column(0, "a", pa.array([*table.column("a").to_pylist()[:-1], rows[-1][0] + 1]))
    other = content_version(changed)
    assert other.digest != version.digest
    assert other.columns["b"] == version.columns["b"]


def test_missing_is_not_zero_and_text_boundaries_count() -> None:
    def digest(values: list[object], kind: pa.DataType) -> str:
        return content_version(pa.table({"a": pa.array(values, kind)})).digest

    assert digest([0.0], pa.float64()) != digest([None], pa.float64())
    assert digest([0.0], pa.float64()) == digest([-0.0], pa.float64())
    assert digest(["ab", "c"], pa.string()) != digest(["a", "bc"], pa.string())
    assert digest([np.nan], pa.float64()) != digest([None], pa.float64())
