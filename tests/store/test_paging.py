"""Every list of KFP's API can be asked in every way, on each database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from goldenloop.pipelines import catalog, experiments, recurring, run_records
from goldenloop.standards.kfp_listing import Operation
from goldenloop.store.database import Database, sqlite_url
from goldenloop.store.paging import Asked, Listing, read_page

LISTINGS = [
    experiments.LISTING,
    catalog.PIPELINES,
    catalog.VERSIONS,
    run_records.LISTING,
    recurring.LISTING,
]
TEAM = "team"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    is_sqlite = request.param == "sqlite"
    database = Database(sqlite_url(tmp_path / "s.db") if is_sqlite else request.getfixturevalue("postgresql_url"))
    database.migrate()
    yield database
    database.close()


def asked(key: str, operation: Operation, listing: Listing) -> str:
    value: dict[str, object] = {"stringValue": "x"}
    if key in listing.moments:
        value = {"timestampValue": "2026-01-31T09:30:00Z"}
    elif operation is Operation.IN:
        value = {"stringValues": {"values": ["x", "y"]}}
    return json.dumps({"predicates": [{"operation": operation, "key": key, **value}]})


@pytest.mark.parametrize("listing", LISTINGS)
def test_every_field_takes_every_operation_and_order(database: Database, listing: Listing) -> None:
    with database.read() as transaction:
        for key in listing.fields:
            for operation in Operation:
                if key in listing.moments and operation in (Operation.IN, Operation.IS_SUBSTRING):
                    continue
                question = Asked(filter=asked(key, operation, listing), sort_by=f"{key} desc")
                page = read_page(transaction, listing, [listing.identity], question)
                assert (list(page.rows), page.total, page.next_token) == ([], 0, "")


def test_a_condition_holds_for_what_it_says(database: Database) -> None:
    with database.write() as transaction:
        for number, name in enumerate(("alpha", "Beta", "be_ta", "gamma")):
            experiments.create_experiment(
                transaction, namespace=TEAM, name=name, description="x" * number, now_us=number * 1_000_000
            )

    def names(key: str, operation: str, **value: object) -> list[str]:
        text = json.dumps({"predicates": [{"operation": operation, "key": key, **value}]})
        columns = [experiments.LISTING.fields["name"]]
        with database.read() as transaction:
            page = read_page(transaction, experiments.LISTING, columns, Asked(filter=text))
        return [row.name for row in page.rows]

    assert names("name", "EQUALS", stringValue="Beta") == ["Beta"]
    assert names("name", "NOT_EQUALS", stringValue="Beta") == ["alpha", "be_ta", "gamma"]
    assert names("name", "IS_SUBSTRING", stringValue="BE") == ["Beta", "be_ta"]
    assert names("name", "IS_SUBSTRING", stringValue="_") == ["be_ta"]
    assert names("name", "IN", stringValues={"values": ["gamma", "alpha"]}) == ["alpha", "gamma"]
    assert names("created_at", "GREATER_THAN_EQUALS", timestampValue="1970-01-01T00:00:02Z") == ["be_ta", "gamma"]
    assert names("created_at", "LESS_THAN", longValue="1") == ["alpha"]
    assert names("last_run_created_at", "NOT_EQUALS", longValue="1") == ["alpha", "Beta", "be_ta", "gamma"]


def test_pages_go_on_after_the_last_row_also_where_it_has_no_value(database: Database) -> None:
    with database.write() as transaction:
        for number in range(7):
            experiments.create_experiment(
                transaction, namespace=TEAM, name=f"e{number}", description="", now_us=number // 3
            )
    for sort_by in ("created_at", "created_at desc", "last_run_created_at", "name desc"):
        seen, token = [], ""
        while True:
            with database.read() as transaction:
                question = Asked(page_size=2, page_token=token, sort_by=sort_by)
                page = read_page(transaction, experiments.LISTING, [experiments.LISTING.fields["name"]], question)
            assert page.total == 7
            seen += [row.name for row in page.rows]
            token = page.next_token
            if not token:
                break
        assert sorted(seen) == [f"e{number}" for number in range(7)], sort_by


def test_a_page_of_runs_is_found_without_reading_the_rows(tmp_path: Path) -> None:
    """Runs are long, their pipelines stand in them: counting and ordering must rest on an index alone."""
    database = Database(sqlite_url(tmp_path / "s.db"))
    database.migrate()
    runs = run_records.LISTING.identity.table
    query = select(runs.c.id).where(run_records.SHOWN, runs.c.namespace == TEAM).order_by(runs.c.created_us, runs.c.id)
    compiled = query.compile(database.engine, compile_kwargs={"literal_binds": True})
    with database.read() as transaction:
        plan = [row[-1] for row in transaction.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}")]
    database.close()
    assert len(plan) == 1
    assert "USING COVERING INDEX ix_runs_namespace_created_us_id_storage_state" in plan[0]
