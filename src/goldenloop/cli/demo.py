"""`goldenloop demo`: the loop closes on real data, and says what happens while it does.

Nothing is scripted. A stream is cut in two: its first part is the past, on which the loop begins; the rest is replayed through the real
endpoint in its own time. Whether the loop closes is read off its records at the end.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from goldenloop.cli.applying import read_resources
from goldenloop.cli.lifecycle import Options, Ports, start_detached, stop
from goldenloop.cli.output import console, errors
from goldenloop.cli.showing import print_trace
from goldenloop.client import Client
from goldenloop.client.replay import Sent, StreamRow, replay
from goldenloop.control.home import Home
from goldenloop.control.router import present_table
from goldenloop.control.work.records import Comparison
from goldenloop.core.clock import HOUR, to_text
from goldenloop.core.durations import format_duration, parse_duration
from goldenloop.core.errors import GoldenloopError, InvalidSpecError, NotFoundError
from goldenloop.core.json import Json, JsonObject
from goldenloop.core.signatures import Task
from goldenloop.features.schema import Schema, event_times, infer_schema
from goldenloop.features.source import read_source
from goldenloop.lineage.baselines import Baselines
from goldenloop.pipelines.runs import model_file
from goldenloop.standards.documents import convert, read_yaml
from goldenloop.standards.loop import LoopSpec
from goldenloop.stats.losses import metrics
from goldenloop.store.artifacts import Artifacts

_DELIVERY_US = 6 * HOUR  # labels come in batches
_TOLD = frozenset(
    {"Run", "RunFailed", "Blessed", "Refused", "Golden", "Served", "Alarm", "Trigger", "Rollout", "Canary", "Promoted"}
    | {"RolledBack", "Inconclusive", "Error"}
)
_STYLES = {
    "Alarm": "yellow",
    "Trigger": "bold yellow",
    "Promoted": "bold green",
    "Golden": "bold green",
    "Blessed": "green",
}
_BASELINE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What was asked for. `history` is the part of the stream that is the past when the loop begins."""

    home: Path | None
    ports: Ports
    loop: Path | None
    stream: Path | None
    history: float
    exit: bool
    json: bool


@dataclass(slots=True)
class Tally:
    """What the sender saw: the labels and the answers that went out, and the last prediction of each version."""

    labels: list[Json] = field(default_factory=list)
    answers: list[Json] = field(default_factory=list)
    latest: dict[str, str] = field(default_factory=dict)

    def add(self, sent: Sent) -> None:
        if sent.label is not None:
            self.labels.append(sent.label)
            self.answers.append(sent.answer)
        self.latest[sent.version] = sent.prediction

    def measured(self, task: Task, metric: str) -> float | None:
        """The metric over all labelled rows, None where there are none."""
        if not self.labels:
            return None
        return metrics(task, np.array(self.labels, dtype=object), np.array(self.answers, dtype=object))[metric]


