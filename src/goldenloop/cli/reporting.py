"""`goldenloop report`: of a loop, or of two frames."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from goldenloop.cli.output import Output, console, guarded, say, table
from goldenloop.client import Client
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json, JsonObject

_COLUMNS_SHOWN = 40


class ReportForm(StrEnum):
    """The forms of a report."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"
    HTML = "html"


@guarded
def report(
    loop: Annotated[str | None, typer.Argument(help="The loop; or give two frames.")] = None,
    since: Annotated[str, typer.Option(help="How much event time until the last window: 30d, 12h.")] = "30d",
    html: Annotated[Path | None, typer.Option(help="Write the report here, as one HTML file.")] = None,
    reference: Annotated[
        Path | None, typer.Option(help="What the data were like: Parquet (file or folder) or CSV.")
    ] = None,
    current: Annotated[Path | None, typer.Option(help="What they are like now.")] = None,
    prediction: Annotated[str | None, typer.Option(help="The column of the model's answers.")] = None,
    label: Annotated[str | None, typer.Option(help="The column of the truth.")] = None,
    alpha: Annotated[
        float, typer.Option(help="The chance that any column is called drifted though nothing changed.")
    ] = 0.05,
    effect: Annotated[float, typer.Option(help="The smallest change that counts, 0 to 1.")] = 0.1,
    home: Annotated[
        Path, typer.Option("--home", envvar="GOLDENLOOP_HOME", help="The folder of the installation.")
    ] = Path(".goldenloop"),
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="The namespace.")] = "default",
    output: Annotated[
        ReportForm, typer.Option("--output", "-o", help="How to print: text, json, yaml or html.")
    ] = ReportForm.TEXT,
) -> None:
    """Report on a loop; or, with --reference and --current, on how two frames differ, which needs no installation."""
    if loop is None and reference is not None and current is not None:
        shown, page = _drift(reference, current, prediction, label, alpha, effect)
    elif loop is not None and reference is None and current is None:
        client = Client.of_home(home)
        shown = client.report(loop, since=since, namespace=namespace)
        wants_page = html is not None or output is ReportForm.HTML
        page = client.report_page(loop, since=since, namespace=namespace) if wants_page else ""
    else:
        raise InvalidSpecError(
            "a report is of a loop, or of two frames",
            where="LOOP, --reference, --current",
            mend="Type: goldenloop report LOOP, or: goldenloop report --reference A.parquet --current B.parquet.",
        )
    if html is not None:
        _write(html, page)
    if output is ReportForm.HTML:
        if html is None:
            typer.echo(page)
        return
    say(Output(output.value), shown, lambda: _print(shown, html))


def _drift(
    reference: Path, current: Path, prediction: str | None, label: str | None, alpha: float, effect: float
) -> tuple[JsonObject, str]:
    from goldenloop.features.frames import open_frame
    from goldenloop.monitors.drift_report import Question, report_drift
    from goldenloop.web.reports import write_drift_report

    question = Question(prediction=prediction, label=label, alpha=alpha, effect=effect)
    found = report_drift(open_frame(str(reference)), open_frame(str(current)), question)
    shown: JsonObject = msgspec.json.decode(msgspec.json.encode(found))
    return shown, write_drift_report(found)


def _print(shown: JsonObject, html: Path | None) -> None:
    if "columns" in shown:
        columns = _objects(shown["columns"])
        console.print(
            f"{shown['verdict']}: {shown['drifted']} of {shown['compared']} compared columns have drifted "
            f"({shown['referenceRows']} rows before, {shown['currentRows']} now)",
            markup=False,
        )
        lines = [
            (each["column"], each["role"], each["verdict"], _number(each["effect"]), _number(each["adjustedP"]), each["reason"])
            for each in columns
        ]  # fmt: skip
        table(("COLUMN", "ROLE", "VERDICT", "EFFECT", "P", ""), lines[:_COLUMNS_SHOWN])
        if len(lines) > _COLUMNS_SHOWN:
            console.print(f"and {len(lines) - _COLUMNS_SHOWN} more columns; see --output json")
    else:
        _print_loop(shown)
    if html is not None:
        console.print(f"the report is in {html}", markup=False)


def _print_loop(shown: JsonObject) -> None:
    if shown["end"] is None:
        console.print("nothing has been measured yet: no window has closed")
        return
    golden = "no version is golden" if shown["golden"] is None else f"version {shown['golden']} is golden"
    console.print(f"{shown['windows']} windows from {shown['start']} to {shown['end']}; {golden}", markup=False)
    rows = []
    for each in _objects(shown["monitors"]):
        findings = [one for one in _objects(each["findings"]) if not one["feature"] and not one["slice"]]
        values = ", ".join(f"{one['metric']} {_number(one['value'])}" for one in findings if one["value"] is not None)
        rows.append((each["monitor"], each["verdict"], each["window"], values))
    table(("MONITOR", "VERDICT", "WINDOW", "VALUES"), rows)
    counted = Counter({str(kind): int(str(count)) for kind, count in _object(shown["counts"]).items()})
    console.print(
        f"{counted['Alarm']} alarms, {counted['Warning']} warnings; {shown['runCount']} runs took "
        f"{float(str(shown['runSeconds'])):.0f} s"
    )


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidSpecError(f"it cannot be written: {error.strerror}", where=str(path)) from error


def _number(value: Json) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "–"


def _object(value: Json) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _objects(value: Json) -> list[JsonObject]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
