"""`goldenloop describe version`: the model card, in the terminal, as JSON, or as a file."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from pathlib import Path

from goldenloop.cli.output import Output, console, say
from goldenloop.client import Client
from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.core.json import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFiles:
    """Where a card is written, besides being shown."""

    markdown: Path | None = None
    html: Path | None = None

    def must_be_none(self, number: int | None) -> None:
        """Raise InvalidSpecError where something was asked for that only versions have."""
        if number is not None or self.markdown is not None or self.html is not None:
            raise InvalidSpecError(
                "only a version has a number and a card",
                where="KIND",
                mend="Type: goldenloop describe version LOOP NUMBER.",
            )


def describe_version(
    client: Client, name: str, number: int | None, files: CardFiles, *, namespace: str, output: Output
) -> None:
    """Show the card; `name` is a loop, LOOP/NUMBER or LOOP-NUMBER. Without a number it is the newest version."""
    loop, number = named(client, name, number, namespace=namespace)
    if files.markdown is not None:
        _write(files.markdown, client.card_text(loop, number, "markdown", namespace=namespace))
    if files.html is not None:
        _write(files.html, client.card_text(loop, number, "html", namespace=namespace))
    if output is not Output.TEXT:
        say(output, client.card(loop, number, namespace=namespace), "")
        return
    written = [str(path) for path in (files.markdown, files.html) if path is not None]
    if written:
        say(output, {}, f"the card of {loop}, version {number}, is in {' and '.join(written)}")
        return
    from rich.markdown import Markdown  # slow to import, and wanted only here

    console.print(Markdown(client.card_text(loop, number, "markdown", namespace=namespace)))


def promote_version(
    client: Client, loop: str, version: int | None, *, reason: str, by: str | None, namespace: str, output: Output
) -> None:
    """Promote, or approve where the version waits; and say which of both it was."""
    person = by or getpass.getuser()
    state = ""
    if version is not None:
        state = _state(client, loop, version, namespace=namespace)
    if state == "AwaitingApproval":
        # Said so, and not as a promotion: sent twice, this does not make golden what was only approved.
        done = client.approve(loop, version=version, namespace=namespace, reason=reason, by=person)
    else:
        done = client.promote(loop, version=version, namespace=namespace, reason=reason, by=person)
    say(output, done, told(done))


def told(done: JsonObject) -> str:
    """What became of a version, for a person."""
    if "golden" in done:
        return f"version {done['golden']} is golden"
    meaning = {
        "Golden": "it is golden, and answers",
        "Blessed": "it begins its rollout beside the champion",
        "Refused": "the champion stays",
    }.get(str(done["state"]), f"it is {done['state']}")
    before = (
        "had been decided before"
        if done.get("decided")
        else "is refused"
        if done["state"] == "Refused"
        else "is approved"
    )
    return f"version {done['version']} {before} by {done['by']}: {meaning}"


def named(client: Client, name: str, number: int | None, *, namespace: str) -> tuple[str, int]:
    """The loop and the number that are meant. Raises NotFoundError, InvalidSpecError."""
    if number is not None:
        return name, number
    for mark in ("/", "-"):
        loop, _, last = name.rpartition(mark)
        if loop and last.isdecimal() and _numbers(client, loop, namespace=namespace):
            return loop, int(last)
    known = _numbers(client, name, namespace=namespace)
    if not known:
        raise NotFoundError(
            f"there is no version of {name!r}", mend="Name it as LOOP NUMBER; see: goldenloop get versions LOOP."
        )
    return name, max(known)


def _numbers(client: Client, loop: str, *, namespace: str) -> list[int]:
    items = client.of_loop("versions", loop, namespace=namespace)["items"]
    return [int(str(item["number"])) for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _state(client: Client, loop: str, version: int, *, namespace: str) -> str:
    items = client.of_loop("versions", loop, namespace=namespace)["items"]
    found = (
        [item for item in items if isinstance(item, dict) and item["number"] == version]
        if isinstance(items, list)
        else []
    )
    return str(found[0]["state"]) if found else ""


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidSpecError(f"it cannot be written: {error.strerror}", where=str(path)) from error
