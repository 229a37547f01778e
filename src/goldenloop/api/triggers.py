"""Where causes come in from outside, and what triggers decided: CloudEvents, Alertmanager's webhook, decisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import unquote

import msgspec
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from goldenloop.api.bodies import read_body
from goldenloop.api.platform import PREFIX
from goldenloop.control.causes import Cause, TriggerView, find_trigger, note, of_alert, of_event, pipeline_triggers
from goldenloop.control.platform import Platform
from goldenloop.core.clock import to_text
from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.alertmanager import Alert, read_alerts
from goldenloop.standards.incoming_events import CloudEvent, read_events
from goldenloop.store.tables import decisions

BODY_LIMIT = 1 << 20
_MEND = "Send fewer at a time."
DECISIONS_SHOWN = 500

Notice = TypeVar("Notice", CloudEvent, Alert)


class TriggerRoutes:
    """Routes of triggers. What is answered 202 is written down; whether a run comes of it is decided soon after."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        """What to mount."""
        return [
            Route("/events", self._events, methods=["POST"]),
            Route("/webhooks/alertmanager", self._alerts, methods=["POST"]),
            Route(PREFIX + "/namespaces/{namespace}/triggers/{name}/decisions", self._decisions),
        ]

    async def _events(self, request: Request) -> Response:
        headers = {name.lower(): unquote(value) for name, value in request.headers.items()}
        return await self._noted(read_events(headers, await read_body(request, limit=BODY_LIMIT, mend=_MEND)), of_event)

    async def _alerts(self, request: Request) -> Response:
        return await self._noted(read_alerts(await read_body(request, limit=BODY_LIMIT, mend=_MEND)), of_alert)

    async def _noted(self, notices: Sequence[Notice], cause_of: Callable[..., Cause | None]) -> Response:
        result = await run_in_threadpool(self._note, notices, cause_of)
        if result["causes"]:
            self._platform.wake()
        return Response(msgspec.json.encode(result), status_code=202, media_type="application/json")

    def _note(self, notices: Sequence[Notice], cause_of: Callable[..., Cause | None]) -> JsonObject:
        now_us = self._platform.world.clock.now_us()
        with self._platform.database.read() as transaction:
            views = pipeline_triggers(transaction)
        matched: list[tuple[TriggerView, Cause]] = []
        for notice in notices:
            for view in views:
                cause = cause_of(view, notice, now_us=now_us)
                if cause is not None:
                    matched.append((view, cause))
        causes: list[Json] = []
        if matched:
            with self._platform.database.write() as transaction:
                for view, cause in matched:
                    is_new = note(transaction, view, cause, now_us=now_us)
                    causes.append({"namespace": view.namespace, "trigger": view.name, "new": is_new})
        return {"received": len(notices), "causes": causes}

    async def _decisions(self, request: Request) -> Response:
        namespace, name = request.path_params["namespace"], request.path_params["name"]

        def ask() -> JsonObject:
            with self._platform.database.read() as transaction:
                view = find_trigger(transaction, namespace, name)
                query = (
                    select(decisions)
                    .where(decisions.c.trigger_uid == view.uid)
                    .order_by(decisions.c.id.desc())
                    .limit(DECISIONS_SHOWN)
                )
                items: list[Json] = [
                    {
                        "cause": row.evidence["text"],
                        "kind": row.evidence["kind"],
                        "facts": row.evidence["facts"],
                        "fired": row.fired,
                        "decided": row.settled,
                        "reason": row.reason,
                        "run": row.run_id,
                        "at": to_text(row.event_us),
                        "noted": to_text(row.created_us),
                    }
                    for row in transaction.execute(query)
                ]
                return {"items": items}

        return Response(msgspec.json.encode(await run_in_threadpool(ask)), media_type="application/json")
