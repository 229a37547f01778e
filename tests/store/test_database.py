"""SQLite and PostgreSQL under the same rules, and what each of them says when it cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from goldenloop.core.errors import InvalidSpecError, UnavailableError
from goldenloop.store import database as database_module
from goldenloop.store.database import Database, sqlite_url
from goldenloop.testing.stores import StoreConformance, create


class TestSqlite(StoreConformance):
    @pytest.fixture
    def database_url(self, tmp_path: Path) -> str:
        return sqlite_url(tmp_path / "state.db")

    def test_a_commit_survives_a_power_cut(self, database: Database) -> None:
        with database.read() as transaction:
            assert transaction.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert transaction.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL

    def test_a_lock_that_is_not_given_up_is_explained(
        self, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(database_module, "_BUSY_MILLISECONDS", 50)
        other = Database(database_url)
        with database.write(), pytest.raises(UnavailableError, match="locked"), other.write():
            pass
        other.close()

    def test_a_full_disk_is_explained_and_nothing_is_half_done(self, database: Database) -> None:
        def fill() -> None:
            with database.write() as transaction:
                pages = transaction.exec_driver_sql("PRAGMA page_count").scalar()
                transaction.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
                for number in range(1_000):
                    create(transaction, f"loop-{number}")

        with pytest.raises(UnavailableError, match=r"full.*Free some room"):
            fill()
        with database.read() as transaction:
            assert transaction.exec_driver_sql("SELECT count(*) FROM resources").scalar() == 0
            assert transaction.exec_driver_sql("SELECT count(*) FROM changes").scalar() == 0

    def test_a_file_that_is_no_database_is_explained(self, tmp_path: Path) -> None:
        (tmp_path / "state.db").write_bytes(b"this is not a database, and long enough to be looked at" * 100)
        with pytest.raises(UnavailableError, match=r"not a database.*Put a copy"):
            Database(sqlite_url(tmp_path / "state.db")).migrate()

    def test_a_folder_that_is_not_there_is_explained(self, tmp_path: Path) -> None:
        with pytest.raises(UnavailableError, match="unable to open"):
            Database(sqlite_url(tmp_path / "missing" / "state.db")).migrate()


class TestPostgresql(StoreConformance):
    @pytest.fixture
    def database_url(self, postgresql_url: str) -> str:
        return postgresql_url

    def test_a_lock_that_is_not_given_up_is_explained(
        self, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(database_module, "_BUSY_MILLISECONDS", 50)
        other = Database(database_url)
        with database.write(), pytest.raises(UnavailableError, match="lock timeout"), other.write():
            pass
        other.close()

    def test_a_connection_that_was_cut_is_replaced(self, database: Database, database_url: str) -> None:
        with database.write() as transaction:
            kept = create(transaction, "loan")
        other = Database(database_url)
        with other.read() as transaction:
            transaction.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        other.close()
        with database.write() as transaction:
            assert create(transaction, "second")["apiVersion"] == kept["apiVersion"]

    def test_a_connection_that_is_cut_under_way_is_explained_and_leaves_nothing(
        self, database: Database, database_url: str
    ) -> None:
        other = Database(database_url)

        def be_cut() -> None:
            with database.write() as transaction:
                create(transaction, "loan")
                pid = transaction.exec_driver_sql("SELECT pg_backend_pid()").scalar()
                with other.engine.begin() as killer:
                    killer.exec_driver_sql(f"SELECT pg_terminate_backend({pid})")
                create(transaction, "second")

        with pytest.raises(UnavailableError):
            be_cut()
        other.close()
        with database.read() as transaction:
            assert transaction.exec_driver_sql("SELECT count(*) FROM resources").scalar() == 0


def test_a_server_that_is_not_there_is_explained() -> None:
    with pytest.raises(UnavailableError, match="does not answer"):
        Database("postgresql://nobody@127.0.0.1:9/none").migrate()


@pytest.mark.parametrize("url", ["mysql://root@localhost/x", "state.db", "", "http://localhost"])
def test_a_url_of_something_else_is_explained(url: str) -> None:
    with pytest.raises(InvalidSpecError, match="sqlite:///PATH or postgresql://") as caught:
        Database(url)
    assert caught.value.where == "--database"


def test_the_password_of_a_url_is_not_told() -> None:
    with pytest.raises(UnavailableError) as caught:
        Database("postgresql://nobody:s3cret@127.0.0.1:9/none").migrate()
    assert "s3cret" not in str(caught.value)