def run_demo(options: DemoOptions) -> int:
    """Run it; return the exit code: 0 if the loop closed."""
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="goldenloop-demo-")) if options.home is None else options.home.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    home = Home.at(folder / "home")
    tell = console if not options.json else errors
    tell.print("starting the platform …", style="dim")
    stage = _Stage.of(options, folder)
    addresses = start_detached(home, Options(options.ports))
    try:
        story = _Story(Client(addresses), stage.name, tell)
        result = _play(stage, home, story, begun)
        if options.json:
            sys.stdout.write(msgspec.json.format(msgspec.json.encode(result), indent=2).decode() + "\n")
        else:
            _print_end(result, addresses.http)
        closed = bool(result["closed"])
        if not options.exit:
            _stay(addresses.http, tell)
        return 0 if closed else 1
    finally:
        with contextlib.suppress(GoldenloopError):
            stop(home)
        if options.home is None:
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Stage:
    """The loop file with its history beside it, and the rows that come."""

    name: str
    document: JsonObject
    spec: LoopSpec
    stream: pa.Table
    times: list[int]
    live: int  # the number of the first live row
    schema: Schema

    @classmethod
    def of(cls, options: DemoOptions, folder: Path) -> _Stage:
        example = examples() / "electricity"
        loop = options.loop or example / "loop.yaml"
        stream = read_source(str(options.stream or example / "electricity.csv"))
        if not 0.01 <= options.history <= 0.9:
            raise InvalidSpecError(
                f"{options.history} is not a part of the stream", where="--history", mend="Give 0.2, for example."
            )
        written = _spec_of(loop)
        data = written.data
        schema = infer_schema(
            stream,
            label=None if data.label == "auto" else data.label,
            timestamp=data.timestamp,
            subject=data.subject,
            protected=data.protected,
            task=written.task,
        )
        if schema.timestamp is None:
            raise InvalidSpecError(
                "the stream has no time", where="spec.data.timestamp", mend="Name the column that holds it."
            )
        times = event_times(stream, schema)
        order = times.argsort(kind="stable")
        stream, times = stream.take(pa.array(order)), times[order]
        live = int(len(stream) * options.history)
        source = folder / "history.csv"
        pv.write_csv(stream.slice(0, live), source)
        document = next(each for each in read_resources(loop, source=source) if each["kind"] == "Loop")
        spec = convert(document["spec"], LoopSpec)
        if not spec.replay:
            raise InvalidSpecError(
                "a stream can only be replayed where the loop allows it",
                where="spec.replay",
                mend="Write replay: true.",
            )
        metadata = document["metadata"]
        assert isinstance(metadata, dict)
        return cls(str(metadata["name"]), document, spec, stream, [int(moment) for moment in times], live, schema)

    @property
    def metric(self) -> str:
        """What is compared over the stream."""
        return "accuracy" if self.schema.task == "classification" else "mae"

    @property
    def delay_us(self) -> int:
        """After how long the truth about a row is known; the rest of the loop's delay is delivery."""
        return max(0, parse_duration(self.spec.labels.delay) - self.delivery_us)

    @property
    def delivery_us(self) -> int:
        """How long a label waits at most for its delivery."""
        return min(_DELIVERY_US, max(1, parse_duration(self.spec.labels.delay)))

    def rows(self) -> Iterator[StreamRow]:
        """The live rows, in order."""
        names = [column.name for column in self.schema.inputs]
        label = self.stream.column(self.schema.label)
        live = self.stream.slice(self.live)
        columns = {name: live.column(name).to_pylist() for name in names}
        labels = label.slice(self.live).to_pylist()
        for place, event_us in enumerate(self.times[self.live :]):
            yield StreamRow(event_us, {name: columns[name][place] for name in names}, labels[place])


