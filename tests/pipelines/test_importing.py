"""Importers: artifacts that lie somewhere become known, with their content where it can be had."""

# Without `from __future__ import annotations`: kfp reads the annotations of components themselves.
from pathlib import Path

import fsspec
import pytest
from compiled import read, run
from kfp import dsl
from small_pipelines import World
from sqlalchemy import select

from goldenloop.pipelines.importing import main
from goldenloop.store.tables import artifacts


@dsl.pipeline
def importing(uri: str, note: str = "none") -> str:
    imported = dsl.importer(
        artifact_uri=uri, artifact_class=dsl.Dataset, metadata={"note": note, "kind": "table"}, reimport=False
    )
    return read(data=imported.output).output


@dsl.pipeline
def importing_anew(uri: str) -> str:
    imported = dsl.importer(artifact_uri=uri, artifact_class=dsl.Dataset, reimport=True)
    return read(data=imported.output).output


def test_what_lies_on_this_machine_is_used_where_it_is(world: World) -> None:
    file = world.folder / "rows.csv"
    file.write_text("a,b")
    for uri in (str(file), f"file://{file}"):
        ran = run(world, importing, uri=uri, note="mine")
        assert ran.outputs == {"Output": "a,b"}, ran.error
    with world.database.read() as transaction:
        (row,) = transaction.execute(select(artifacts)).all()
    assert (row.uri, row.type, row.properties) == (str(file), "system.Dataset", {"note": "mine", "kind": "table"})
    for _ in range(2):
        assert run(world, importing_anew, uri=str(file)).state == "SUCCEEDED"
    with world.database.read() as transaction:
        assert len(transaction.execute(select(artifacts)).all()) == 3, "a reimport makes a new record each time"


def test_what_lies_elsewhere_is_fetched_once_and_keeps_its_address(world: World) -> None:
    file = world.folder / "remote.csv"
    file.write_text("far away")
    uri = f"local://{file}"  # a protocol of fsspec that is not the machine's own way to name a file
    assert run(world, importing, uri=uri).outputs == {"Output": "far away"}
    file.unlink()
    ran = run(world, importing, uri=uri)
    assert ran.outputs == {"Output": "far away"}, "it was kept by its content"
    with world.database.read() as transaction:
        (row,) = transaction.execute(select(artifacts)).all()
    assert row.uri == uri
    assert world.kept.exists(f"artifact:{row.digest}")


def test_what_cannot_be_fetched_is_known_and_who_reads_it_fails(world: World) -> None:
    ran = run(world, importing, uri="nosuch://bucket/rows.csv")
    assert ran.states == {"importer": "SUCCEEDED", "read": "FAILED"}
    log = world.engine.log_path(ran.id, "importer", 1).read_text()
    assert "known by its address only" in log
    assert "nosuch" in log


def test_an_empty_address_fails(world: World) -> None:
    ran = run(world, importing, uri="")
    assert ran.state == "FAILED"
    assert "address of the artifact is empty" in ran.error


def test_folders_are_fetched_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({"/bucket/folder/a.txt": b"a", "/bucket/folder/deep/b.txt": b"b"})
    monkeypatch.setattr("sys.argv", ["importing", "memory://bucket/folder", str(tmp_path / "copy")])
    main()
    found = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.txt")}
    assert found == {"copy/a.txt": "a", "copy/deep/b.txt": "b"}
