"""Recurring runs of KFP's API."""

from __future__ import annotations

from typing import Literal

import msgspec
from starlette.routing import Route

from goldenloop.api.kfp.calls import Answer, Call, filled, namespace_of, route
from goldenloop.api.kfp.errors import INTERNAL
from goldenloop.api.kfp.runs import RuntimeConfig, VersionReference, settings_of, source_of
from goldenloop.control.platform import Platform
from goldenloop.core.clock import SECOND, from_text, to_text
from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.pipelines import recurring
from goldenloop.pipelines.recurring import RecurringRequest, RecurringRun
from goldenloop.standards.kfp_packages import Package, joined_specification
from goldenloop.standards.schedules import Schedule
from goldenloop.store import tables
from goldenloop.store.database import record_of
from goldenloop.store.paging import read_page

_LONGEST_INTERVAL = 100 * 366 * 24 * 3600  # seconds


class CronSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """A cron expression, seconds first."""

    cron: str = ""
    start_time: str = ""
    end_time: str = ""


class PeriodicSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """An interval."""

    interval_second: int = 0
    start_time: str = ""
    end_time: str = ""


class TriggerMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One schedule of two kinds."""

    cron_schedule: CronSchedule | None = None
    periodic_schedule: PeriodicSchedule | None = None


class RecurringRunMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller says of a new recurring run."""

    display_name: str = ""
    description: str = ""
    experiment_id: str = ""
    namespace: str = ""
    pipeline_version_id: str = ""
    pipeline_version_reference: VersionReference | None = None
    pipeline_spec: JsonObject | None = None
    runtime_config: RuntimeConfig = RuntimeConfig()
    service_account: str = ""
    max_concurrency: int = 0  # 0: not said
    trigger: TriggerMessage = TriggerMessage()
    mode: Literal["MODE_UNSPECIFIED", "ENABLE", "DISABLE"] | int = "MODE_UNSPECIFIED"
    no_catchup: bool = False


