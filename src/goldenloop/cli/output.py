"""How verbs speak: to a person by default, as JSON where asked; errors on standard error, with an exit code."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import ParamSpec, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from goldenloop.core.errors import GoldenloopError
from goldenloop.core.json import Json

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


class Output(StrEnum):
    """The forms of output."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


def guarded(verb: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Turn errors of the tree into a line on standard error and exit code 1."""

    @functools.wraps(verb)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return verb(*args, **kwargs)
        except GoldenloopError as error:
            if kwargs.get("output") == Output.JSON:
                body = {"error": {"what": error.what, "where": error.where, "mend": error.mend}}
                sys.stdout.write(msgspec.json.encode(body).decode() + "\n")
            errors.print(f"error: {error}", style="red", markup=False)
            raise typer.Exit(1) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None

    return run


def say(output: Output, data: Json, text: str | Callable[[], None]) -> None:
    """Print the data as JSON or YAML, or the text for a person."""
    if output is Output.JSON:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n")
    elif output is Output.YAML:
        import yaml

        sys.stdout.write(yaml.safe_dump(data, sort_keys=False))
    elif isinstance(text, str):
        console.print(text, markup=False)
    else:
        text()


def table(columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    """Print rows under headings."""
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*("" if cell is None else str(cell) for cell in row))
    console.print(drawn)
