"""A person's SQL over the records of an installation, in a process of its own, on DuckDB.

Rules. Exactly one statement, and it reads: anything else is refused before it runs. The statement sees the views below and nothing else:
no file, no network, no setting can be reached from it. Views are made of what was on record when the question came; only those that the
text names are filled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from datetime import time as clock_time
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import duckdb
import msgspec
import pyarrow as pa
from sqlalchemy import Table, select

from goldenloop.control.querying import Answered, Question
from goldenloop.core.errors import InvalidSpecError, RefusedError
from goldenloop.core.json import Json
from goldenloop.payloads.columns import LABEL_FIELDS, PREDICTION_FIELDS
from goldenloop.payloads.tables import UNSEALED_ROWS, payload_tables
from goldenloop.store.database import Database, Transaction
from goldenloop.store.tables import audit_entries, decisions, evaluations, measurements, runs, timeline, versions

MEMORY = "1GB"
RECORD_ROWS = 500_000  # of a table of the database, the newest
_PIECE = 20_000

# The tables of the database that may be asked, with the columns that are shown and the order in which the newest is first.
_RECORDS: Mapping[str, tuple[Table, str, str]] = {
    "measurements": (
        measurements,
        "namespace loop monitor metric feature slice version window start_us end_us rows value low high threshold verdict note",
        "id",
    ),
    "versions": (
        versions,
        "namespace model number state run_id artifact_id digest signature metrics conversion data_version code_version "
        "trained_until_us created_us",
        "created_us",
    ),
    "runs": (
        runs,
        "id namespace name loop cause_key cause state parameters event_us created_us started_us finished_us error",
        "created_us",
    ),
    "decisions": (
        decisions,
        "namespace loop cause_key fired reason evidence run_id settled event_us created_us",
        "id",
    ),
    "evaluations": (
        evaluations,
        "id namespace model challenger champion verdict reason evidence decided_by person created_us",
        "created_us",
    ),
    "timeline": (timeline, "sequence namespace loop kind text facts event_us created_us", "sequence"),
    "audit": (audit_entries, "sequence at_us actor action kind namespace name facts digest", "sequence"),
}
VIEWS = ("payloads", "labels", *_RECORDS)


def answer(question: Question) -> Answered:
    """Ask. Raises RefusedError for what does not read, InvalidSpecError for SQL that is wrong."""
    _must_read(question.sql)
    notices: list[str] = []
    connection = duckdb.connect(":memory:", config={"python_enable_replacements": "false"})
    named = {view for view in VIEWS if re.search(rf"\b{view}\b", question.sql, re.IGNORECASE)}
    if named & {"payloads", "labels"}:
        notices += _show_payloads(connection, Path(question.payloads))
    if named & _RECORDS.keys():
        notices += _show_records(connection, question.database_url, named)
    connection.execute(
        f"SET memory_limit='{MEMORY}'; SET threads=2; SET temp_directory='';"
        "SET enable_external_access=false; SET lock_configuration=true"
    )
    try:
        asked = connection.execute(question.sql)
        described = asked.description
        rows = asked.fetchmany(question.limit + 1)
    except duckdb.Error as error:
        raise _explained(error) from None
    if len(rows) > question.limit:
        notices.append(f"only the first {question.limit} rows are shown; there are more")
    return Answered(
        columns=tuple(str(column[0]) for column in described),
        types=tuple(str(column[1]) for column in described),
        rows=[[_plain(value) for value in row] for row in rows[: question.limit]],
        notices=tuple(notices),
    )


def _must_read(sql: str) -> None:
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise _explained(error) from None
    if len(statements) != 1:
        raise InvalidSpecError(f"there are {len(statements)} statements", where="SQL", mend="Give one SELECT.")
    kind = statements[0].type
    if kind != duckdb.StatementType.SELECT:
        raise RefusedError(
            f"{kind.name} does not only read, and records are never changed by a query",
            where="SQL",
            mend="Give a SELECT; what is to be changed has verbs of its own (goldenloop --help).",
        )


def _explained(error: duckdb.Error) -> Exception:
    text = str(error).strip().split("\n\n")[0].replace("\n", " ")
    if isinstance(error, duckdb.PermissionException):
        return RefusedError(
            "files and networks cannot be reached from a query",
            where="SQL",
            mend=f"Ask the views: {', '.join(VIEWS)}.",
        )
    if isinstance(error, duckdb.OutOfMemoryException):
        return InvalidSpecError(f"the query needs more than {MEMORY}", where="SQL", mend="Ask for less at once.")
    return InvalidSpecError(text, where="SQL", mend=f"Views: {', '.join(VIEWS)}.")


def _show_payloads(connection: duckdb.DuckDBPyConnection, folder: Path) -> Iterator[str]:
    """Make the views `payloads` and `labels`."""
    found = payload_tables(folder)
    parts = []
    for place, (namespace, service, source) in enumerate(found.predictions):
        connection.register(f"_payloads_{place}", source)
        parts.append(
            f"SELECT {_literal(namespace)} AS namespace, {_literal(service)} AS loop, * EXCLUDE (position) FROM _payloads_{place}"
        )
    if not parts:
        connection.register("_payloads_none", PREDICTION_FIELDS.empty_table())
        parts = ["SELECT '' AS namespace, '' AS loop, * EXCLUDE (position) FROM _payloads_none"]
    connection.execute(f"CREATE VIEW payloads AS {' UNION ALL BY NAME '.join(parts)}")
    sources = found.labels or [LABEL_FIELDS.empty_table()]
    for place, source in enumerate(sources):
        connection.register(f"_labels_{place}", source)
    parts = [f"SELECT * EXCLUDE (position) FROM _labels_{place}" for place in range(len(sources))]
    connection.execute(f"CREATE VIEW labels AS {' UNION ALL BY NAME '.join(parts)}")
    if found.is_cut:
        yield f"only the newest {UNSEALED_ROWS} rows that are not sealed yet are searched"


def _show_records(connection: duckdb.DuckDBPyConnection, url: str, named: set[str]) -> Iterator[str]:
    """Make a view of each table of the database that is named, as they all were at one moment."""
    database = Database(url)
    try:
        with database.read() as transaction:
            for view in sorted(named & _RECORDS.keys()):
                made = _records(transaction, view)
                connection.register(view, made)
                if made.num_rows == RECORD_ROWS:
                    yield f"only the newest {RECORD_ROWS} rows of {view} are searched"
    finally:
        database.close()


def _records(transaction: Transaction, view: str) -> pa.Table:
    table, listed, order = _RECORDS[view]
    names = listed.split()
    columns = [table.c[name] for name in names]
    schema = pa.schema([_field(name, table.c[name].type.python_type) for name in names])
    query = select(*columns).order_by(table.c[order].desc()).limit(RECORD_ROWS)
    pieces = []
    for rows in transaction.execute(query).partitions(_PIECE):
        values = [pa.array([_cell(row[place]) for row in rows], field.type) for place, field in enumerate(schema)]
        pieces.append(pa.RecordBatch.from_arrays(values, schema=schema))
    return pa.Table.from_batches(pieces, schema=schema)


def _field(name: str, kind: type) -> pa.Field:
    if name.endswith("_us"):
        return pa.field(f"{name[:-3]}_at" if name != "at_us" else "at", pa.timestamp("us", tz="UTC"))
    types = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
    return pa.field(name, types.get(kind, pa.string()))


def _cell(value: object) -> object:
    """Documents are texts of JSON, which DuckDB takes apart."""
    return msgspec.json.encode(value).decode() if isinstance(value, dict | list) else value


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _plain(value: object) -> Json:
    """A value as JSON has it: moments as ISO 8601, what JSON has no form for as text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, datetime | date | clock_time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(each) for each in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value) if isinstance(value, UUID) else repr(value)
