"""What a rollout asks of the payload log: how two versions did on the same requests, or on requests that were dealt out between them.

Rules. Rows are taken in request order. A row counts once: with its label if that is known by the end of the cut, else as missing. Where the
two versions answered different requests (`split`), only rows that were dealt out as canary or baseline count, by whose turn it was and not
by who answered in the end, and of each unit (a route key, or a request where there is none) only the first request: what comes later from
the same key was not dealt out anew. A version that was asked and gave nothing loses 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from goldenloop.core.signatures import Task
from goldenloop.monitors.reference import losses_of
from goldenloop.payloads.ledger import Rows
from goldenloop.payloads.records import Answer, Value

SLICE_VALUES_SEEN = 200  # distinct values of one column; beyond that it does not name groups


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The question. `columns` are those whose values are counted, `slices` the values (as column and text) that are compared."""

    champion: str
    challenger: str
    task: Task
    scale: float
    split: bool = False
    since_us: int = 0  # where the rollout began; from then on a unit's first request is looked for
    columns: tuple[str, ...] = ()
    slices: tuple[tuple[str, str], ...] = ()


class ComparedFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The answer, in request order.

    Paired: `differences` of the rows with a label, champion's loss less challenger's; `bounded` of all rows, where a missing label is as
    bad for the challenger as it can be; `directions` of rows on which the two differ, as 2 * (which way) + (the label is missing).
    Split: `losses` of the requests with a label and whether it was the challenger's turn; `bounded_*` and `unlabelled` of all of them.
    """

    labelled: int = 0
    missing: int = 0
    unscored: int = 0
    challenger_failures: int = 0
    differences: tuple[float, ...] = ()
    bounded: tuple[float, ...] = ()
    directions: tuple[int, ...] = ()
    losses: tuple[float, ...] = ()
    turns: tuple[bool, ...] = ()
    bounded_losses: tuple[float, ...] = ()
    bounded_turns: tuple[bool, ...] = ()
    unlabelled: tuple[bool, ...] = ()
    slices: dict[str, tuple[float, ...]] = {}
    values: dict[str, dict[str, int]] = {}  # how many rows each value of the asked columns has


class BesideFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What shows without labels: on how many rows which of the two failed, and how long each took, in µs, where both were measured."""

    rows: int = 0
    challenger_alone_failed: int = 0
    champion_alone_failed: int = 0
    champion_us: tuple[int, ...] = ()
    challenger_us: tuple[int, ...] = ()


def compare(rows: Rows, asked: Comparison, earlier: Rows | None) -> ComparedFacts:
    """Compare the two on these rows. `earlier` are those since the rollout began and before them, where units have to be known."""
    facts = _split(rows, asked, earlier) if asked.split else _paired(rows, asked)
    values = {name: _counted(rows.columns[name]) for name in asked.columns if name in rows.columns}
    return msgspec.structs.replace(facts, values={name: found for name, found in values.items() if found})


def beside(rows: Rows, champion: str, challenger: str) -> BesideFacts:
    """Failures and durations of two versions that score the same requests."""
    nobody: list[None] = [None] * len(rows)
    ours, theirs = rows.answers.get(champion, nobody), rows.answers.get(challenger, nobody)
    failed_ours = rows.failures.get(champion, [False] * len(rows))
    failed_theirs = rows.failures.get(challenger, [False] * len(rows))
    asked = alone = champion_alone = 0
    for place in range(len(rows)):
        if not ((ours[place] or failed_ours[place]) and (theirs[place] or failed_theirs[place])):
            continue  # one of them was not asked
        asked += 1
        alone += _is_nothing(theirs[place]) and not _is_nothing(ours[place])
        champion_alone += _is_nothing(ours[place]) and not _is_nothing(theirs[place])
    took = zip(rows.scored_us.get(champion, nobody), rows.scored_us.get(challenger, nobody), strict=True)
    pairs = [(mine, other) for mine, other in took if mine is not None and other is not None]
    return BesideFacts(
        rows=asked,
        challenger_alone_failed=alone,
        champion_alone_failed=champion_alone,
        champion_us=tuple(mine for mine, _ in pairs),
        challenger_us=tuple(other for _, other in pairs),
    )


def has_units(rows: Rows) -> bool:
    """Whether some of these rows were dealt out by something else than their own id."""
    return any(unit != identity for unit, identity in zip(rows.units, rows.ids, strict=True))


def _paired(rows: Rows, asked: Comparison) -> ComparedFacts:
    nobody: list[None] = [None] * len(rows)
    ours, theirs = rows.answers.get(asked.champion, nobody), rows.answers.get(asked.challenger, nobody)
    failures = rows.failures.get(asked.challenger, [False] * len(rows))
    champion_losses = losses_of(asked.task, list(ours), rows.labels, asked.scale)
    challenger_losses = losses_of(asked.task, list(theirs), rows.labels, asked.scale)
    differences: list[float] = []
    bounded: list[float] = []
    directions: list[int] = []
    places: list[int] = []
    missing = unscored = failed = 0
    for place in range(len(rows)):
        if ours[place] is None or (theirs[place] is None and not failures[place]):
            unscored += 1
            continue
        failed += theirs[place] is None
        is_missing = bool(np.isnan(champion_losses[place]))
        apart = _largest_difference(asked.task, ours[place], theirs[place], asked.scale)
        if is_missing:
            missing += 1
            bounded.append(-apart)
        else:
            places.append(place)
            differences.append(float(champion_losses[place] - challenger_losses[place]))
            bounded.append(differences[-1])
        if apart and theirs[place] is not None:
            directions.append(2 * _direction(ours[place], theirs[place]) + is_missing)
    return ComparedFacts(
        labelled=len(differences),
        missing=missing,
        unscored=unscored,
        challenger_failures=failed,
        differences=tuple(differences),
        bounded=tuple(bounded),
        directions=tuple(directions),
        slices=_cut(rows, asked, places, differences),
    )


