"""Lists, descriptions, logs and traces for a person to read."""

from __future__ import annotations

import sys
import time

import msgspec

from goldenloop.cli import served
from goldenloop.cli.output import Output, console, say, table
from goldenloop.cli.owning import print_owner
from goldenloop.cli.progress import duration, has_ended, tasks_of
from goldenloop.cli.rollout_text import describe_rollout
from goldenloop.client import Client
from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.inference_service import records
from goldenloop.standards.kubernetes import kind_named

_EVENTS_SHOWN = 15
_REASONS_SHOWN = 5
_FOLLOW_SECONDS = 0.2


def list_things(client: Client, kind: str, name: str | None, namespace: str | None, output: Output) -> None:
    """`goldenloop get`."""
    if kind in ("run", "runs"):
        items = [client.run(name)] if name else client.runs()
        runs = [(item["id"], item["loop"], item["state"], _text(item, "cause"), item["created"]) for item in items]
        say(output, list(items), lambda: table(("ID", "LOOP", "STATE", "CAUSE", "CREATED"), runs))
        return
    if kind in ("version", "versions"):
        if name is None:
            raise InvalidSpecError("versions are of a loop", where="NAME", mend="Type: goldenloop get versions LOOP.")
        items = _items(client.of_loop("versions", name, namespace=namespace or "default"))
        made = [(item["number"], item["state"], _metrics(item), item["trainedUntil"], _reason(item)) for item in items]
        say(output, list(items), lambda: table(("VERSION", "STATE", "METRICS", "TRAINED UNTIL", "VERDICT"), made))
        return
    found = kind_named(kind)
    if name is not None:
        document = client.get(kind, name, namespace=namespace or "default")
        items, shown = [document], document
    else:
        items = client.listing(kind, namespace=namespace)
        shown = {"kind": f"{found.kind}List", "apiVersion": found.api_version, "items": list(items)}
    is_served = found.group == records.GROUP
    headings, columns = (served.HEADINGS, served.columns) if is_served else (("STATE", "MORE"), _summary)
    rows = [(_meta(item, "namespace"), _meta(item, "name"), *columns(item)) for item in items]
    say(output, shown, lambda: table(("NAMESPACE", "NAME", *headings), rows))


def describe_thing(client: Client, kind: str, name: str, namespace: str, output: Output) -> None:
    """`goldenloop describe`."""
    if kind in ("run", "runs"):
        run = client.run(name)
        say(output, run, lambda: _describe_run(run))
        return
    document = client.get(kind, name, namespace=namespace)
    if kind_named(kind).kind == "Rollout":
        say(output, document, lambda: describe_rollout(document))
        return
    if kind_named(kind).kind != "Loop":
        say(output, document, lambda: _print_tree(document))
        return
    timeline = client.timeline(name, namespace=namespace)
    owner = client.of_loop("owner", name, namespace=namespace)

    def show() -> None:
        _describe_loop(document, timeline)
        print_owner(owner)

    say(output, {**document, "timeline": list(timeline), "owner": owner}, show)


def print_logs(client: Client, run: str, step: str | None, output: Output) -> None:
    """`goldenloop logs`."""
    run = find_run(client, run)
    names = [step] if step else [str(task["name"]) for task in tasks_of(client.run(run))]
    texts = {name: client.log(run, name) for name in names}

    def show() -> None:
        for name, text in texts.items():
            console.print(f"── {name}", style="bold", markup=False)
            console.print(text.rstrip() or "(nothing)", markup=False)

    say(output, {"run": run, "logs": dict(texts)}, show)


