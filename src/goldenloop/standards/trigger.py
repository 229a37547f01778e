"""The resource `Trigger` (`goldenloop.dev/v1alpha1`) as a person writes it: which pipeline, on what, and what holds it back.

```yaml
apiVersion: goldenloop.dev/v1alpha1
kind: Trigger
metadata: {name: nightly-and-on-data}
spec:
  pipeline: train                       # the newest version of a pipeline of the catalog; or pipelineVersion: train/v3
  parameters: {day: "[[ScheduledTime]]", rows: "[[Cause.path]]"}
  on:
    - schedule: {cron: "0 3 * * *"}     # five fields are crontab's; six begin with seconds
    - file: {path: /data/in/*.parquet}
    - event: {type: com.example.dataset.published, data: {dataset: loans}}
    - alert: {name: AccuracyLow, labels: {team: risk}}
    - run: {pipeline: ingest, states: [SUCCEEDED]}
  concurrency: queue
  cooldown: 10m
  maxRunsPerDay: 24
```

A Trigger that a Loop wrote has another spec (`goldenloop.standards.loop.TriggerSpec`); the loop acts on it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from goldenloop.core.clock import SECOND, from_text
from goldenloop.core.durations import parse_duration
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json
from goldenloop.standards.documents import convert
from goldenloop.standards.loop import TriggerSpec
from goldenloop.standards.schedules import Schedule, check_schedule, six_fields

Positive = Annotated[int, Meta(ge=1)]
Concurrency = Literal["skip", "queue", "replace"]
EndState = Literal["SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"]


class _Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A record of a document: frozen, camel case on the wire, no unknown fields."""


class ScheduleSource(_Spec, frozen=True, kw_only=True):
    """A cron expression or an interval (`every`), UTC. With `catchUp` every slot that was missed starts a run, else the last one."""

    cron: str | None = None
    every: str | None = None
    start: str | None = None
    end: str | None = None
    catch_up: bool = False

    @property
    def schedule(self) -> Schedule:
        """The schedule that is meant, its cron expression in six fields. Raises InvalidSpecError."""
        return Schedule(
            cron=None if self.cron is None else six_fields(self.cron, where="schedule.cron", seconds_first=False),
            interval_us=None if self.every is None else parse_duration(self.every, where="schedule.every"),
            start_us=_moment(self.start, "schedule.start"),
            end_us=_moment(self.end, "schedule.end"),
        )


class FileSource(_Spec, frozen=True, kw_only=True):
    """New and changed files that a pattern names (`**` goes into folders), once they were left alone for `settle`.

    All that are new at one look are one cause. Files that were there before the trigger are none, unless `existing`.
    """

    path: str
    settle: str = "2s"
    existing: bool = False


class EventSource(_Spec, frozen=True, kw_only=True):
    """CloudEvents that come to `/events`. What is left out is not looked at; `type` may end in `*`; `data` names fields and values."""

    type: str
    source: str | None = None
    subject: str | None = None
    data: dict[str, Json] = {}


class AlertSource(_Spec, frozen=True, kw_only=True):
    """Alerts that Alertmanager sends to `/webhooks/alertmanager`: by name, and by labels that all must be there."""

    name: str | None = None
    labels: dict[str, str] = {}
    status: Literal["firing", "resolved"] = "firing"


class RunSource(_Spec, frozen=True, kw_only=True):
    """The end of another run in the same namespace: of a pipeline, or of a loop. A trigger's own runs never start it."""

    pipeline: str | None = None
    loop: str | None = None
    states: tuple[EndState, ...] = ("SUCCEEDED",)


class On(_Spec, frozen=True, kw_only=True):
    """One source of causes: one field of these."""

    schedule: ScheduleSource | None = None
    file: FileSource | None = None
    event: EventSource | None = None
    alert: AlertSource | None = None
    run: RunSource | None = None


class PipelineTriggerSpec(_Spec, frozen=True, kw_only=True):
    """What starts runs of a pipeline, and what holds them back.

    While a run of this trigger goes on, a new cause comes to nothing (`skip`), waits (`queue`), or ends that run and starts its own
    (`replace`). The same goes for causes within the cooldown and beyond the bound of a day, which `queue` lets wait and the others
    drop. With `dryRun` everything is decided and nothing started.
    """

    on: tuple[On, ...]
    pipeline: str | None = None
    pipeline_version: str | None = None
    parameters: dict[str, Json] = {}
    experiment: str = "Default"
    concurrency: Concurrency = "skip"
    cooldown: str = "0s"
    max_runs_per_day: Positive = 100
    dry_run: bool = False
    suspend: bool = False


def read_trigger(spec: object) -> TriggerSpec | PipelineTriggerSpec:
    """Return the spec of a Trigger: a loop's where it names one, else a pipeline's. Raises InvalidSpecError."""
    if isinstance(spec, dict) and "loop" in spec:
        return convert(spec, TriggerSpec, where="spec")
    trigger = convert(spec, PipelineTriggerSpec, where="spec")
    if (trigger.pipeline is None) == (trigger.pipeline_version is None):
        raise InvalidSpecError(
            "a trigger starts one pipeline",
            where="spec.pipeline",
            mend="Give pipeline: NAME, or pipelineVersion: NAME/VERSION.",
        )
    parse_duration(trigger.cooldown, where="spec.cooldown")
    if not trigger.on:
        raise InvalidSpecError("nothing starts it", where="spec.on", mend="Name a schedule, file, event, alert or run.")
    for index, source in enumerate(trigger.on):
        _check_source(source, f"spec.on[{index}]")
    return trigger


def _check_source(on: On, where: str) -> None:
    given = [name for name in on.__struct_fields__ if getattr(on, name) is not None]
    if len(given) != 1:
        raise InvalidSpecError(
            f"{len(given)} sources in one entry", where=where, mend="Give one of schedule, file, event, alert, run."
        )
    if on.schedule is not None:
        try:
            check_schedule(on.schedule.schedule, where=f"{where}.schedule")
        except InvalidSpecError as error:
            raise InvalidSpecError(error.what, where=f"{where}.schedule", mend=error.mend) from None
    if on.file is not None:
        parse_duration(on.file.settle, where=f"{where}.file.settle")
        if not on.file.path.startswith("/"):
            raise InvalidSpecError(
                f"{on.file.path!r} is not an absolute path",
                where=f"{where}.file.path",
                mend="Begin with '/': the platform does not know your folder.",
            )
    if on.run is not None and on.run.pipeline is not None and on.run.loop is not None:
        raise InvalidSpecError("a run is of a pipeline or of a loop", where=f"{where}.run", mend="Give one of both.")


def _moment(text: str | None, where: str) -> int | None:
    if text is None:
        return None
    try:
        return from_text(text) // SECOND * SECOND
    except ValueError:
        raise InvalidSpecError(f"{text!r} is not a time", where=where, mend="Write 2026-01-31T09:30:00Z.") from None