class _Story:
    """Tells the timeline as it grows."""

    def __init__(self, client: Client, loop: str, tell: Console) -> None:
        self.client = client
        self.loop = loop
        self._tell = tell
        self._after = 0
        self.lines: list[JsonObject] = []
        self._lock = threading.Lock()

    def go_on(self) -> None:
        """Tell what is new."""
        with self._lock, contextlib.suppress(GoldenloopError):
            for line in self.client.timeline(self.loop, after=self._after):
                self._after = int(str(line["sequence"]))
                self.lines.append(line)
                if line["kind"] in _TOLD:
                    self.say(
                        f"{str(line['at'])[:16].replace('T', ' ')}  {line['kind']:<12} {line['text']}",
                        str(line["kind"]),
                    )

    def say(self, text: str, kind: str = "") -> None:
        self._tell.print(text, style=_STYLES.get(kind), markup=False)

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Tell along while the block runs."""
        ended = threading.Event()

        def follow() -> None:
            while not ended.wait(0.5):
                self.go_on()

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.go_on()


def _play(stage: _Stage, home: Home, story: _Story, begun: float) -> JsonObject:
    client = Client(story.client.addresses)
    client.apply(stage.document)
    story.say(
        f"the past: {stage.live} rows until {to_text(stage.times[stage.live - 1])[:10]}; the first version is trained on it"
    )
    with story.told():
        client.until_served(stage.name)
    _tell_steps(client, stage.name, story)
    comparison = _start_comparison(stage, home, client)
    rows = len(stage.times) - stage.live
    story.say(
        f"the stream: {rows} requests, one a row, in their own time; each label comes {stage.spec.labels.delay} later at the latest"
    )
    tally = Tally()
    begun_replay = time.monotonic()
    with _ended(comparison[0]), story.told(), _progress(rows, enabled=console.is_terminal) as step:

        def on_sent(sent: Sent) -> None:
            tally.add(sent)
            step(sent)

        replay(
            client.addresses.inference,
            stage.name,
            stage.rows(),
            delay_us=stage.delay_us,
            delivery_us=stage.delivery_us,
            on_sent=on_sent,
        )
    span = format_duration((stage.times[-1] - stage.times[stage.live]) // (24 * HOUR) * 24 * HOUR)
    story.say(f"{span} passed in {time.monotonic() - begun_replay:.0f} s")
    baselines = _finish_comparison(comparison)
    client.keep_baselines(stage.name, baselines)
    story.go_on()
    return _result(stage, client, story, tally, baselines, seconds=time.monotonic() - begun)


def _result(
    stage: _Stage, client: Client, story: _Story, tally: Tally, baselines: Baselines, *, seconds: float
) -> JsonObject:
    """What the records say."""
    lines = story.lines
    causes = [line for line in lines if line["kind"] == "Trigger"]
    promotions = [line for line in lines if line["kind"] == "Promoted" and _by_evidence(line)]
    triggered = [run for run in client.runs(stage.name) if _object(run["cause"])["kind"] != "first"]
    last = sorted(tally.latest, key=int)[-1]
    trace = client.trace(tally.latest[last])
    checks: JsonObject = {
        "cause": bool(causes),
        "triggeredRun": any(run["state"] == "SUCCEEDED" for run in triggered),
        "promotionByEvidence": bool(promotions),
        "trace": all(
            trace.get(part)
            for part in ("payload", "answer", "version", "evaluation", "run", "data", "code", "attributions")
        ),
    }
    metric = stage.metric
    overall = tally.measured(stage.schema.task, metric)
    policies = baselines.policies
    quality: JsonObject = {
        "metric": metric,
        "rows": len(tally.labels),
        "loop": {"overall": overall, "runs": len(triggered)},
        "never": {"overall": policies["never"].overall, "runs": 0},
        "periodic": {"overall": policies["periodic"].overall, "runs": policies["periodic"].runs},
    }
    return {
        "closed": all(checks.values()),
        "checks": checks,
        "quality": quality,
        "runs": len(triggered),
        "promotions": len([line for line in lines if line["kind"] == "Promoted"]),
        "rollbacks": len([line for line in lines if line["kind"] == "RolledBack"]),
        "timeline": list(lines),
        "trace": trace,
        "page": f"{client.addresses.http}/#/loops/{stage.name}",
        "seconds": round(seconds, 1),
    }


def _by_evidence(line: JsonObject) -> bool:
    facts = _object(line["facts"])
    benefit, threshold = facts.get("benefit"), facts.get("threshold")
    return isinstance(benefit, float) and isinstance(threshold, float) and benefit >= threshold


def _start_comparison(stage: _Stage, home: Home, client: Client) -> tuple[subprocess.Popen[bytes], Path]:
    """Compute what other policies would have reached, beside the replay."""
    folder = Path(tempfile.mkdtemp(dir=home.work, prefix="baselines-"))
    artifacts = Artifacts(str(home.artifacts), cache=home.cache)
    version = _objects(client.of_loop("versions", stage.name)["items"])[0]
    made = _objects(client.run(str(version["run"]))["artifacts"])
    models = [each for each in made if each["type"] == "system.Model"]
    if not models:
        raise NotFoundError("the first run gave no model", where=str(version["run"]))
    size = stage.spec.windows.size
    choices = _object(client.get("loops", stage.name)["status"])["choices"]
    chosen = str(_object(_object(choices)["windows"])["value"]) if size == "auto" else str(size)
    if chosen.isdigit() or chosen.endswith("rows"):
        raise InvalidSpecError(
            "the demo compares windows by duration", where="spec.windows.size", mend="Write 1w, for example."
        )
    window, window_us, origin_us = stage.spec.data.window, parse_duration(chosen), stage.times[stage.live]
    count = (stage.times[-1] - origin_us) // window_us + 1
    pq.write_table(stage.stream, folder / "stream.parquet")
    request = Comparison(
        stream=str(folder / "stream.parquet"),
        estimator=str(model_file(artifacts, str(models[-1]["uri"]))),
        first_version=_first_folder(home, stage.name),
        schema=stage.schema,
        metric=stage.metric,
        starts_us=tuple(origin_us + index * window_us for index in range(count + 1)),
        span_us=None if window == "all" else parse_duration(window),
        delay_us=parse_duration(stage.spec.labels.delay),
    )
    (folder / "request.json").write_bytes(msgspec.json.encode(request))
    with open(folder / "log.txt", "wb") as log:
        command = [sys.executable, "-m", "goldenloop.control.work.main", "baselines", str(folder)]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log), folder


def _first_folder(home: Home, name: str) -> str:
    service = next(each for each in present_table(home).services if each.name == name)
    return service.versions[0].path


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """The process does not outlive a block that fails or is interrupted."""
    try:
        yield
    except BaseException:
        process.kill()
        process.wait()
        raise


def _finish_comparison(comparison: tuple[subprocess.Popen[bytes], Path]) -> Baselines:
    process, folder = comparison
    try:
        code = process.wait(timeout=_BASELINE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        code = -1
    response = folder / "response.json"
    if code != 0 or not response.exists():
        raise GoldenloopError(f"the other policies could not be computed: {(folder / 'log.txt').read_text()[-500:]}")
    return msgspec.json.decode(response.read_bytes(), type=Baselines)


def _tell_steps(client: Client, name: str, story: _Story) -> None:
    first = client.runs(name)[-1]
    steps = [str(task["name"]) for task in _objects(client.run(str(first["id"]))["tasks"])]
    story.say(f"its steps: {' → '.join(steps)} → bless → register")


@contextlib.contextmanager
def _progress(total: int, *, enabled: bool) -> Iterator[_Step]:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[shown]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not enabled, transient=True) as bar:
        yield _Step(bar, bar.add_task("replaying", total=total, shown=""))


class _Step:
    """Moves the bar, not at every row."""

    def __init__(self, bar: Progress, task: object) -> None:
        self._bar = bar
        self._task = task
        self._count = 0

    def __call__(self, sent: Sent) -> None:
        self._count += 1
        if self._count % 200 == 0:
            shown = f"{to_text(sent.event_us)[:10]}  version {sent.version}"
            self._bar.update(self._task, completed=self._count, shown=shown)  # type: ignore[arg-type]


def _print_end(result: JsonObject, page: str) -> None:
    quality = _object(result["quality"])
    console.print()
    console.print(f"{quality['metric']} over the stream, and what it cost", style="bold", markup=False)
    for name, label in (("loop", "the loop"), ("never", "never retrained"), ("periodic", "retrained at every window")):
        policy = _object(quality[name])
        overall = policy["overall"]
        shown = f"{overall:.4f}" if isinstance(overall, float) else "–"
        console.print(f"  {label:<28} {shown}   {policy['runs']} retrainings", markup=False)
    console.print()
    console.print("one answer, traced back", style="bold")
    print_trace(_object(result["trace"]))
    console.print()
    for name, holds in _object(result["checks"]).items():
        console.print(f"  {'yes' if holds else 'NO '}  {name}", markup=False)
    said = "the loop closed" if result["closed"] else "the loop did not close"
    console.print(f"{said}, in {result['seconds']} s; see it at {page}/#/loops", style="bold", markup=False)


def _stay(page: str, tell: Console) -> None:
    tell.print(f"the platform goes on at {page}; Ctrl-C stops it", markup=False)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)


def examples() -> Path:
    """The folder of the examples: in the package when it was installed, else in the checkout."""
    inside = Path(__file__).parents[1] / "examples"
    outside = Path(__file__).parents[3] / "examples"
    for folder in (inside, outside):
        if (folder / "electricity").is_dir():
            return folder
    raise NotFoundError("the examples are not there", where=str(inside), mend="Install goldenloop again.")


def _spec_of(file: Path) -> LoopSpec:
    for document in read_yaml(file.read_text(), source=str(file)):
        if document.get("kind") == "Loop":
            return convert(document.get("spec"), LoopSpec, where=f"{file}: spec")
    raise InvalidSpecError("there is no Loop in it", where=str(file))


def _object(value: Json) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _objects(value: Json) -> list[JsonObject]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