class RecurringRunRoutes:
    """Routes under `/recurringruns`."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._database = platform.database
        self._clock = platform.world.clock

    def routes(self) -> list[Route]:
        """What to mount."""
        one = "/recurringruns/{recurring}"
        return [
            route("/recurringruns", self._create, method="POST"),
            route("/recurringruns", self._list),
            route(f"{one}:enable", self._enable, method="POST"),
            route(f"{one}:disable", self._disable, method="POST"),
            route(one, self._get),
            route(one, self._delete, method="DELETE"),
        ]

    def _create(self, call: Call) -> Answer:
        given = call.message(RecurringRunMessage, where="recurring_run")
        request = RecurringRequest(
            namespace=namespace_of(given.namespace),
            name=given.display_name,
            description=given.description,
            source=source_of(
                given.pipeline_spec,
                given.pipeline_version_reference,
                given.pipeline_version_id,
                where="recurring_run",
            ),
            schedule=_schedule(given.trigger),
            experiment_id=given.experiment_id or None,
            parameters=given.runtime_config.parameters,
            settings=settings_of(given.runtime_config, given.service_account),
            catch_up=not given.no_catchup,
            max_concurrency=given.max_concurrency or 1,
            enabled=given.mode not in ("DISABLE", 2),
        )
        with self._database.write() as transaction:
            made = recurring.create_recurring_run(transaction, request, now_us=self._clock.now_us())
        self._platform.wake()
        return _shown(made)

    def _get(self, call: Call) -> Answer:
        with self._database.read() as transaction:
            return _shown(recurring.get_recurring_run(transaction, call.path["recurring"]))

    def _list(self, call: Call) -> Answer:
        table = tables.recurring_runs
        experiment_id = call.text("experiment_id")
        where = [table.c.experiment_id == experiment_id] if experiment_id else []
        if not experiment_id or call.text("namespace"):
            where.append(table.c.namespace == call.namespace())
        with self._database.read() as transaction:
            page = read_page(transaction, recurring.LISTING, list(table.c), call.asked(), where=where)
        shown = [_shown(record_of(row, RecurringRun)) for row in page.rows]
        # The only list of KFP's API whose name is in camel case.
        return filled({"recurringRuns": shown, "total_size": page.total, "next_page_token": page.next_token})

    def _enable(self, call: Call) -> Answer:
        return self._switch(call, enabled=True)

    def _disable(self, call: Call) -> Answer:
        return self._switch(call, enabled=False)

    def _switch(self, call: Call, *, enabled: bool) -> Answer:
        with self._database.write() as transaction:
            recurring.switch(transaction, call.path["recurring"], enabled=enabled, now_us=self._clock.now_us())
        self._platform.wake()
        return {}

    def _delete(self, call: Call) -> Answer:
        with self._database.write() as transaction:
            recurring.delete_recurring_run(transaction, call.path["recurring"])
        return {}


def _schedule(given: TriggerMessage) -> Schedule:
    cron, periodic = given.cron_schedule, given.periodic_schedule
    if cron is not None and periodic is None:
        return Schedule(
            cron=cron.cron, start_us=_moment(cron.start_time, "start_time"), end_us=_moment(cron.end_time, "end_time")
        )
    if periodic is not None and cron is None:
        if not 1 <= periodic.interval_second <= _LONGEST_INTERVAL:
            raise InvalidSpecError(
                f"{periodic.interval_second} s is not an interval",
                where="recurring_run.trigger.periodic_schedule.interval_second",
                mend="Give a number of seconds, 1 or more.",
            )
        return Schedule(
            interval_us=periodic.interval_second * SECOND,
            start_us=_moment(periodic.start_time, "start_time"),
            end_us=_moment(periodic.end_time, "end_time"),
        )
    raise InvalidSpecError(
        "a recurring run has one schedule",
        where="recurring_run.trigger",
        mend="Give cron_schedule or periodic_schedule.",
    )


def _moment(text: str, where: str) -> int | None:
    try:
        return from_text(text) if text else None
    except ValueError:
        raise InvalidSpecError(
            f"{text!r} is not a time", where=f"recurring_run.trigger.{where}", mend="Write 2026-01-31T09:30:00Z."
        ) from None


def _shown(run: RecurringRun) -> Answer:
    settings = run.settings or {}
    answer: Answer = {
        "recurring_run_id": run.id,
        "display_name": run.name,
        "description": run.description,
        "namespace": run.namespace,
        "experiment_id": run.experiment_id,
        "service_account": settings.get("service_account"),
        "runtime_config": filled({"parameters": run.parameters, "pipeline_root": settings.get("pipeline_root")}),
        "trigger": _trigger(run.schedule),
        "max_concurrency": str(run.max_concurrency),
        "no_catchup": not run.catch_up,
        "mode": "ENABLE" if run.enabled else "DISABLE",
        "status": "ENABLED" if run.enabled else "DISABLED",
        "error": {"code": INTERNAL, "message": run.error} if run.error else None,
        "created_at": to_text(run.created_us),
        "updated_at": to_text(run.updated_us),
    }
    if run.spec is not None:
        answer["pipeline_spec"] = joined_specification(Package(pipeline=run.spec, platform=run.platform))
    else:
        answer["pipeline_version_reference"] = filled(
            {"pipeline_id": run.pipeline_id, "pipeline_version_id": run.version_id}
        )
    return filled(answer)


def _trigger(schedule: Schedule) -> Answer:
    bounds: Answer = {
        "start_time": None if schedule.start_us is None else to_text(schedule.start_us),
        "end_time": None if schedule.end_us is None else to_text(schedule.end_us),
    }
    if schedule.cron is not None:
        return {"cron_schedule": filled({"cron": schedule.cron, **bounds})}
    assert schedule.interval_us is not None
    return {"periodic_schedule": filled({"interval_second": str(schedule.interval_us // SECOND), **bounds})}
