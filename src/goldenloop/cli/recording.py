"""`goldenloop query` asks what is on record by SQL; `goldenloop audit` tells who did what, and whether the record is whole."""

from __future__ import annotations

import csv
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from goldenloop.cli.output import Output, console, errors, guarded, say, table
from goldenloop.client import Client
from goldenloop.core.json import Json, JsonObject

_Home = Annotated[Path, typer.Option("--home", envvar="GOLDENLOOP_HOME", help="The folder of the installation.")]
_Output = Annotated[Output, typer.Option("--output", "-o", help="How to print: text, json or yaml.")]
_HOME = Path(".goldenloop")

audit = typer.Typer(help="Who did what: an append-only log, chained by digests.", invoke_without_command=True)


class Form(StrEnum):
    """The forms in which rows are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


@guarded
def query(
    sql: Annotated[
        str,
        typer.Argument(
            help="One SELECT in DuckDB's SQL over payloads, labels, measurements, versions, runs, decisions, evaluations, "
            "timeline and audit; DESCRIBE payloads shows the columns of one."
        ),
    ],
    limit: Annotated[int, typer.Option(min=1, help="The most rows to show.")] = 1_000,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.")] = 30.0,
    home: _Home = _HOME,
    output: Annotated[Form, typer.Option("--output", "-o", help="How to print: table, json or csv.")] = Form.TABLE,
) -> None:
    """Ask the records by SQL: requests, answers, labels, measurements, versions, runs and decisions. Reads only."""
    answered = Client.of_home(home).query(sql, limit=limit, seconds=timeout)
    columns = [str(name) for name in _list(answered["columns"])]
    rows = [_list(row) for row in _list(answered["rows"])]
    if output is Form.JSON:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(answered), indent=2).decode() + "\n")
    elif output is Form.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(value) for value in row] for row in rows)
    else:
        table(tuple(columns), (tuple(_cell(value) for value in row) for row in rows))
    for notice in _list(answered["notices"]):
        errors.print(f"note: {notice}", markup=False)


@audit.callback()
@guarded
def _list_entries(
    context: typer.Context,
    after: Annotated[int, typer.Option(min=0, help="Only entries after this number.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The most entries to show, the newest.")] = 100,
    home: _Home = _HOME,
    output: _Output = Output.TEXT,
) -> None:
    """Who did what: an append-only log, chained by digests."""
    if context.invoked_subcommand is not None:
        return
    items = Client.of_home(home).audit(after=after, limit=limit)
    listed: Json = list(items)
    say(output, {"items": listed}, lambda: _show(items))


@audit.command("verify")
@guarded
def _verify(home: _Home = _HOME, output: _Output = Output.TEXT) -> None:
    """Check that neither the audit log nor sealed payloads were changed; names the first entry that does not fit."""
    found = Client.of_home(home).verify_audit()
    text = f"{found['entries']} entries and {found['manifests']} sealed segments are whole; the last entry is {found['head']}"
    say(output, found, text if found["whole"] else "\n".join(str(problem) for problem in _list(found["problems"])))
    if not found["whole"]:
        raise typer.Exit(1)


def _show(items: list[JsonObject]) -> None:
    if not items:
        console.print("nothing is on record yet")
        return
    rows = (
        (
            item["sequence"],
            item["at"],
            item["actor"],
            item["action"],
            f"{item['kind']}/{item['name']}".rstrip("/"),
            _facts(item),
        )
        for item in items
    )
    table(("ENTRY", "AT", "WHO", "DID", "WHAT", "FACTS"), rows)


def _facts(item: JsonObject) -> str:
    facts = item["facts"]
    return " ".join(f"{name}={_cell(value)}" for name, value in facts.items()) if isinstance(facts, dict) else ""


def _cell(value: Json) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
