"""`goldenloop trust`: the operator accepts a model file that runs code when it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from goldenloop.cli.output import Output, guarded, say, table
from goldenloop.client import Client
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json, JsonObject


@guarded
def trust(
    model: Annotated[
        str | None,
        typer.Argument(help="The SHA-256 that a refusal names, or the file; without it, list what is trusted."),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    revoke: Annotated[bool, typer.Option("--revoke", help="Take the trust back.")] = False,
    home: Annotated[
        Path, typer.Option("--home", envvar="GOLDENLOOP_HOME", help="The folder of the installation.")
    ] = Path(".goldenloop"),
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print: text, json or yaml.")] = Output.TEXT,
) -> None:
    """Accept a pickled model of your own: it runs code when it is loaded, in a process of its own."""
    client = Client.of_home(home)
    if model is None:
        if revoke:
            raise InvalidSpecError(
                "there is nothing to take back", where="--revoke", mend="Name the digest or the file."
            )
        items = client.trusted()
        listed: Json = list(items)
        say(output, {"items": listed}, lambda: _show(items))
        return
    digest = _digest_of(model)
    if revoke:
        client.distrust(digest)
        say(output, {"distrusted": digest}, f"{digest} is no longer trusted; what is served already stays")
        return
    trusted = client.trust(digest, reason=reason)
    say(output, trusted, f"{digest} is trusted")


def _digest_of(model: str) -> str:
    from goldenloop.core.ids import digest_file
    from goldenloop.serving.predictors.trust import digest_folder

    path = Path(model)
    if path.is_file():
        return digest_file(path)
    return digest_folder(path) if path.is_dir() else model.removeprefix("sha256:").lower()


def _show(items: list[JsonObject]) -> None:
    table(("DIGEST", "SINCE", "REASON"), ((item["digest"], item["since"], item["reason"]) for item in items))
