"""The route of a loop's report."""

from __future__ import annotations

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from goldenloop.api.cards.page import SECURITY
from goldenloop.api.platform import PREFIX
from goldenloop.api.reports.page import write_page
from goldenloop.api.reports.record import DEFAULT_SPAN, LoopReport, report_of
from goldenloop.control.platform import Platform
from goldenloop.core.durations import parse_duration
from goldenloop.core.errors import InvalidSpecError

_FORMS = ("html", "json")


class ReportRoutes:
    """`…/loops/NAME/report?since=30d&format=html|json`; a browser gets the page, anything else JSON."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        """What to mount."""
        return [Route(PREFIX + "/namespaces/{namespace}/loops/{name}/report", self._report)]

    async def _report(self, request: Request) -> Response:
        form = request.query_params.get("format")
        if form is None:
            form = "html" if "text/html" in request.headers.get("accept", "") else "json"
        if form not in _FORMS:
            raise InvalidSpecError(
                f"{form!r} is no form of a report", where="format", mend=f"Known: {', '.join(_FORMS)}."
            )
        span_us = parse_duration(request.query_params.get("since", DEFAULT_SPAN), where="since")
        namespace, name = request.path_params["namespace"], request.path_params["name"]

        def gather() -> LoopReport:
            with self._platform.database.read() as transaction:
                return report_of(transaction, namespace, name, span_us=span_us)

        report = await run_in_threadpool(gather)
        if form == "json":
            return Response(msgspec.json.encode(report), media_type="application/json")
        headers = {"Content-Security-Policy": SECURITY, "X-Content-Type-Options": "nosniff"}
        return Response(write_page(report), media_type="text/html; charset=utf-8", headers=headers)
