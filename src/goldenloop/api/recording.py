"""What is on record, asked by SQL; and who did what."""

from __future__ import annotations

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from goldenloop.api.platform import PREFIX
from goldenloop.api.resources import read_json, whole_number
from goldenloop.control.platform import Platform
from goldenloop.control.querying import Question, ask
from goldenloop.core.json import Json, JsonObject
from goldenloop.lineage import audit
from goldenloop.payloads import sealed
from goldenloop.standards.documents import convert

_MOST_ENTRIES = 10_000


class _Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A query: one SELECT, the most rows that are wanted, and how long to wait."""

    sql: str
    limit: int = 10_000
    seconds: float = 30.0


class RecordRoutes:
    """Routes of queries and of the audit log."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        """What to mount."""
        return [
            Route(PREFIX + "/query", self._query, methods=["POST"]),
            Route(PREFIX + "/audit", self._audit),
            Route(PREFIX + "/audit/verification", self._verify),
        ]

    async def _query(self, request: Request) -> Response:
        asked = convert(await read_json(request), _Asked)
        platform = self._platform
        question = Question(
            sql=asked.sql,
            payloads=str(platform.home.payloads),
            database_url=platform.database.engine.url.render_as_string(hide_password=False),
            limit=asked.limit,
        )

        def do() -> msgspec.Struct:
            # On record before it is answered: who was refused, or looked and was cut off, asked all the same.
            with platform.database.write() as transaction:
                deed = audit.Deed(action="query", kind="Records", facts={"sql": asked.sql[:10_000]})
                audit.record(transaction, deed, now_us=platform.world.clock.now_us())
            return ask(platform.home, question, seconds=asked.seconds)

        answered = await run_in_threadpool(do)
        return Response(msgspec.json.encode(answered), media_type="application/json")

    async def _audit(self, request: Request) -> Response:
        after = whole_number(request, "after", 0)
        limit = min(whole_number(request, "limit", 100), _MOST_ENTRIES)

        def read() -> list[JsonObject]:
            with self._platform.database.read() as transaction:
                return audit.listing(transaction, after=after, limit=limit)

        return _json({"items": list(await run_in_threadpool(read))})

    async def _verify(self, _request: Request) -> Response:
        def verify() -> JsonObject:
            with self._platform.database.read() as transaction:
                chain = audit.verify(transaction)
            manifests, wrong = sealed.verify(self._platform.home.payloads)
            problems: list[Json] = list(wrong)
            if chain.broken is not None:
                problems.insert(0, f"audit entry {chain.broken}: {chain.reason}")
            return {
                "whole": not problems,
                "entries": chain.entries,
                "head": chain.head,
                "broken": chain.broken,
                "manifests": manifests,
                "problems": problems,
            }

        return _json(await run_in_threadpool(verify))


def _json(content: JsonObject) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")