def _split(rows: Rows, asked: Comparison, earlier: Rows | None) -> ComparedFacts:
    theirs = rows.answers.get(asked.challenger, [None] * len(rows))
    ours = rows.answers.get(asked.champion, [None] * len(rows))
    turns = [_turn(rows, place, asked.challenger) for place in range(len(rows))]
    said: list[Answer | None] = [theirs[place] if turn else ours[place] for place, turn in enumerate(turns)]
    known = losses_of(asked.task, said, rows.labels, asked.scale)
    first = _first_requests(earlier, asked.challenger) if earlier is not None else {}
    requests: dict[str, list[int]] = {}
    for place, turn in enumerate(turns):
        if turn is not None and first.setdefault(rows.units[place], rows.ids[place]) == rows.ids[place]:
            requests.setdefault(rows.ids[place], []).append(place)
    losses: list[float] = []
    dealt: list[bool] = []
    bounded: list[float] = []
    all_dealt: list[bool] = []
    unlabelled: list[bool] = []
    places: list[int] = []
    failed = 0
    for group in requests.values():
        turn = bool(turns[group[0]])
        labelled = [float(known[place]) for place in group if not np.isnan(known[place])]
        failed += turn and said[group[0]] is None
        all_dealt.append(turn)
        unlabelled.append(not labelled)
        bounded.append(float(np.mean(labelled)) if labelled else float(turn))
        if labelled:
            losses.append(bounded[-1])
            dealt.append(turn)
            places.append(group[0])
    signed = [(loss - 0.5) * (-1.0 if turn else 1.0) for loss, turn in zip(losses, dealt, strict=True)]
    return ComparedFacts(
        labelled=len(losses),
        missing=len(bounded) - len(losses),
        unscored=sum(turn is None for turn in turns),
        challenger_failures=failed,
        losses=tuple(losses),
        turns=tuple(dealt),
        bounded_losses=tuple(bounded),
        bounded_turns=tuple(all_dealt),
        unlabelled=tuple(unlabelled),
        slices=_cut(rows, asked, places, signed),
    )


def _turn(rows: Rows, place: int, challenger: str) -> bool | None:
    """Whose turn a row was: the challenger's, the baseline's (False), or of neither."""
    reason = rows.reasons[place]
    if reason == "baseline":
        return False
    if reason == "fallback" or (reason in ("canary", "sticky") and rows.answered_by[place] == challenger):
        return True
    return None


def _first_requests(rows: Rows, challenger: str) -> dict[str, str]:
    first: dict[str, str] = {}
    for place, unit in enumerate(rows.units):
        if _turn(rows, place, challenger) is not None:
            first.setdefault(unit, rows.ids[place])
    return first


def _cut(rows: Rows, asked: Comparison, places: Sequence[int], values: Sequence[float]) -> dict[str, tuple[float, ...]]:
    """The values of each slice, by `column=value`."""
    found: dict[str, tuple[float, ...]] = {}
    for column, wanted in asked.slices:
        cells = rows.columns.get(column)
        if cells is not None:
            mine = [value for place, value in zip(places, values, strict=True) if _text(cells[place]) == wanted]
            found[f"{column}={wanted}"] = tuple(mine)
    return found


def _counted(cells: Sequence[Value]) -> dict[str, int]:
    counts = Counter(_text(cell) for cell in cells)
    counts.pop("", None)
    return dict(counts) if len(counts) <= SLICE_VALUES_SEEN else {}


def _text(value: Value) -> str:
    if value is None or value != value:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_nothing(answer: Answer | None) -> bool:
    """No answer, or one that is no number."""
    if answer is None:
        return True
    return any(isinstance(number, float) and not np.isfinite(number) for number in (answer[0], *answer[1]))


def _direction(ours: Answer | None, theirs: Answer | None) -> int:
    assert ours is not None
    assert theirs is not None
    if isinstance(ours[0], str) or isinstance(theirs[0], str):
        return int(str(ours[0]) < str(theirs[0]))
    return int(ours[0] < theirs[0])


def _largest_difference(task: Task, ours: Answer | None, theirs: Answer | None, scale: float) -> float:
    """The most by which the losses of two answers can differ, whatever the label is: what a missing label may cost the challenger."""
    if _is_nothing(ours) or _is_nothing(theirs):
        return 1.0
    assert ours is not None
    assert theirs is not None
    if task == "classification":
        return float(str(ours[0]) != str(theirs[0]))
    return min(1.0, abs(float(ours[0]) - float(theirs[0])) / scale)
