"""Where causes are looked for that nobody brings: schedules, files, and the ends of runs.

Each source remembers how far it has looked. What it found and what it remembers are written in one transaction, so nothing is found
twice and nothing is passed over, whenever control is killed.
"""

from __future__ import annotations

import glob
import os
import stat
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from sqlalchemy import String, cast, literal, or_, select

from goldenloop.control.causes import Cause, TriggerView, cause_prefix
from goldenloop.core.clock import MINUTE, to_text
from goldenloop.core.durations import parse_duration
from goldenloop.core.errors import InvalidSpecError, NotFoundError
from goldenloop.core.ids import digest_text
from goldenloop.core.json import Json
from goldenloop.pipelines.catalog import find_pipeline
from goldenloop.pipelines.run_records import SHOWN
from goldenloop.standards.schedules import next_slot
from goldenloop.standards.trigger import FileSource, On, RunSource, ScheduleSource
from goldenloop.store import memories
from goldenloop.store.database import Transaction
from goldenloop.store.tables import decisions, runs

CAUSES_AT_A_LOOK = 100
MOST_FILES = 10_000
PATHS_TOLD = 1_000  # that a run is told of
# Runs are looked through again from so long before the last one that was seen: their ends are not written in the order of their times.
_OVERLAP_US = MINUTE
_PROGRESS_US = 10 * MINUTE  # how often it is written down that nothing was found
Memory = TypeVar("Memory", bound=msgspec.Struct)

SOURCE = "source/"  # how the names of these memories begin


class SlotMemory(msgspec.Struct, frozen=True):
    """The last slot of a schedule that was found."""

    last_us: int | None = None


class FileMemory(msgspec.Struct, frozen=True):
    """Size and time of change (nanoseconds) of the files that were found, by path."""

    files: dict[str, tuple[int, int]] = {}


class RunMemory(msgspec.Struct, frozen=True):
    """Until when the ends of runs were looked through."""

    until_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a look at one source gave: causes, and what the source remembers now, by its name."""

    name: str
    memory: msgspec.Struct
    causes: tuple[Cause, ...] = ()


def look(transaction: Transaction, view: TriggerView, on: On, *, now_us: int) -> Found | None:
    """Look at one source of a trigger; None where nothing is new. Raises InvalidSpecError where it cannot be looked at."""
    if on.schedule is not None:
        return _slots(transaction, view, on.schedule, now_us)
    if on.file is not None:
        return _files(transaction, view, on.file, now_us)
    if on.run is not None:
        return _runs(transaction, view, on.run, now_us)
    return None  # events and alerts are brought


def next_moment(transaction: Transaction, view: TriggerView) -> int | None:
    """The next slot of a trigger's schedules."""
    moments = []
    for on in view.spec.on:
        if on.schedule is not None:
            memory = _recall(transaction, view, on.schedule, SlotMemory)
            last_us = None if memory is None else memory.last_us
            moments.append(
                next_slot(on.schedule.schedule, last_us=last_us, created_us=view.created_us, now_us=view.created_us)
            )
    return min((moment for moment in moments if moment is not None), default=None)


def _slots(transaction: Transaction, view: TriggerView, source: ScheduleSource, now_us: int) -> Found | None:
    memory = _recall(transaction, view, source, SlotMemory) or SlotMemory()
    last_us = memory.last_us
    found: list[Cause] = []
    while len(found) < CAUSES_AT_A_LOOK:
        slot = next_slot(
            source.schedule, last_us=last_us, created_us=view.created_us, now_us=now_us, catch_up=source.catch_up
        )
        if slot is None or slot > now_us:
            break
        text = f"the schedule's slot of {to_text(slot)}"
        found.append(Cause(kind="schedule", key=f"{_name(source)}\n{slot}", text=text, event_us=slot))
        last_us = slot
    if not found:
        return None
    return Found(name=_name(source), memory=SlotMemory(last_us), causes=tuple(found))


