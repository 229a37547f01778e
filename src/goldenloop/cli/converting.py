"""`goldenloop convert`: a notebook becomes a pipeline file, and runs if asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from goldenloop.cli.output import Output, guarded, say
from goldenloop.core.json import JsonObject


@guarded
def convert(
    notebook: Annotated[Path, typer.Argument(help="The notebook (.ipynb), with its cells tagged as for Kale.")],
    out: Annotated[Path | None, typer.Option("--out", help="The file to write; NOTEBOOK.py by default.")] = None,
    run: Annotated[bool, typer.Option("--run", help="Run the pipeline on the running installation.")] = False,
    parameter: Annotated[list[str] | None, typer.Option("--parameter", "-p", help="NAME=VALUE, with --run.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="With --run: return when the run has ended.")] = True,
    home: Annotated[
        Path, typer.Option("--home", envvar="GOLDENLOOP_HOME", help="The folder of the installation.")
    ] = Path(".goldenloop"),
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="The namespace.")] = "default",
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print: text, json or yaml.")] = Output.TEXT,
) -> None:
    """Turn a notebook with tagged cells into a KFP pipeline; the notebook stays as it is."""
    from goldenloop.cli.running import run_pipeline
    from goldenloop.client import Client
    from goldenloop.pipelines.notebooks import convert_notebook

    client = Client.of_home(home) if run else None  # nothing is written where it could not be run
    converted = convert_notebook(notebook, out=out)
    found: JsonObject = {
        "pipeline": converted.source,
        "steps": list(converted.steps),
        "notes": list(converted.notes),
    }
    lines = [f"{converted.source}: {', '.join(converted.steps)}", *(f"  {note}" for note in converted.notes)]
    if client is None or output is Output.TEXT:
        say(output, found, "\n".join(lines))
    if client is not None and not run_pipeline(
        client, converted.source, parameter or [], namespace=namespace, wait=wait, output=output
    ):
        raise typer.Exit(1)
