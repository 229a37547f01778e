"""Our own part of the control plane: timelines, traces, versions, runs, and what a person decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import msgspec
from sqlalchemy import update
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from goldenloop import __version__
from goldenloop.api import queries
from goldenloop.api.log_parts import read_part
from goldenloop.api.mlflow.routes import api_version, is_mlflow
from goldenloop.api.resources import read_json, whole_number
from goldenloop.control import byhand
from goldenloop.control.origins import trace_origin
from goldenloop.control.owner import owner_view
from goldenloop.control.platform import Platform
from goldenloop.control.tracing import trace_prediction
from goldenloop.core.errors import ConflictError, InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.lineage import timeline
from goldenloop.lineage.baselines import Baselines, keep_baselines
from goldenloop.pipelines.retries import restart_run
from goldenloop.pipelines.runs import RunRequest, insert_run
from goldenloop.standards.documents import convert
from goldenloop.standards.loop import json_schema
from goldenloop.store.database import Transaction
from goldenloop.store.tables import runs

PREFIX = "/goldenloop/v1alpha1"
_LOOP = PREFIX + "/namespaces/{namespace}/loops/{name}"
_EVENTS_POLL_SECONDS = 0.25
_LOG_LIMIT = 2 << 20
_LOG_PART = 256 << 10

Handler = Callable[[Request], Awaitable[Response]]


class PlatformRoutes:
    """Routes under `/goldenloop/v1alpha1`, and the platform's health."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        """What to mount."""
        return [
            Route("/healthz", self._health),
            Route("/version", self._version),
            Route(PREFIX + "/schema/loop", self._schema),
            Route(f"{_LOOP}/timeline", self._timeline),
            Route(f"{_LOOP}/timeline/events", self._events),
            Route(f"{_LOOP}/quality", self._of_loop(queries.quality)),
            Route(f"{_LOOP}/versions", self._of_loop(queries.version_list)),
            Route(f"{_LOOP}/decisions", self._of_loop(queries.decision_list)),
            Route(f"{_LOOP}/owner", self._of_loop(self._owner)),
            Route(f"{_LOOP}/baselines", self._keep_baselines, methods=["PUT"]),
            Route(f"{_LOOP}/runs", self._run_now, methods=["POST"]),
            Route(f"{_LOOP}/promote", self._promote, methods=["POST"]),
            Route(f"{_LOOP}/rollback", self._roll_back, methods=["POST"]),
            Route(PREFIX + "/runs", self._runs),
            Route(PREFIX + "/runs", self._start_run, methods=["POST"]),
            Route(PREFIX + "/runs/{run}", self._run),
            Route(PREFIX + "/runs/{run}/cancel", self._cancel, methods=["POST"]),
            Route(PREFIX + "/runs/{run}/rerun", self._rerun, methods=["POST"]),
            Route(PREFIX + "/runs/{run}/tasks/{task:path}/log", self._log),
            Route(PREFIX + "/runs/{run}/tasks/{task:path}/log/part", self._log_part),
            Route(PREFIX + "/trace/{identity:path}", self._trace),
        ]

    async def _health(self, _request: Request) -> Response:
        turning = self._platform.is_turning
        workers = self._platform.workers.count()
        body = {"live": True, "ready": turning, "workers": workers, "generation": self._platform.ring.table.generation}
        return JSONResponse(body, status_code=200 if turning else 503)

    async def _version(self, request: Request) -> Response:
        if is_mlflow(request):
            return api_version()
        return JSONResponse(
            {"major": "1", "minor": "30", "gitVersion": f"v1.30.0+goldenloop-{__version__}", "goldenloop": __version__}
        )

    async def _schema(self, _request: Request) -> Response:
        return JSONResponse(json_schema())

    def _of_loop(self, query: Callable[[Transaction, str, str], JsonObject]) -> Handler:
        async def answer(request: Request) -> Response:
            namespace, name = request.path_params["namespace"], request.path_params["name"]

            def ask() -> JsonObject:
                with self._platform.database.read() as transaction:
                    return query(transaction, namespace, name)

            return _json(await run_in_threadpool(ask))

        return answer

    def _owner(self, transaction: Transaction, namespace: str, name: str) -> JsonObject:
        return owner_view(transaction, namespace, name, now_us=self._platform.world.clock.now_us())

    def _lines(self, namespace: str, name: str, after: int) -> list[JsonObject]:
        with self._platform.database.read() as transaction:
            return timeline.read(transaction, namespace, name, after=after)

    async def _timeline(self, request: Request) -> Response:
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        after = whole_number(request, "after", 0)
        return _json({"items": list(await run_in_threadpool(self._lines, namespace, name, after))})

    async def _events(self, request: Request) -> Response:
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        after = _position(request)

        async def follow() -> AsyncIterator[bytes]:
            position = after
            yield b": begin\n\n"
            while not await request.is_disconnected():
                lines = await run_in_threadpool(self._lines, namespace, name, position)
                for line in lines:
                    position = int(str(line["sequence"]))
                    yield f"id: {position}\ndata: ".encode() + msgspec.json.encode(line) + b"\n\n"
                if not lines:
                    await asyncio.sleep(_EVENTS_POLL_SECONDS)

        return StreamingResponse(follow(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def _runs(self, request: Request) -> Response:
        namespace, loop = request.query_params.get("namespace"), request.query_params.get("loop")

        def ask() -> JsonObject:
            with self._platform.database.read() as transaction:
                return queries.run_list(transaction, namespace, loop)

        return _json(await run_in_threadpool(ask))

    async def _start_run(self, request: Request) -> Response:
        asked = convert(await read_json(request), RunRequest)

        def start() -> JsonObject:
            with self._platform.database.write() as transaction:
                now_us = self._platform.world.clock.now_us()
                run = insert_run(transaction, asked, now_us=now_us)
                if run is None:
                    raise ConflictError(f"the cause {asked.cause_key!r} has a run already", where="cause_key")
                # Nothing follows from a run that no loop asked for.
                transaction.execute(update(runs).where(runs.c.id == run).values(settled=True))
            return {"id": run}

        started = await run_in_threadpool(start)
        self._platform.wake()
        return _json(started)

    async def _run(self, request: Request) -> Response:
        def ask() -> JsonObject:
            with self._platform.database.read() as transaction:
                return queries.run_detail(transaction, request.path_params["run"])

        return _json(await run_in_threadpool(ask))

    async def _cancel(self, request: Request) -> Response:
        cancelled = await run_in_threadpool(self._platform.engine.cancel, request.path_params["run"])
        return _json({"cancelled": cancelled})

    async def _rerun(self, request: Request) -> Response:
        run = request.path_params["run"]
        step = (await _optional_body(request)).get("from")
        if step is not None and not isinstance(step, str):
            raise InvalidSpecError(f"{step!r} is not the name of a step", where="from")

        def restart() -> JsonObject:
            with self._platform.database.write() as transaction:
                restart_run(transaction, run, steps=() if step is None else (step,))
            return {"id": run}

        restarted = await run_in_threadpool(restart)
        self._platform.wake()
        return _json(restarted)

    async def _log(self, request: Request) -> Response:
        def ask() -> str:
            run, step = request.path_params["run"], request.path_params["task"]
            with self._platform.database.read() as transaction:
                task = queries.task_progress(transaction, run, step)
            parts = []
            for number in range(1, task.attempts + 1):
                path = self._platform.engine.log_path(run, step, number)
                if path.exists():
                    parts.append(path.read_bytes()[-_LOG_LIMIT:].decode(errors="replace"))
            return "".join(parts)

        return PlainTextResponse(await run_in_threadpool(ask))

    async def _log_part(self, request: Request) -> Response:
        after = whole_number(request, "after", 0)

        def ask() -> JsonObject:
            run, step = request.path_params["run"], request.path_params["task"]
            with self._platform.database.read() as transaction:
                task = queries.task_progress(transaction, run, step)
            paths = [self._platform.engine.log_path(run, step, number) for number in range(1, task.attempts + 1)]
            content = read_part(paths, after=after, limit=_LOG_PART, whole=task.ended)
            # What is printed before the end is there when the end is known; more than a part of it is asked for again.
            return {"text": content.text, "next": content.next, "ended": task.ended and content.is_last}

        return _json(await run_in_threadpool(ask))

    async def _trace(self, request: Request) -> Response:
        identity = request.path_params["identity"]
        row = whole_number(request, "row", 0)
        explain = request.query_params.get("explain", "true") != "false"
        platform = self._platform

        def ask() -> JsonObject:
            with platform.database.read() as transaction:
                ancestry = trace_origin(transaction, identity)
            if ancestry is not None:
                return ancestry
            return trace_prediction(
                platform.database, platform.artifacts, platform.home, identity, row=row, explain=explain
            )

        return _json(await run_in_threadpool(ask))

    async def _keep_baselines(self, request: Request) -> Response:
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        baselines = convert(await read_json(request), Baselines)

        def keep() -> None:
            with self._platform.database.write() as transaction:
                keep_baselines(transaction, namespace, name, baselines)

        await run_in_threadpool(keep)
        return _json({"kept": len(baselines.policies)})

    async def _run_now(self, request: Request) -> Response:
        return await self._by_hand(request, byhand.run_now)

    async def _promote(self, request: Request) -> Response:
        given = await _optional_body(request)
        version = given.get("version")
        if version is not None and not isinstance(version, int):
            raise InvalidSpecError(f"{version!r} is not the number of a version", where="version")

        return await self._by_hand(request, partial(byhand.promote, version=version, person=_person(given)), given)

    async def _roll_back(self, request: Request) -> Response:
        given = await _optional_body(request)
        return await self._by_hand(request, partial(byhand.roll_back, person=_person(given)), given)

    async def _by_hand(
        self, request: Request, act: Callable[..., JsonObject], given: JsonObject | None = None
    ) -> Response:
        body = given if given is not None else await _optional_body(request)
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        reason = body.get("reason", "")

        def do() -> JsonObject:
            return act(self._platform.world, namespace, name, reason=str(reason))

        result = await run_in_threadpool(do)
        self._platform.wake()
        return _json(result)


def _json(content: JsonObject) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")


def _person(given: JsonObject) -> str:
    """Who decides, as the caller says it."""
    name = given.get("by", "")
    if not isinstance(name, str):
        raise InvalidSpecError(f"{name!r} is not a name", where="by")
    return name


async def _optional_body(request: Request) -> JsonObject:
    if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        return {}
    body = await read_json(request)
    if not isinstance(body, dict):
        raise InvalidSpecError("the body is not a mapping", where="body")
    return body


def _position(request: Request) -> int:
    """From where a reader goes on: what it says, else the last event that its browser saw."""
    seen = request.headers.get("last-event-id", "")
    return whole_number(request, "after", int(seen) if seen.isascii() and seen.isdecimal() and len(seen) < 19 else 0)