def _files(transaction: Transaction, view: TriggerView, source: FileSource, now_us: int) -> Found | None:
    memory = _recall(transaction, view, source, FileMemory)
    present = _present(source.path)
    if memory is None and not source.existing:
        return Found(name=_name(source), memory=FileMemory(present))
    known = {} if memory is None else memory.files
    settle_us = parse_duration(source.settle)
    # A file that is still written to changes again soon; a time in the future says nothing.
    changed = {
        path: version
        for path, version in present.items()
        if known.get(path) != version and not 0 <= now_us - version[1] // 1_000 < settle_us
    }
    gone = known.keys() - present.keys()
    if not changed and not gone:
        return None
    kept = {path: version for path, version in known.items() if path not in gone}
    after = FileMemory({**kept, **changed})
    if not changed:
        return Found(name=_name(source), memory=after)
    paths = sorted(changed)
    version = digest_text(*(f"{path}\n{changed[path]}" for path in paths))
    told: list[Json] = list(paths[:PATHS_TOLD])
    more = f" and {len(paths) - 1} more files" if len(paths) > 1 else ""
    cause = Cause(
        kind="file",
        key=version,
        text=f"new file {paths[0]}{more}",
        event_us=now_us,
        facts={"path": paths[0], "paths": told, "count": len(paths), "version": version},
    )
    return Found(name=_name(source), memory=after, causes=(cause,))


def _present(pattern: str) -> dict[str, tuple[int, int]]:
    """The regular files that a pattern names, hidden ones left out."""
    found: dict[str, tuple[int, int]] = {}
    for path in glob.iglob(pattern, recursive=True):
        try:
            facts = os.stat(path)
        except OSError:
            continue  # gone since it was listed
        if stat.S_ISREG(facts.st_mode):
            found[path] = (facts.st_size, facts.st_mtime_ns)
        if len(found) > MOST_FILES:
            raise InvalidSpecError(
                f"{pattern} names more than {MOST_FILES} files", where="spec.on.file.path", mend="Name fewer."
            )
    return found


def _runs(transaction: Transaction, view: TriggerView, source: RunSource, now_us: int) -> Found | None:
    memory = _recall(transaction, view, source, RunMemory) or RunMemory(view.created_us)
    named = runs.c.pipeline["pipeline_spec"]["pipelineInfo"]["name"].as_string()
    key = runs.c.id + "/" + cast(runs.c.finished_us, String)
    is_noted = select(decisions.c.id).where(decisions.c.cause_key == literal(cause_prefix(view, "run")) + key).exists()
    since_us = max(view.created_us, memory.until_us - _OVERLAP_US)
    query = (
        select(runs.c.id, runs.c.name, runs.c.state, runs.c.finished_us, named.label("pipeline"), key.label("key"))
        .where(runs.c.finished_us > since_us, runs.c.namespace == view.namespace)
        .where(runs.c.state.in_(source.states), SHOWN, ~is_noted)
        # A run that this trigger started would start the next one, and so on for ever.
        .where(or_(runs.c.started_by.is_(None), runs.c.started_by != view.uid))
        .order_by(runs.c.finished_us, runs.c.id)
    )
    if source.loop is not None:
        query = query.where(runs.c.loop == source.loop)
    if source.pipeline is not None:
        query = query.where(
            or_(named == source.pipeline, runs.c.pipeline_id == _pipeline_id(transaction, view, source))
        )
    ended = transaction.execute(query.limit(CAUSES_AT_A_LOOK)).all()
    if not ended:
        is_behind = now_us - memory.until_us > _PROGRESS_US
        return Found(name=_name(source), memory=RunMemory(now_us)) if is_behind else None
    causes = tuple(
        Cause(
            kind="run",
            key=row.key,
            text=f"run {row.name!r} has {row.state.lower()}",
            event_us=row.finished_us,
            facts={"run": row.id, "name": row.name, "state": row.state, "pipeline": row.pipeline},
        )
        for row in ended
    )
    until_us = max(memory.until_us, ended[-1].finished_us)
    return Found(name=_name(source), memory=RunMemory(until_us), causes=causes)


def _pipeline_id(transaction: Transaction, view: TriggerView, source: RunSource) -> str:
    try:
        return find_pipeline(transaction, view.namespace, source.pipeline or "").id
    except NotFoundError:
        return ""


def _name(source: msgspec.Struct) -> str:
    """What a source's memory is called: the same as long as the source is written the same."""
    return SOURCE + digest_text(type(source).__name__, msgspec.json.encode(source).decode())[:32]


def _recall(transaction: Transaction, view: TriggerView, source: msgspec.Struct, kind: type[Memory]) -> Memory | None:
    return memories.recall(transaction, view.namespace, view.uid, _name(source), kind)
