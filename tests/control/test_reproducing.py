"""A version that is made again: the same is called the same, and what is not is named."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ring_worlds import LOOP_NAME, NAMESPACE, Rule, Scenario, Simulation
from sqlalchemy import select, update
from test_assessing import Office, loans

from goldenloop.control import reproducing
from goldenloop.control.environments import Lock, differences, keep_lock, present_lock
from goldenloop.control.home import Home
from goldenloop.control.reproducing import check_kept
from goldenloop.control.ring import Ring
from goldenloop.control.work.records import Assessed, Remade, Remaking
from goldenloop.control.work.remake import remake
from goldenloop.core.errors import ConflictError, InvalidSpecError, NotFoundError
from goldenloop.features.source import content_version
from goldenloop.registry import versions
from goldenloop.store.artifacts import Artifacts
from goldenloop.store.tables import runs
from goldenloop.testing.stores import new_version


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    return Office(tmp_path_factory.mktemp("office"), loans())


@pytest.fixture(scope="module")
def first(office: Office) -> Assessed:
    return office.assess(office.train("first"), name="first")


def again(office: Office, first: Assessed, model: Path, folder: Path, **changed: str) -> Remade:
    prepared = office.prepared
    files = {"data": prepared.data, "evaluation": prepared.evaluation, **changed}
    request = Remaking(served=first.folder, model=str(model), schema=prepared.schema, **files)
    folder.mkdir()
    return remake(msgspec.json.decode(msgspec.json.encode(request), type=Remaking), folder)


def test_the_same_code_on_the_same_rows_is_the_same_model(office: Office, first: Assessed, tmp_path: Path) -> None:
    made = again(office, first, office.train("second"), tmp_path / "again")
    assert made.digest == first.digest
    assert made.alike == made.rows == 240
    assert made.farthest == 0.0
    assert made.metrics == made.metrics_before
    assert made.columns == office.prepared.data_version["columns"]


def test_another_model_is_told_by_its_answers(office: Office, first: Assessed, tmp_path: Path) -> None:
    made = again(office, first, office.train("boosted", linear=False), tmp_path / "again")
    assert made.digest != first.digest
    assert made.alike < made.rows
    assert made.farthest > 0.01
    assert made.metrics != made.metrics_before


def test_rows_that_moved_are_named_by_their_column(office: Office, first: Assessed, tmp_path: Path) -> None:
    table = pq.read_table(office.prepared.data)
    income = table.column_names.index("income")
    pq.write_table(
        table.set_column(income, "income", pa.array([0.0, *table.column("income").to_pylist()[1:]])),
        tmp_path / "moved.parquet",
    )
    made = again(office, first, office.train("moved"), tmp_path / "again", data=str(tmp_path / "moved.parquet"))
    recorded = office.prepared.data_version["columns"]
    assert isinstance(recorded, dict)
    assert [name for name in recorded if recorded[name] != made.columns[name]] == ["income"]


def test_a_column_has_the_same_digest_in_another_file(office: Office, tmp_path: Path) -> None:
    table = pq.read_table(office.prepared.data)
    pq.write_table(table, tmp_path / "again.parquet", compression="gzip", row_group_size=7)
    assert content_version(pq.read_table(tmp_path / "again.parquet")) == content_version(table)


def test_data_that_are_gone_or_were_changed_are_found_before_anything_runs(tmp_path: Path) -> None:
    kept = Artifacts(str(tmp_path / "kept"), cache=tmp_path / "cache")
    address = kept.put_bytes(b"rows")
    path = check_kept(kept, "data", address)
    path.chmod(0o644)
    path.write_bytes(b"other rows")
    with pytest.raises(ConflictError, match="'data' was changed since"):
        check_kept(kept, "data", address)
    path.unlink()
    with pytest.raises(NotFoundError, match="'data' is not kept any more"):
        check_kept(kept, "data", address)


def test_packages_that_differ_are_named(tmp_path: Path) -> None:
    kept = Artifacts(str(tmp_path / "kept"), cache=tmp_path / "cache")
    recorded = keep_lock(kept)
    assert differences(kept, recorded) == []
    now = present_lock()
    then = msgspec.structs.replace(now, packages={**now.packages, "numpy": "0.1", "gone": "3.0"})
    told = differences(kept, {"lock": kept.put_bytes(msgspec.json.encode(then))})
    assert told == [
        "gone was 3.0, and is not there any more",
        f"numpy was 0.1, and is {now.packages['numpy']}",
    ]
    older = Lock(python="3.9.0", machine=now.machine, packages=now.packages)
    assert differences(kept, {"lock": kept.put_bytes(msgspec.json.encode(older))}) == [
        f"Python was 3.9.0, and is {now.python}"
    ]


def test_an_environment_that_was_not_recorded_is_not_called_the_same(tmp_path: Path) -> None:
    kept = Artifacts(str(tmp_path / "kept"), cache=tmp_path / "cache")
    assert differences(kept, None) is None
    assert differences(kept, {"lock": kept.put_bytes(b"half a rec")}) is None


QUIET = Scenario(train=lambda number, _: Rule(errors=(0.1, 0.1), salt=0.37 * number), windows=4, rows_per_window=25)


def test_the_second_run_is_given_the_same_and_leads_to_no_version(tmp_path: Path) -> None:
    simulation = Simulation(tmp_path / "world", QUIET)
    simulation.replay.begin()
    world, home = simulation.world, Home.at(tmp_path / "home")
    asked = reproducing.ask(world, NAMESPACE, LOOP_NAME, 1)
    with world.database.read() as transaction:
        rows = transaction.execute(select(runs)).mappings()
        first, second = sorted(rows, key=lambda row: row["id"] == asked["run"])
        assert first["id"] == asked["of"]
    assert second["inputs"] == first["inputs"]
    assert second["parameters"] == first["parameters"]
    assert second["pipeline"]["pipeline_spec"] == first["pipeline"]["pipeline_spec"]
    assert second["pipeline"]["caching"] is False
    assert second["loop"] is None
    assert second["settled"]
    going = reproducing.report(world, home, str(asked["run"]))
    assert (going["state"], going["ended"], going["reproduced"]) == ("PENDING", False, False)
    with world.database.write() as transaction:
        ended = update(runs).where(runs.c.id == asked["run"]).values(state="FAILED", error="no module named x")
        transaction.execute(ended)
    failed = reproducing.report(world, home, str(asked["run"]))
    assert (failed["ended"], failed["reproduced"]) == (True, False)
    assert failed["why"] == ["the second run came to nothing: no module named x"]
    Ring(world, simulation.router.table).advance()
    with world.database.read() as transaction:
        assert len(versions.listing(transaction, NAMESPACE, LOOP_NAME)) == 1
    with pytest.raises(NotFoundError, match="is no run that makes a version again"):
        reproducing.report(world, home, str(asked["of"]))
    with pytest.raises(NotFoundError, match="has no version 7"):
        reproducing.ask(world, NAMESPACE, LOOP_NAME, 7)
    with world.database.write() as transaction:
        versions.register(transaction, new_version(), now_us=1)
    with pytest.raises(InvalidSpecError, match="was made by no run of a loop"):
        reproducing.ask(world, "default", "loan", 1)