def follow_logs(client: Client, run: str, step: str | None, output: Output) -> None:
    """`goldenloop logs --follow`: lines as they are printed, until the run, or the one step, has ended. As JSON each line
    is a document of its own.
    """
    run = find_run(client, run)
    positions: dict[str, int] = {}
    unfinished: dict[str, str] = {}  # what was printed after the last end of a line
    done: set[str] = set()

    def show(name: str, text: str) -> None:
        if output is Output.TEXT:
            console.print(text if step else f"{name}: {text}", markup=False)
        else:
            sys.stdout.write(msgspec.json.encode({"step": name, "line": text}).decode() + "\n")
            sys.stdout.flush()

    while True:
        state = client.run(run)
        began = [str(task["name"]) for task in tasks_of(state) if task["started"]]
        moved = False
        for name in [step] if step else began:
            if name in done:
                continue
            part = client.log_part(run, name, after=positions.get(name, 0))
            moved = moved or part["next"] != positions.get(name, 0)
            positions[name] = int(str(part["next"]))
            *lines, unfinished[name] = (unfinished.get(name, "") + str(part["text"])).split("\n")
            if part["ended"]:
                done.add(name)
                lines += [unfinished[name]] if unfinished[name] else []
            for line in lines:
                show(name, line)
        if step in done or (has_ended(state) and done.issuperset(began)):
            return
        if not moved:
            time.sleep(_FOLLOW_SECONDS)


def find_run(client: Client, run: str) -> str:
    """The id of a run that is named by its id, or by a loop, whose last run it is. Raises NotFoundError."""
    if _is_run(run):
        return run
    mine = client.runs(run)
    if not mine:
        raise NotFoundError(f"{run!r} is neither a run nor a loop that had one", mend="See: goldenloop get runs.")
    return str(mine[0]["id"])


def print_trace(traced: JsonObject) -> None:
    """A trace as a few paragraphs: the answer, why, and where it comes from."""
    prediction, answer = _object(traced["prediction"]), _object(traced["answer"])
    version, data, code = _object(traced["version"]), _object(traced["data"]), _object(traced["code"])
    console.print(f"prediction {prediction['id']} at {prediction['at']}", style="bold", markup=False)
    console.print(
        f"  {prediction['service']} answered {answer['value']} with version {prediction['version']}: {prediction['why']}",
        markup=False,
    )
    if traced.get("label"):
        console.print(f"  the truth was {_object(traced['label'])['label']}", markup=False)
    for flag in _items({"items": traced.get("flags") or []}):
        console.print(f"  strange to {flag['monitor']} in window {flag['window']}: {flag['note']}", markup=False)
    console.print("why", style="bold")
    console.print(f"  {traced.get('explanation', 'not explained')}", markup=False)
    for part in _items({"items": traced.get("attributions", [])})[:_REASONS_SHOWN]:
        console.print(f"  {part['text']}", markup=False)
    console.print("payload", style="bold")
    for name, value in _object(traced["payload"]).items():
        console.print(f"  {name}: {value}", markup=False)
    console.print("where it comes from", style="bold")
    evaluation = traced.get("evaluation")
    if isinstance(evaluation, dict):
        console.print(f"  evaluation: {evaluation['verdict']}: {evaluation['reason']}", markup=False)
    console.print(
        f"  version {version['number']} ({version['state']}), model {str(version['digest'])[:12]}, {_metrics(version)}",
        markup=False,
    )
    run = traced.get("run")
    if isinstance(run, dict):
        console.print(f"  run {run['id']}: {_object(run['cause'])['text']}", markup=False)
    until = f", until {data['until']}" if data.get("until") else ""
    console.print(
        f"  data {str(data.get('digest'))[:12]}: {data.get('rows')} rows of {data.get('source')}{until}",
        markup=False,
    )
    commit = code.get("commit") or "the platform's own pipeline" if not code else code.get("commit") or "no commit"
    console.print(
        f"  code {str(code.get('digest', ''))[:12]} ({commit}{', changed since' if code.get('dirty') else ''})",
        markup=False,
    )


def print_origin(traced: JsonObject) -> None:
    """What a version, a run, data or code came from, and what came of it."""
    console.print(f"{traced['kind']} {traced['id']}", style="bold", markup=False)
    for side in ("upstream", "downstream"):
        console.print("where it comes from" if side == "upstream" else "what came of it", style="bold")
        for each in _items({"items": traced[side]}):
            console.print(f"  {each['kind']} {each['id']}: {each['text']}", markup=False)
        if not traced[side]:
            console.print("  nothing on record", markup=False)


