"""Running pipelines from the shell, with progress."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path

import msgspec

from goldenloop.cli.output import Output, console, say
from goldenloop.client import Client
from goldenloop.core.errors import GoldenloopError, InvalidSpecError, NotFoundError
from goldenloop.core.json import Json, JsonObject
from goldenloop.core.phases import RUN_TRANSITIONS, RunState
from goldenloop.pipelines.compilation import compile_source

_POLL_SECONDS = 0.1


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
        "parameters": dict(_parameter(text) for text in parameters),
        "code": compiled.code,
        "cause": {"kind": "manual", "text": "a person ran it"},
    }
    return _follow(client, client.start_run(request), wait=wait, output=output)


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
    return _follow(client, run, wait=wait, output=output)


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


def _follow(client: Client, run: str, *, wait: bool, output: Output) -> bool:
    if not wait:
        say(output, {"id": run}, f"run {run} started")
        return True
    shown: dict[str, str] = {}
    while True:
        state = client.run(run)
        for step in _items({"items": state["tasks"]}):
            name, now = str(step["name"]), str(step["state"])
            if shown.get(name) != now and output is Output.TEXT:
                console.print(f"  {name:<30} {now}{' (from cache)' if step['cached'] else ''}", markup=False)
            shown[name] = now
        if not RUN_TRANSITIONS[RunState(str(state["state"]))]:
            break
        time.sleep(_POLL_SECONDS)
    error = f": {state['error']}" if state["error"] else ""
    say(output, state, f"run {run} {state['state']}{error}")
    return state["state"] == RunState.SUCCEEDED.value


def _parameter(text: str) -> tuple[str, Json]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise InvalidSpecError(f"{text!r} is not NAME=VALUE", where="--parameter")
    return name, _value(value)


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
