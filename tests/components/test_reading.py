"""Rows come in alike from wherever they lie, with the version of what was read."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from goldenloop.components.reading import read_delta, read_files, read_iceberg, read_sql
from goldenloop.core.errors import GoldenloopError, InvalidSpecError, NotFoundError, UnavailableError

ROWS = pa.table({"x": [1, 2, 3], "name": ["a", "b", None], "y": [0.5, None, 2.0]})


def write(path: Path) -> Path:
    """The rows in the format of the suffix."""
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".csv":
        pacsv.write_csv(ROWS, path)
    elif path.suffix == ".parquet":
        pq.write_table(ROWS, path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS.to_pylist()))
    return path


def test_every_format_gives_the_same_rows_and_version(tmp_path: Path) -> None:
    versions = set()
    for name in ("a.csv", "a.parquet", "a.jsonl", "a.ndjson"):
        reading = read_files(str(write(tmp_path / name)))
        assert reading.table.num_rows == 3
        if name != "a.csv":  # in CSV a missing text and an empty one are the same
            versions.add(reading.version)
            assert reading.table.to_pylist() == ROWS.to_pylist()
    assert len(versions) == 1
    assert versions.pop().startswith("content:")


def test_a_format_may_be_named_where_the_suffix_says_nothing(tmp_path: Path) -> None:
    write(tmp_path / "a.csv").rename(tmp_path / "export.txt")
    assert read_files(str(tmp_path / "export.txt"), format="csv").table.num_rows == 3
    write(tmp_path / "a.jsonl").rename(tmp_path / "rows")
    assert read_files(str(tmp_path / "rows"), format="jsonl").table.num_rows == 3


def test_folders_are_read_whole_and_urls_are_fetched(tmp_path: Path) -> None:
    for name in ("day/1.jsonl", "day/2.jsonl"):
        write(tmp_path / name)
    assert read_files(str(tmp_path / "day")).table.num_rows == 6
    memory = fsspec.filesystem("memory")
    memory.makedirs("/lake/day", exist_ok=True)
    for name in ("1", "2", "3"):
        memory.pipe(f"/lake/day/{name}.csv", write(tmp_path / "a.csv").read_bytes())
    assert read_files("memory://lake/day").table.num_rows == 9
    assert read_files("memory://lake/day/2.csv").table.num_rows == 3
    assert read_files(f"file://{tmp_path / 'a.csv'}").table.num_rows == 3


def test_objects_in_objects_become_columns(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"x": {"y": 1, "z": {"w": 2}}}\n')
    assert read_files(str(tmp_path / "a.jsonl")).table.to_pylist() == [{"x.y": 1, "x.z.w": 2}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "{", "it cannot be read as JSON lines"),
        ("a.jsonl", "", "the file is empty"),
        ("a.jsonl", '{"x": [1, 2]}\n', "column 'x' holds list"),
        ("a.csv", "x,y\n1\n", "line 2: it has 1 values, 2 columns are named"),
        ("a.xml", "<x/>", ".xml is not a format that is known"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InvalidSpecError, match=message) as caught:
        read_files(str(tmp_path / name))
    assert name in str(caught.value)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    for source in (str(tmp_path / "none.csv"), "memory://nothing/here.csv"):
        with pytest.raises(NotFoundError):
            read_files(source)
    with pytest.raises(InvalidSpecError, match="needs something that is not here"):
        read_files("nosuchscheme://bucket/file.csv")
    with pytest.raises(InvalidSpecError, match="'xml' is no format"):
        read_files(str(write(tmp_path / "a.csv")), format="xml")  # type: ignore[arg-type]
    write(tmp_path / "both/a.csv")
    write(tmp_path / "both/a.jsonl")
    with pytest.raises(InvalidSpecError, match="csv and jsonl. Say which"):
        read_files(str(tmp_path / "both"))


def database(folder: Path) -> str:
    with sqlite3.connect(folder / "shop.db") as connection:
        connection.execute("create table sales (x integer, name text, y real)")
        connection.executemany("insert into sales values (?, ?, ?)", [tuple(row.values()) for row in ROWS.to_pylist()])
    connection.close()
    return f"sqlite:///{folder / 'shop.db'}"


def test_sql_gives_rows_and_their_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = database(tmp_path)
    reading = read_sql(url, "select * from sales order by x")
    assert reading.table.to_pylist() == ROWS.to_pylist()
    assert reading.version == read_files(str(write(tmp_path / "a.parquet"))).version
    monkeypatch.setenv("SHOP", str(tmp_path))
    assert read_sql("sqlite:///${SHOP}/shop.db", "select x from sales").table.num_rows == 3


@pytest.mark.parametrize(
    ("query", "error", "message"),
    [
        ("select * from nowhere", InvalidSpecError, "no such table: nowhere"),
        ("select * from sales where x > 9", InvalidSpecError, "no rows"),
        ("update sales set x = 0", InvalidSpecError, "the query gives no rows. Give a SELECT"),
        ("select x, x from sales", InvalidSpecError, "columns are named twice: x"),
    ],
)
def test_a_wrong_query_changes_nothing(tmp_path: Path, query: str, error: type[GoldenloopError], message: str) -> None:
    url = database(tmp_path)
    with pytest.raises(error, match=message):
        read_sql(url, query)
    assert read_sql(url, "select sum(x) as total from sales").table.to_pylist() == [{"total": 6}]


def test_secrets_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_SECRET", raising=False)
    with pytest.raises(InvalidSpecError, match="the environment of this step has no NO_SUCH_SECRET"):
        read_sql("postgresql://me:$NO_SUCH_SECRET@db/shop", "select 1")
    with pytest.raises(UnavailableError, match="the database does not answer: .*unable to open"):
        read_sql("sqlite:////nowhere/shop.db", "select 1")
    with pytest.raises(InvalidSpecError, match="the address of the database cannot be used"):
        read_sql("nosuchdialect://db", "select 1")


def test_without_their_packages_table_formats_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(
        UnavailableError, match="reading a Delta table needs the package deltalake.*pip install deltalake"
    ):
        read_delta("/nowhere")
    monkeypatch.setitem(sys.modules, "pyiceberg.catalog", None)
    with pytest.raises(UnavailableError, match="reading an Iceberg table needs the package pyiceberg"):
        read_iceberg("/nowhere")


def test_delta_tables_are_read_at_a_version(tmp_path: Path) -> None:
    deltalake = pytest.importorskip("deltalake")
    table = str(tmp_path / "table")
    deltalake.write_deltalake(table, ROWS)
    deltalake.write_deltalake(table, ROWS.slice(0, 1), mode="append")
    newest, first = read_delta(table), read_delta(table, version=0)
    assert (newest.version, newest.table.num_rows) == ("delta:1", 4)
    assert (first.version, first.table.num_rows) == ("delta:0", 3)
    with pytest.raises(NotFoundError, match="version 7"):
        read_delta(table, version=7)
    with pytest.raises(NotFoundError, match="there is no Delta table"):
        read_delta(str(tmp_path / "nothing"))


def test_iceberg_tables_are_read_at_a_snapshot(tmp_path: Path) -> None:
    pytest.importorskip("pyiceberg")
    from pyiceberg.catalog.sql import SqlCatalog

    properties = {"type": "sql", "uri": f"sqlite:///{tmp_path}/catalog.db", "warehouse": f"file://{tmp_path}/warehouse"}
    (tmp_path / "warehouse").mkdir()
    catalog = SqlCatalog("default", **properties)
    catalog.create_namespace("shop")
    table = catalog.create_table("shop.sales", schema=ROWS.schema)
    table.append(ROWS)
    first = table.current_snapshot().snapshot_id
    table.append(ROWS.slice(0, 1))
    newest = read_iceberg("shop.sales", catalog=properties)
    assert newest.table.num_rows == 4
    assert newest.version == f"iceberg:{table.current_snapshot().snapshot_id}"
    assert read_iceberg("shop.sales", catalog=properties, snapshot=str(first)).table.num_rows == 3
    folder = table.location().removeprefix("file://")
    assert read_iceberg(folder).version == newest.version, "the folder itself, without a catalog"
    with pytest.raises(NotFoundError, match="no such Iceberg table"):
        read_iceberg("shop.nothing", catalog=properties)
    with pytest.raises(NotFoundError, match="there is no snapshot 7"):
        read_iceberg("shop.sales", catalog=properties, snapshot="7")
    with pytest.raises(InvalidSpecError, match="'last' is no snapshot"):
        read_iceberg("shop.sales", catalog=properties, snapshot="last")
    with pytest.raises(NotFoundError, match="there is no Iceberg metadata in it"):
        read_iceberg(str(tmp_path))