def _describe_loop(document: JsonObject, timeline: list[JsonObject]) -> None:
    status = _object(document.get("status") or {})
    console.print(f"loop {_meta(document, 'name')}", style="bold", markup=False)
    for name in ("phase", "champion", "rollout", "watermark", "windows", "rollouts"):
        console.print(f"  {name}: {status.get(name)}", markup=False)
    console.print("chosen", style="bold")
    for name, choice in _object(status.get("choices") or {}).items():
        chosen = _object(choice)
        console.print(f"  {name}: {chosen['value']} ({chosen['why']})", markup=False)
    console.print("monitors", style="bold")
    for field, mark in (("monitors", "watches"), ("monitorsLeftOut", "left out")):
        for name, monitor in _object(status.get(field) or {}).items():
            told = _object(monitor)
            console.print(f"  {name:<21} {mark}: {told['value']} ({told['why']})", markup=False)
    console.print("conditions", style="bold")
    for each in _items({"items": status.get("conditions") or []}):
        console.print(f"  {each['type']}: {each['status']} {each['message']}", markup=False)
    console.print("what happened", style="bold")
    for line in timeline[-_EVENTS_SHOWN:]:
        console.print(f"  {line['at']}  {line['kind']:<12} {line['text']}", markup=False)


def _describe_run(run: JsonObject) -> None:
    console.print(f"run {run['id']}  {run['state']}", style="bold", markup=False)
    console.print(f"  because {_text(run, 'cause')}", markup=False)
    if run["error"]:
        console.print(f"  {run['error']}", style="red", markup=False)
    table(
        ("STEP", "STATE", "TOOK", "FINISHED", "ERROR"),
        ((task["name"], task["state"], duration(task), task["finished"], task["error"]) for task in tasks_of(run)),
    )


def _print_tree(value: Json, indent: int = 0) -> None:
    pad = "  " * indent
    if isinstance(value, dict):
        for name, inner in value.items():
            if isinstance(inner, dict | list) and inner:
                console.print(f"{pad}{name}:", markup=False)
                _print_tree(inner, indent + 1)
            else:
                console.print(f"{pad}{name}: {inner}", markup=False)
    elif isinstance(value, list):
        for inner in value[:50]:
            if isinstance(inner, dict):
                console.print(f"{pad}-", markup=False)
                _print_tree(inner, indent + 1)
            else:
                console.print(f"{pad}- {inner}", markup=False)


def _summary(document: JsonObject) -> tuple[object, object]:
    status = _object(document.get("status") or {})
    if document["kind"] == "Loop":
        champion = status.get("champion")
        return status.get("phase"), f"version {champion}" if champion else ""
    if document["kind"] == "Rollout":
        return status.get("phase"), f"version {status.get('challenger')} after {status.get('labelled')} labels"
    conditions = _items({"items": status.get("conditions") or []})
    ready = [each for each in conditions if each.get("type") == "Ready"]
    return (ready[0]["status"], ready[0]["message"]) if ready else ("", "")


def _metrics(item: JsonObject) -> str:
    metrics = _object(item["metrics"])
    shown = [
        f"{name} {value:.3f}"
        for name, value in metrics.items()
        if name in ("accuracy", "auc", "mae", "rmse") and isinstance(value, float)
    ]
    return ", ".join(shown)


def _reason(item: JsonObject) -> str:
    evaluation = item.get("evaluation")
    return str(evaluation["reason"]) if isinstance(evaluation, dict) else ""


def _text(item: JsonObject, name: str) -> str:
    return str(_object(item[name]).get("text", ""))


def _meta(document: JsonObject, name: str) -> str:
    return str(_object(document["metadata"]).get(name, ""))


def _is_run(text: str) -> bool:
    return len(text) == 36 and text.count("-") == 4


def _object(value: Json) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _items(answer: JsonObject) -> list[JsonObject]:
    items = answer["items"]
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
