"""Running pipelines from the shell, with progress."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import msgspec

from goldenloop.cli.output import Output, say
from goldenloop.cli.progress import duration, watch
from goldenloop.client import Client
from goldenloop.core.errors import GoldenloopError, InvalidSpecError, NotFoundError
from goldenloop.core.json import Json, JsonObject
from goldenloop.core.phases import RunState
from goldenloop.pipelines.compilation import compile_source


def run_pipeline(
    client: Client, source: str, parameters: list[str], *, namespace: str, wait: bool, output: Output
) -> bool:
    """Compile and run; whether it succeeded (or was started, without waiting)."""
    compiled = compile_source(source)
    request: JsonObject = {
        "namespace": namespace,
        "name": source,
        "pipeline": compiled.ir,
        "platform": compiled.platform,
        "parameters": read_parameters(parameters),
        "code": compiled.code,
        "cause": {"kind": "manual", "text": "a person ran it"},
    }
    return follow(client, client.start_run(request), wait=wait, output=output)


def run_loop(client: Client, loop: str, *, namespace: str, reason: str, wait: bool, output: Output) -> bool:
    """Ask for a run of a loop's pipeline; whether it succeeded."""
    cause = str(client.ask_for_run(loop, namespace=namespace, reason=reason)["cause"])

    def started() -> str | None:
        for decision in _items(client.of_loop("decisions", loop, namespace=namespace)):
            if decision["cause"] == cause and decision["run"]:
                return str(decision["run"])
        for line in client.timeline(loop, namespace=namespace):
            facts = line["facts"]
            if line["kind"] == "RunFailed" and isinstance(facts, dict) and facts.get("cause") == cause:
                raise GoldenloopError(str(line["text"]))
        return None

    run = client.wait(started, what="the run", seconds=300)
    return follow(client, run, wait=wait, output=output)


def read_rows(text: str) -> list[JsonObject]:
    """Rows from JSON, or from a file as `@FILE`. Raises InvalidSpecError."""
    if text.startswith("@"):
        path = Path(text[1:])
        try:
            content = path.read_text()
        except OSError as error:
            raise NotFoundError(f"cannot be read: {error.strerror}", where=str(path)) from error
        if path.suffix == ".csv":
            return [{name: _value(cell) for name, cell in row.items()} for row in csv.DictReader(io.StringIO(content))]
        text = content
    try:
        rows = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidSpecError(
            f"not JSON: {error}", where="ROWS", mend='Give {"column": value}, a list of such rows, or @FILE.'
        ) from error
    rows = rows if isinstance(rows, list) else [rows]
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise InvalidSpecError("rows are objects by column name", where="ROWS", mend='Give {"column": value}.')
    return rows


def follow(client: Client, run: str, *, wait: bool, output: Output) -> bool:
    """Show a run until it ends; whether it succeeded. A run that is not waited for, or that is left going on, counts as
    started.
    """
    state = watch(client, run, output=output) if wait else None
    if state is None:
        say(output, {"id": run}, f"run {run} started" if not wait else "")
        return True
    error = f": {state['error']}" if state["error"] else ""
    took = duration(state)
    say(output, state, f"run {run} {state['state']}{f' in {took}' if took else ''}{error}")
    return state["state"] == RunState.SUCCEEDED.value


def rerun(client: Client, run: str, step: str, *, wait: bool, output: Output) -> bool:
    """Do a step of a run that has ended again, and all that waits for it; whether the run succeeded then."""
    client.rerun(run, step=step)
    return follow(client, run, wait=wait, output=output)


def read_parameters(texts: list[str]) -> JsonObject:
    """Values by name from `NAME=VALUE`. Raises InvalidSpecError."""
    values: JsonObject = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise InvalidSpecError(f"{text!r} is not NAME=VALUE", where="--parameter")
        values[name] = _value(value)
    return values


def _value(text: str) -> Json:
    """A number, truth or JSON where it reads as one, else the text."""
    try:
        decoded: Json = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return decoded


def _items(answer: JsonObject) -> list[JsonObject]:
    items = answer["items"]
    assert isinstance(items, list)
    return [item for item in items if isinstance(item, dict)]
