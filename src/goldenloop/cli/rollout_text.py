"""`goldenloop describe rollout`: the evidence as a line on its way to its threshold, and what may come of it."""

from __future__ import annotations

from goldenloop.cli.output import console, table
from goldenloop.core.clock import SECOND
from goldenloop.core.durations import format_duration
from goldenloop.core.json import Json, JsonObject

_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDTH = 48


def describe_rollout(document: JsonObject) -> None:
    """Print a rollout for a person."""
    status, name = _object(document.get("status")), str(_object(document["metadata"]).get("name"))
    console.print(f"rollout {name}  {status.get('phase', 'not acted on')}", style="bold", markup=False)
    if not status:
        return
    evidence = _object(status.get("evidence"))
    history = [_object(point) for point in _list(status.get("history"))]
    console.print(
        f"  version {status['challenger']} against version {status['champion']}, {_how(status)}; {status.get('share'):g} % of the traffic",
        markup=False,
    )
    for line in ("benefit", "harm"):
        threshold = _number(evidence.get("threshold" if line == "benefit" else "harmThreshold"))
        points = [_number(point.get(line)) for point in history]
        console.print(
            f"  {line:<8}{sparkline(points, threshold)}  e^{_number(evidence.get(line)):.1f} of e^{threshold:.1f}",
            markup=False,
        )
    console.print(f"  {labels_line(status)}", markup=False)
    console.print(f"  {status.get('reason')}", markup=False)
    if status.get("waitsFor"):
        console.print("  waits for a person: goldenloop promote, or goldenloop rollback", style="bold", markup=False)
    guards = [_object(guard) for guard in _list(status.get("guards"))]
    if guards:
        table(
            ("GUARD", "VERDICT", "WORSE BY", "TOLERATED", "ROWS", "HARM"),
            (
                (
                    guard["name"],
                    guard["verdict"],
                    "" if guard["worseBy"] is None else f"{_number(guard['worseBy']):+.4f}",
                    f"{_number(guard['tolerated']):g}",
                    guard["rows"],
                    f"e^{_number(guard['harm']):.1f} of e^{_number(guard['threshold']):.1f}",
                )
                for guard in guards
            ),
        )
    for analysis in map(_object, _list(status.get("analyses"))):
        console.print(f"  analysis {analysis['name']}: {analysis['phase']} {analysis['message']}", markup=False)
    for outcome, text in _object(status.get("outcomes")).items():
        console.print(f"  {outcome}: {text}", markup=False)


def sparkline(points: list[float], threshold: float) -> str:
    """Points as blocks between zero and the threshold, the last one at the right.

    >>> sparkline([0.0, 1.0, 2.0, 4.0], 4.0)
    '▁▂▄█'
    """
    shown = (
        points
        if len(points) <= _WIDTH
        else [points[place * (len(points) - 1) // (_WIDTH - 1)] for place in range(_WIDTH)]
    )
    top = len(_BLOCKS) - 1
    return "".join(_BLOCKS[max(0, min(top, int(point / threshold * top)))] for point in shown)


def labels_line(status: JsonObject) -> str:
    """How many labels were counted, and how many more are expected to be needed.

    >>> labels_line({"labelled": 120, "missing": 3, "labelsUntilDecision": 80, "secondsUntilDecision": 172800, "phase": "Shadow"})
    '120 labels counted, 3 missing; about 80 labels until a decision, about 2d at the present rate'
    """
    counted = f"{status.get('labelled')} labels counted, {status.get('missing')} missing"
    if status.get("phase") not in ("Shadow", "Canary"):
        return counted
    left, seconds = status.get("labelsUntilDecision"), status.get("secondsUntilDecision")
    if left is None:
        latest = status.get("latestEnd")
        return f"{counted}; no decision is in sight{f', and it ends at {latest} at the latest' if latest else ''}"
    when = "" if not isinstance(seconds, int) else f", about {_roughly(seconds)} at the present rate"
    return f"{counted}; about {left} labels until a decision{when}"


def _roughly(seconds: int) -> str:
    """A duration in its largest unit."""
    for unit in (86_400, 3_600, 60, 1):
        if seconds >= 2 * unit or unit == 1:
            return format_duration(round(seconds / unit) * unit * SECOND)
    return "0s"


def _how(status: JsonObject) -> str:
    if status.get("comparison") == "split":
        return f"on requests dealt out between them (baseline {status.get('baselineShare'):g} %)"
    return "on the same requests"


def _number(value: Json) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _object(value: Json) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
