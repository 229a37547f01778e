"""Watching a run: its steps with states and times, live on a terminal, line by line elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from datetime import UTC, datetime
from enum import StrEnum

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from goldenloop.cli.output import Output, console, errors
from goldenloop.client import Client
from goldenloop.core.json import JsonObject
from goldenloop.core.phases import RUN_TRANSITIONS, RunState

_SHORTEST_PAUSE_SECONDS = 0.1
_PAUSE_PER_CALL = 5  # a run whose state takes long to read is looked at less often
_STYLES = {
    RunState.PENDING: ("·", "dim"),
    RunState.RUNNING: ("▶", "cyan"),
    RunState.SUCCEEDED: ("✓", "green"),
    RunState.SKIPPED: ("–", "dim"),
    RunState.FAILED: ("✗", "red"),
    RunState.CANCELED: ("■", "yellow"),
}
# On a terminal with less room than a run has steps, these come first.
_INTEREST = (
    RunState.FAILED,
    RunState.RUNNING,
    RunState.CANCELED,
    RunState.SUCCEEDED,
    RunState.PENDING,
    RunState.SKIPPED,
)


class Interruption(StrEnum):
    """What a person wants who pressed Ctrl-C while a run was watched."""

    LEAVE = "leave"
    CANCEL = "cancel"
    WATCH = "watch"


def watch(client: Client, run: str, *, output: Output) -> JsonObject | None:
    """Show a run until it has ended and return its last state; none where the person left it going on."""
    while True:
        try:
            if output is Output.TEXT and console.is_terminal:
                return _watch_live(client, run)
            return _watch_lines(client, run, quiet=output is not Output.TEXT)
        except KeyboardInterrupt:
            match _ask(run):
                case Interruption.CANCEL:
                    client.cancel_run(run)
                case Interruption.LEAVE:
                    errors.print(
                        f"run {run} goes on; see: goldenloop logs {run} --follow, and to end it: goldenloop cancel {run}",
                        markup=False,
                    )
                    return None
                case Interruption.WATCH:
                    pass


def tasks_of(state: JsonObject) -> list[JsonObject]:
    """The steps in what the server says of a run."""
    tasks = state["tasks"]
    return [task for task in tasks if isinstance(task, dict)] if isinstance(tasks, list) else []


def has_ended(state: JsonObject) -> bool:
    """Whether a run's state, or a step's, is final."""
    return not RUN_TRANSITIONS[RunState(str(state["state"]))]


def duration(item: JsonObject) -> str:
    """How long a run or a step took, or has taken; nothing where it has not begun.

    >>> duration({"started": "2026-01-01T00:00:00Z", "finished": "2026-01-01T00:01:05Z"})
    '1 min 5 s'
    """
    if not item.get("started"):
        return ""
    began = datetime.fromisoformat(str(item["started"]))
    ended = datetime.fromisoformat(str(item["finished"])) if item.get("finished") else datetime.now(UTC)
    seconds = max(0.0, (ended - began).total_seconds())
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    return f"{minutes} min {seconds % 60:.0f} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _watch_lines(client: Client, run: str, *, quiet: bool) -> JsonObject:
    shown: dict[str, str] = {}
    while True:
        began = time.monotonic()
        state = client.run(run)
        for task in tasks_of(state):
            name, now = str(task["name"]), str(task["state"])
            if shown.get(name) != now and not quiet:
                took = f"  {duration(task)}" if has_ended(task) and task["started"] else ""
                cached = " (from cache)" if task["cached"] else ""
                console.print(f"  {name:<30} {now}{cached}{took}", markup=False)
            shown[name] = now
        if has_ended(state):
            return state
        _pause(began)


def _watch_live(client: Client, run: str) -> JsonObject:
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            began = time.monotonic()
            state = client.run(run)
            live.update(_draw(state), refresh=True)
            if has_ended(state):
                return state
            _pause(began)


def _pause(began: float) -> None:
    time.sleep(max(_SHORTEST_PAUSE_SECONDS, _PAUSE_PER_CALL * (time.monotonic() - began)))


def _draw(state: JsonObject) -> RenderableType:
    tasks = tasks_of(state)
    room = max(3, console.height - 4)
    shown = tasks
    if len(tasks) > room:
        ranks = {kind: rank for rank, kind in enumerate(_INTEREST)}
        chosen = sorted(tasks, key=lambda task: ranks[RunState(str(task["state"]))])[:room]
        shown = [task for task in tasks if any(task is one for one in chosen)]
    drawn = Table.grid(padding=(0, 2, 0, 0))
    for task in shown:
        sign, style = _STYLES[RunState(str(task["state"]))]
        words = str(task["state"]).lower() + (" from cache" if task["cached"] else "")
        attempt = int(str(task["attempt"]))
        if attempt and not has_ended(task):
            words += f", attempt {attempt + 1}"
        drawn.add_row(Text(sign, style), Text(str(task["name"])), Text(words, style), Text(duration(task), "dim"))
    counts = Counter(str(task["state"]).lower() for task in tasks)
    summary = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    return Group(drawn, Text(f"{len(tasks)} steps: {summary or 'none yet'}  {duration(state)}", "dim"))


def _ask(run: str) -> Interruption:
    """What is to become of the run. Where nobody can be asked, or on a second Ctrl-C, it goes on."""
    if not sys.stdin.isatty():
        return Interruption.LEAVE
    try:
        answer = errors.input(f"\nrun {run}: [l]eave it going on, [c]ancel it, or [w]atch on? [l] ", markup=False)
    except (KeyboardInterrupt, EOFError):
        return Interruption.LEAVE
    return next(
        (each for each in Interruption if answer and each.value.startswith(answer.strip().lower())), Interruption.LEAVE
    )
