"""Watching requests, where somebody asks for it: an access log, traces.

A `Watch` follows one request from its first byte to its last. The transports make it (`watched_handler`, `watched_methods`), the data
plane notes in it what it answered, and when the request has ended it is given to the watchers. Without watchers none of this is there: the
data plane looks at one attribute, and the transports are not wrapped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Protocol

from goldenloop.core.errors import GoldenloopError
from goldenloop.serving.grpc.methods import Answer, Methods, Single
from goldenloop.serving.grpc.methods import Method as GrpcMethod
from goldenloop.serving.statuses import status_of

if TYPE_CHECKING:
    from goldenloop.serving.grpc.inbox import Content
    from goldenloop.serving.http.connection import Handler
    from goldenloop.serving.http.messages import Request, Response
    from goldenloop.serving.queues import Job

_CURRENT: ContextVar[Watch | None] = ContextVar("watch", default=None)
_LARGEST = 64  # answers noted of one request: a graph asks several services


class Noted:
    """One answer of the data plane. Times are those of `perf_counter`, in seconds."""

    __slots__ = (
        "failure",
        "identity",
        "logged",
        "namespace",
        "reason",
        "rows",
        "scored",
        "scoring",
        "service",
        "submitted",
        "version",
    )

    def __init__(self, job: Job, logged: float) -> None:
        self.namespace = job.deployed.namespace
        self.service = job.deployed.name
        self.version = job.version
        self.identity = job.identity
        self.reason = job.reason
        self.rows = job.rows
        self.submitted = job.submitted
        self.scoring = job.begun or logged
        self.scored = job.scored or logged
        self.logged = logged
        failure = job.failures.get(job.version)
        self.failure = "" if failure is None else str(failure)


class Watch:
    """One request. `status` is that of HTTP, also for gRPC; 499 where the client went away before the answer."""

    __slots__ = (
        "begun_ns",
        "client",
        "headers",
        "method",
        "noted",
        "path",
        "protocol",
        "received",
        "sent",
        "started_ns",
        "status",
        "took_ns",
    )

    def __init__(self, *, protocol: str, method: str, path: str, client: str, headers: Mapping[str, str]) -> None:
        self.started_ns = time_ns()
        self.begun_ns = perf_counter_ns()
        self.protocol = protocol
        self.method = method
        self.path = path
        self.client = client
        self.headers = headers
        self.status = 499
        self.received = 0
        self.sent = 0
        self.took_ns = 0
        self.noted: list[Noted] = []


class Watcher(Protocol):
    """What is given requests that have ended. It does not raise, and does not take long."""

    def saw(self, watch: Watch) -> None:
        """Take note of a request."""
        ...

    def close(self) -> None:
        """Bring what was noted to where it goes."""
        ...


def note(job: Job, logged: float) -> None:
    """Note an answer in the watch of the request under way."""
    watch = _CURRENT.get()
    if watch is not None and len(watch.noted) < _LARGEST:
        watch.noted.append(Noted(job, logged))


def watched_handler(handler: Handler, watchers: Sequence[Watcher]) -> Handler:
    """What answers requests over HTTP, with its requests watched."""

    async def answer(request: Request) -> Response:
        watch = Watch(
            protocol="http",
            method=request.method,
            path=request.path,
            client=request.peer,
            headers=request.headers,
        )
        watch.received = len(request.body)
        token = _CURRENT.set(watch)
        try:
            response = await handler(request)
            watch.status, watch.sent = response.status, len(response.content)
            return response
        finally:
            _CURRENT.reset(token)
            _ended(watch, watchers)

    return answer


def watched_methods(methods: Methods, watchers: Sequence[Watcher]) -> Methods:
    """The methods with their calls of one message watched; a stream is not a request, and is not."""
    return {
        path: method if method.single is None else GrpcMethod(single=_watched(path, method.single, watchers))
        for path, method in methods.items()
    }


def _watched(path: str, single: Single, watchers: Sequence[Watcher]) -> Single:
    async def call(content: Content, headers: Mapping[str, str]) -> Answer:
        watch = Watch(protocol="grpc", method="POST", path=path, client="", headers=headers)
        watch.received = len(content)
        token = _CURRENT.set(watch)
        try:
            answer = await single(content, headers)
            watch.status, watch.sent = 200, len(answer.content)
            return answer
        except GoldenloopError as error:
            watch.status = status_of(error)
            raise
        finally:
            _CURRENT.reset(token)
            _ended(watch, watchers)

    return call


def _ended(watch: Watch, watchers: Sequence[Watcher]) -> None:
    watch.took_ns = perf_counter_ns() - watch.begun_ns
    for watcher in watchers:
        watcher.saw(watch)
