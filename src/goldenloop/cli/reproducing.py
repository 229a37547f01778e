"""`goldenloop reproduce`: a version is made again from the same code and data, and compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from goldenloop.cli.cards import named
from goldenloop.cli.output import Output, console, guarded, say
from goldenloop.client import Client
from goldenloop.core.json import JsonObject

_RUN_SECONDS = 1_800.0


@guarded
def reproduce(
    version: Annotated[str, typer.Argument(help="LOOP (its newest version), LOOP/NUMBER or LOOP-NUMBER.")],
    number: Annotated[int | None, typer.Argument(help="The number of a version of LOOP.")] = None,
    home: Annotated[
        Path, typer.Option("--home", envvar="GOLDENLOOP_HOME", help="The folder of the installation.")
    ] = Path(".goldenloop"),
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="The namespace.")] = "default",
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print: text, json or yaml.")] = Output.TEXT,
) -> None:
    """Run what made a version once more and compare data, model, metrics and answers; exit code 1 where they differ."""
    client = Client.of_home(home)
    loop, chosen = named(client, version, number, namespace=namespace)
    run = client.reproduce(loop, chosen, namespace=namespace)
    if output is Output.TEXT:
        console.print(f"run {run} makes version {chosen} of {loop} again", markup=False)

    def ended() -> JsonObject | None:
        return client.reproduction(run) if client.run(run)["finished"] is not None else None

    found = client.wait(ended, what=f"the end of run {run}", seconds=_RUN_SECONDS, pause_seconds=0.5)
    say(output, found, lambda: _show(found))
    if found["reproduced"] is not True:
        raise typer.Exit(1)


def _show(found: JsonObject) -> None:
    name = f"version {found['version']} of {found['model']}"
    if found["reproduced"] is True:
        console.print(f"{name} is reproduced", style="bold", markup=False)
    else:
        console.print(f"{name} is NOT reproduced", style="bold red", markup=False)
        for why in _list(found["why"]):
            console.print(f"  {why}", markup=False)
    if "data" in found:
        data, answers = _object(found["data"]), _object(found["answers"])
        console.print(f"  training data: {_equal(data)} ({data['columns']} columns)", markup=False)
        console.print(f"  model file: {_equal(_object(found['modelFile']))}", markup=False)
        console.print(f"  served form: {_equal(_object(found['servedForm']))}", markup=False)
        told = f"{answers['alike']} of {answers['rows']} alike, the farthest by {float(str(answers['farthest'])):.3g}"
        console.print(f"  answers on the evaluation rows: {told}", markup=False)
        for metric, values in _object(found["metrics"]).items():
            value = _object(values)
            console.print(f"  {metric}: {value['before']} before, {value['again']} again", markup=False)
    environment = _object(found["environment"])
    different = _list(environment["differences"])
    said = str(environment["note"]) or (
        "the same packages" if environment["equal"] else f"{len(different)} differences"
    )
    console.print(f"  environment: {said}", markup=False)
    for each in different:
        console.print(f"    {each}", markup=False)


def _equal(part: JsonObject) -> str:
    return "the same" if part["equal"] is True else "another one"


def _object(value: object) -> JsonObject:
    assert isinstance(value, dict)
    return value


def _list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value
