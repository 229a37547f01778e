"""`goldenloop backtest`: what a loop would have done on a recorded stream. Needs no server."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from goldenloop.cli.applying import read_resources
from goldenloop.cli.output import Output, console, errors, say
from goldenloop.control.backtesting import LOOP_POLICY, Stream, Told, backtest
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json, JsonObject
from goldenloop.features.source import read_source
from goldenloop.standards.documents import convert, read_yaml
from goldenloop.standards.loop import LoopSpec, check_loop
from goldenloop.triggers.policies import NAMES
from goldenloop.web.backtests import write_report

_ROWS_A_STEP = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestOptions:
    """What was asked for.

    `policies` change fields of the spec, as in `retrain.falseAlarmWindows=50`; one of them may name a policy that takes the loop's place.
    """

    loop: Path
    data: Path
    policies: tuple[str, ...]
    warm_up: float
    every: int
    rollout: Literal["gated", "instant"]
    report: Path | None
    folder: Path | None
    output: Output


def run_backtest(options: BacktestOptions) -> None:
    """Do it, and say what came out."""
    begun = time.monotonic()
    policy, changes = _split(options.policies)
    spec = _spec_of(options.loop, changes)
    stream = Stream.of(read_source(str(options.data)), spec, warm_up=options.warm_up)
    document = _document(options, changes)
    tell = errors if options.output is not Output.TEXT else console
    tell.print(
        f"the warm-up: {stream.live} rows, on which the first version is trained; then {len(stream.times) - stream.live} rows",
        style="dim",
        markup=False,
    )
    with _folder(options.folder) as folder, _progress(len(stream.times) - stream.live) as on_row:
        told = backtest(
            document,
            stream,
            folder=folder,
            every=options.every,
            policy=policy,
            rollout=options.rollout,
            on_row=on_row,
        )
    if options.report is not None:
        options.report.write_text(write_report(told, name=_name_of(document)))
    shown: JsonObject = msgspec.to_builtins(told.backtest)
    say(options.output, shown, lambda: _print(told, options, seconds=time.monotonic() - begun))


def _split(given: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The policy that is named, and the fields that are changed. Raises InvalidSpecError for two names, or one that is none."""
    names = [each for each in given if "=" not in each]
    for name in names:
        if not any(name == known or name.startswith(known.rstrip("KX")) for known in NAMES):
            raise InvalidSpecError(
                f"{name!r} sets no field and is no policy",
                where="--policy",
                mend=f"Write FIELD=VALUE, such as retrain.falseAlarmWindows=50, or one of {', '.join(NAMES)}.",
            )
    if len(names) > 1:
        raise InvalidSpecError(f"{' and '.join(names)} are two policies", where="--policy", mend="Try one at a time.")
    return names[0] if names else LOOP_POLICY, tuple(each for each in given if "=" in each)


def _document(options: BacktestOptions, changes: tuple[str, ...]) -> JsonObject:
    # The source is the stream's: what the file says of it need not be there.
    documents = read_resources(options.loop, source=options.data)
    document = next(each for each in documents if each["kind"] == "Loop")
    spec = document["spec"]
    assert isinstance(spec, dict)
    for change in changes:
        _set(spec, change)
    check_loop(convert(spec, LoopSpec, where=f"{options.loop}: spec"))
    return document


def _spec_of(file: Path, policies: tuple[str, ...]) -> LoopSpec:
    if not file.is_file():
        raise InvalidSpecError("there is no such file", where=str(file), mend="Give the file of a Loop.")
    for document in read_yaml(file.read_text(), source=str(file)):
        if document.get("kind") == "Loop":
            spec = document.get("spec")
            if not isinstance(spec, dict):
                raise InvalidSpecError("the Loop has no spec", where=str(file), mend="See docs/loop.md.")
            for policy in policies:
                _set(spec, policy)
            return convert(spec, LoopSpec, where=f"{file}: spec")
    raise InvalidSpecError("there is no Loop in it", where=str(file), mend="See docs/loop.md.")


def _set(spec: JsonObject, policy: str) -> None:
    """Set a field of the spec by its path, `retrain.cooldown=1d`. Raises InvalidSpecError."""
    path, equals, text = policy.partition("=")
    *parents, last = path.split(".")
    if not equals or not all((*parents, last)):
        raise InvalidSpecError(
            f"{policy!r} sets no field",
            where="--policy",
            mend="Write FIELD=VALUE, such as retrain.falseAlarmWindows=50.",
        )
    inner = spec
    for name in parents:
        below = inner.setdefault(name, {})
        if not isinstance(below, dict):
            raise InvalidSpecError(f"{name!r} has no fields", where="--policy", mend="See docs/loop.md.")
        inner = below
    value: Json = text
    with contextlib.suppress(msgspec.DecodeError):
        value = msgspec.json.decode(text)
    inner[last] = value


def _name_of(document: JsonObject) -> str:
    metadata = document["metadata"]
    assert isinstance(metadata, dict)
    return str(metadata["name"])


@contextlib.contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="goldenloop-backtest-")) if given is None else given
    try:
        yield folder
    finally:
        if given is None:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    columns = (
        TextColumn("replaying"),
        BarColumn(),
        TextColumn("{task.completed} of {task.total} rows"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=errors, disable=not errors.is_terminal, transient=True) as bar:
        task = bar.add_task("replaying", total=total)

        def on_row(count: int) -> None:
            if count % _ROWS_A_STEP == 0:
                bar.update(task, completed=count)

        yield on_row


def _print(told: Told, options: BacktestOptions, *, seconds: float) -> None:
    result = told.backtest
    for window in result.windows:
        marks = [f"alarm: {alarm.kind} {alarm.feature}".rstrip() for alarm in window.alarms]
        marks += [text for text, holds in _marks(window.triggered, window.promoted, window.rolled_back) if holds]
        if marks:
            console.print(f"  window {window.index:<4} {window.start[:16]}  {', '.join(marks)}", markup=False)
    quality = result.quality
    every = "every window" if told.every == 1 else f"every {told.every} windows"
    console.print(
        f"{quality.metric} over {told.live_rows} rows in {len(result.windows) - told.warm_up_windows} windows",
        style="bold",
    )
    for name, policy, count in (
        ("the loop" if told.policy == LOOP_POLICY else told.policy, quality.loop, result.runs),
        ("never retrained", quality.never, 0),
        (f"retrained at {every}", quality.periodic, told.periodic_runs),
    ):
        shown = f"{policy.overall:.4f}" if policy.overall is not None else "–"
        console.print(f"  {name:<28} {shown}   {count} retrainings", markup=False)
    console.print(f"  {result.promotions} promotions, {result.rollbacks} roll-backs; {seconds:.0f} s", markup=False)
    if options.report is not None:
        console.print(f"  the report is in {options.report}", markup=False)


def _marks(triggered: bool, promoted: bool, rolled_back: bool) -> tuple[tuple[str, bool], ...]:
    return (("retraining", triggered), ("promoted", promoted), ("rolled back", rolled_back))
