"""`goldenloop approve` and `goldenloop refuse`: a person decides on a version that waits (`approval: required`)."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer

from goldenloop.cli.cards import told
from goldenloop.cli.output import Output, guarded, say
from goldenloop.client import Client

_Loop = Annotated[str, typer.Argument(help="The loop.")]
_Version = Annotated[int | None, typer.Argument(help="The version; by default the one that waits.")]
_Reason = Annotated[str, typer.Option(help="Why, for the record.")]
_By = Annotated[str | None, typer.Option(help="Who decides, for the record; by default your user name.")]
_Home = Annotated[Path, typer.Option("--home", envvar="GOLDENLOOP_HOME", help="The folder of the installation.")]
_Namespace = Annotated[str, typer.Option("--namespace", "-n", help="The namespace.")]
_Output = Annotated[Output, typer.Option("--output", "-o", help="How to print: text, json or yaml.")]
_HOME = Path(".goldenloop")


@guarded
def approve(
    loop: _Loop,
    version: _Version = None,
    *,
    reason: _Reason,
    by: _By = None,
    home: _Home = _HOME,
    namespace: _Namespace = "default",
    output: _Output = Output.TEXT,
) -> None:
    """Let a version that waits for approval go on: to its rollout, or to the traffic where it is the first."""
    person = by or getpass.getuser()
    done = Client.of_home(home).approve(loop, version=version, namespace=namespace, reason=reason, by=person)
    say(output, done, told(done))


@guarded
def refuse(
    loop: _Loop,
    version: _Version = None,
    *,
    reason: _Reason,
    by: _By = None,
    home: _Home = _HOME,
    namespace: _Namespace = "default",
    output: _Output = Output.TEXT,
) -> None:
    """Turn a version that waits for approval down; the champion stays."""
    person = by or getpass.getuser()
    done = Client.of_home(home).refuse(loop, version=version, namespace=namespace, reason=reason, by=person)
    say(output, done, told(done))
