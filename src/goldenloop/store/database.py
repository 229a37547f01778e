"""The database: SQLite by default, PostgreSQL by URL, the same SQL for both.

Rules. Only the control process writes. A write is one transaction that takes the write lock when it begins, so it never fails
half-way for a lock, and what a decision caused is recorded with the decision or not at all. Writes therefore end in the order of
the numbers that they drew, and who follows a sequence misses none. A read sees one state of the world.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias, TypeVar

import msgspec
from sqlalchemy import Connection, Row, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.sql import Insert

from goldenloop.core.errors import InvalidSpecError, UnavailableError

Transaction: TypeAlias = Connection
Record = TypeVar("Record", bound=msgspec.Struct)

_BUSY_MILLISECONDS = 10_000  # longest wait for another writer of the same database
_POSTGRESQL_WRITE_LOCK = (
    0x601DE2  # the advisory lock that writers of one PostgreSQL database take; any number that nobody else takes
)


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{path}"


class Database:
    """One database of one installation."""

    def __init__(self, url: str) -> None:
        parsed = _driver_of(_parsed(url))
        self._is_sqlite = parsed.get_backend_name() == "sqlite"
        try:
            self.engine = create_engine(
                parsed,
                json_serializer=lambda value: msgspec.json.encode(value).decode(),
                json_deserializer=msgspec.json.decode,
                pool_pre_ping=not self._is_sqlite,
            )
        except ModuleNotFoundError as error:
            raise UnavailableError(
                f"the driver {error.name!r} for {parsed.get_backend_name()} is not installed",
                where="--database",
                mend="Install it with: pip install 'goldenloop[postgres]'.",
            ) from error
        if self._is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A transaction that only reads: one state of the world, however long it takes."""
        with _translated(), self.engine.connect() as connection:
            if self._is_sqlite:
                connection.exec_driver_sql("BEGIN DEFERRED")
            else:
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield connection
            connection.rollback()

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction that writes: all of it is kept when the block ends, none when it raises."""
        with _translated(), self.engine.connect() as connection:
            if self._is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_BUSY_MILLISECONDS}")
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_POSTGRESQL_WRITE_LOCK})")
            yield connection
            connection.commit()

    def migrate(self) -> None:
        """Bring the tables to the present form, all of it or nothing; a new database gets all of them."""
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with _translated(), self.engine.connect() as connection:
            if self._is_sqlite:
                # A table is changed by making it anew; dropping the old one must not delete what refers to its rows.
                connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
            if self._is_sqlite:
                connection.exec_driver_sql("PRAGMA foreign_keys = ON")

    def close(self) -> None:
        """Let go of every connection."""
        self.engine.dispose()


def insert_ignoring(transaction: Transaction, table: Table) -> Insert:
    """An insert that does nothing where a row with the same key is there: its `rowcount` says which happened."""
    made: Insert
    if transaction.dialect.name == "postgresql":
        made = postgresql.insert(table).on_conflict_do_nothing()
    else:
        made = sqlite.insert(table).on_conflict_do_nothing()
    return made.execution_options(preserve_rowcount=True)  # PostgreSQL's would be -1, whatever happened


def upsert(transaction: Transaction, table: Table, values: dict[str, object]) -> None:
    """Insert the row, or replace what is not key in the row that has its primary key."""
    keys = [column.name for column in table.primary_key.columns]
    changed = {name: value for name, value in values.items() if name not in keys}
    make = postgresql.insert if transaction.dialect.name == "postgresql" else sqlite.insert
    transaction.execute(make(table).values(**values).on_conflict_do_update(index_elements=keys, set_=changed))


class ManyRows:
    """A statement that is executed with many rows, given as tuples of the values of these columns.

    SQLite's driver takes them as they are: what SQLAlchemy does with each row would cost more than the row.
    """

    def __init__(self, make: Callable[[Transaction], Insert], columns: Sequence[str]) -> None:
        self._make = make
        self._columns = tuple(columns)
        self._known: dict[str, tuple[Insert, str, list[int]]] = {}

    def execute(self, transaction: Transaction, rows: Sequence[tuple[object, ...]]) -> None:
        """Execute it. Nothing happens without rows."""
        if not rows:
            return
        dialect = transaction.dialect
        if dialect.name not in self._known:
            statement = self._make(transaction)
            compiled = statement.compile(dialect=dialect, column_keys=list(self._columns))
            names = getattr(compiled, "positiontup", None) or []
            self._known[dialect.name] = (statement, str(compiled), [self._columns.index(name) for name in names])
        statement, text, order = self._known[dialect.name]
        if len(order) != len(self._columns):
            transaction.execute(statement, [dict(zip(self._columns, row, strict=True)) for row in rows])
        elif order == list(range(len(order))):
            transaction.exec_driver_sql(text, list(rows))
        else:
            transaction.exec_driver_sql(text, [tuple(row[place] for place in order) for row in rows])


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError as error:
        raise InvalidSpecError(
            "this is not the URL of a database",
            where="--database",
            mend="Give sqlite:///PATH or postgresql://USER@HOST/NAME.",
        ) from error


def _driver_of(url: URL) -> URL:
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite":
        return url
    raise InvalidSpecError(
        f"{url.get_backend_name()} is not a database that is supported",
        where="--database",
        mend="Give sqlite:///PATH or postgresql://USER@HOST/NAME.",
    )


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where `read` and `write` say so
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    # With WAL, NORMAL keeps the database whole after a power cut and loses at most the last commits; FULL loses none.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        text = str(error.orig)
        mend = "Free some room; the work goes on by itself." if "full" in text else "It is tried again."
        raise UnavailableError(f"the database does not answer: {text}", mend=mend) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise UnavailableError("the connection to the database was lost", mend="It is tried again.") from error
        if type(error.orig) is sqlite3.DatabaseError:  # not one of its kinds: the file itself is the matter
            raise UnavailableError(
                f"the database cannot be read: {error.orig}", mend="Put a copy of it back, or give another --home."
            ) from error
        raise


def record_of(row: Row[tuple[object, ...]], kind: type[Record]) -> Record:
    """A row as a record of this kind, by the names of its columns."""
    # The keys are a subclass of str, which strict decoding does not take.
    return msgspec.convert({str(name): value for name, value in row._mapping.items()}, kind)
