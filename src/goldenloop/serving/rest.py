"""REST: a bare ASGI application over the data plane. Every error is JSON, `{"error": "…"}`.

Bodies are at most 64 MiB. What a caller may get wrong is 4xx, a model that fails 500, a log or a model that is not there 503.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias, TypedDict

import msgspec

from goldenloop import __version__
from goldenloop.core.errors import GoldenloopError, InvalidSpecError, NotFoundError, UnavailableError
from goldenloop.payloads.records import Value
from goldenloop.serving.dataplane import (
    Answered,
    DataPlane,
    Deployed,
    HeldTooLongError,
    ScoringFailedError,
    TooManyError,
)
from goldenloop.serving.metrics import CONTENT_TYPE, Metrics
from goldenloop.standards import open_inference as protocol
from goldenloop.standards.tabular import Batch, Layout

LARGEST_BODY = 64 * 1024 * 1024
_RETRY_SECONDS = b"1"


class Scope(TypedDict):
    """What the server says of a request (ASGI)."""

    type: str
    method: str
    path: str
    headers: Iterable[tuple[bytes, bytes]]


class Received(TypedDict, total=False):
    """A part of a request's body (ASGI)."""

    type: str
    body: bytes
    more_body: bool


Sent: TypeAlias = dict[str, object]
Receive: TypeAlias = Callable[[], Awaitable[Received]]
Send: TypeAlias = Callable[[Sent], Awaitable[None]]
Headers: TypeAlias = dict[bytes, bytes]

_JSON = (b"content-type", b"application/json")
_encode = msgspec.json.Encoder().encode


class _TooLargeError(GoldenloopError):
    """The body is larger than any may be."""


class _GoneError(Exception):
    """The client went away before its request was complete."""


class _UnsupportedError(GoldenloopError):
    """A content encoding or a method that is not served."""

    def __init__(self, what: str, *, status: int, mend: str = "") -> None:
        super().__init__(what, mend=mend)
        self.status = status


class _Labelled(msgspec.Struct, forbid_unknown_fields=True):
    """One label, as `POST /v1/feedback` takes it."""

    id: str
    label: object
    row: int = 0
    observed_at: str | int | float | None = None


class _V2Question:
    __slots__ = ("_request", "alias")

    def __init__(self, request: protocol.V2Request) -> None:
        self._request = request
        self.alias = request.id

    def batch(self, layout: Layout, also: frozenset[str]) -> Batch:
        return protocol.batch_of_v2(self._request, layout, also=also)


class _V1Question:
    __slots__ = ("_request", "alias")

    def __init__(self, request: protocol.V1Request) -> None:
        self._request = request
        self.alias = request.id

    def batch(self, layout: Layout, also: frozenset[str]) -> Batch:
        return protocol.batch_of_v1(self._request, layout, also=also)


class Application:
    """The ASGI application of one worker."""

    def __init__(self, plane: DataPlane, metrics: Metrics) -> None:
        self._plane = plane
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self._plane.begin()
        path = scope["path"]
        headers: Headers = dict(scope["headers"])
        try:
            if scope["method"] == "POST":
                await self._post(path, headers, receive, send)
            elif scope["method"] in ("GET", "HEAD"):
                await self._get(path, send)
            else:
                raise _UnsupportedError(f"{scope['method']} is not served", status=405, mend="Use GET or POST.")
        except GoldenloopError as error:
            await _respond_error(send, error)
        except _GoneError:
            return
        except Exception as error:  # a bug of ours must not look like a broken connection
            await _respond(send, 500, _encode({"error": f"internal error: {type(error).__name__}: {error}"}))
            raise

    async def _post(self, path: str, headers: Headers, receive: Receive, send: Send) -> None:
        if path.startswith("/v2/models/") and path.endswith("/infer"):
            name, version = _split_model(path[11:-6])
            await self._infer(name, version, headers, receive, send)
        elif path.startswith("/v1/models/") and path.endswith(":predict"):
            await self._predict(path[11:-8], headers, receive, send)
        elif path == "/v1/feedback":
            await self._feedback(await _body(headers, receive), send)
        else:
            raise NotFoundError(f"nothing is served at POST {path}", mend="See /v2 and /v1/models for what is.")

    async def _infer(self, name: str, version: str | None, headers: Headers, receive: Receive, send: Send) -> None:
        body = await _body(headers, receive)
        deployed: Deployed | None = None
        try:
            deployed = self._plane.find(name)
            request = protocol.read_v2(body, header_length=_header_length(headers))
            answered = await self._ask(deployed, _V2Question(request), request.parameters, version, headers)
            content, head = protocol.write_v2(
                request,
                answered.answers,
                answered.model.signature,
                model=deployed.name,
                version=answered.version,
                identity=answered.identity,
            )
        except GoldenloopError as error:
            self._count(deployed, "", _status_of(error))
            raise
        self._count(deployed, answered.version, 200, answered.latency_us)
        await _respond_answer(send, content, answered, head)

    async def _predict(self, name: str, headers: Headers, receive: Receive, send: Send) -> None:
        body = await _body(headers, receive)
        deployed: Deployed | None = None
        try:
            deployed = self._plane.find(name)
            request = protocol.read_v1(body)
            answered = await self._ask(deployed, _V1Question(request), request.parameters, None, headers)
            content = protocol.write_v1(answered.answers, answered.model.signature)
        except GoldenloopError as error:
            self._count(deployed, "", _status_of(error))
            raise
        self._count(deployed, answered.version, 200, answered.latency_us)
        await _respond_answer(send, content, answered, None)

    async def _ask(
        self,
        deployed: Deployed,
        question: _V1Question | _V2Question,
        parameters: dict[str, object],
        version: str | None,
        headers: Headers,
    ) -> Answered:
        route_key = headers.get(b"x-route-key")
        event_time = headers.get(b"x-event-time")
        return await self._plane.answer(
            deployed,
            question,
            asked=version,
            route_key=None if route_key is None else route_key.decode("latin-1"),
            given_event_us=protocol.event_time_of(
                parameters, None if event_time is None else event_time.decode("latin-1")
            ),
        )

    def _count(self, deployed: Deployed | None, version: str, code: int, latency_us: int | None = None) -> None:
        # Names come from the table, never from the caller: labels stay bounded.
        namespace, service = ("", "") if deployed is None else (deployed.namespace, deployed.name)
        self._metrics.request(namespace=namespace, service=service, version=version, code=code, latency_us=latency_us)

    async def _feedback(self, body: bytes, send: Send) -> None:
        try:
            given = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError, ValueError) as error:
            raise InvalidSpecError(
                f"not JSON: {error}", where="body", mend='Send [{"id": "…", "label": …}, …].'
            ) from error
        elements = given if isinstance(given, list) else [given]
        labels = [_label_of(element, f"[{place}]") for place, element in enumerate(elements)]
        accepted = await self._plane.take_labels(labels)
        await _respond(send, 202, _encode({"accepted": accepted}))

    async def _get(self, path: str, send: Send) -> None:
        if path in ("/v2", "/v2/"):
            await _respond(
                send, 200, _encode({"name": "goldenloop", "version": __version__, "extensions": ["binary_tensor_data"]})
            )
        elif path == "/v2/health/live":
            await _respond(send, 200, b'{"live":true}')
        elif path == "/v2/health/ready":
            is_ready = self._plane.is_ready
            await _respond(send, 200 if is_ready else 503, _encode({"ready": is_ready}))
        elif path.startswith("/v2/models/"):
            await self._get_model(path[11:], send)
        elif path == "/v1/models":
            await _respond(send, 200, _encode({"models": [deployed.name for deployed in self._plane.services]}))
        elif path.startswith("/v1/models/"):
            await _respond(send, 200, _encode({"name": self._plane.find(path[11:]).name, "ready": True}))
        elif path == "/metrics":
            self._metrics.flush()
            await _respond(send, 200, self._metrics.exposition(), content_type=CONTENT_TYPE.encode())
        else:
            raise NotFoundError(f"nothing is served at GET {path}", mend="See /v2 and /v1/models for what is.")

    async def _get_model(self, rest: str, send: Send) -> None:
        asks_ready = rest.endswith("/ready")
        name, version = _split_model(rest.removesuffix("/ready"))
        deployed = self._plane.find(name)
        chosen, _ = deployed.choose(asked=version or deployed.service.champion, identity="", route_key=None)
        if asks_ready:
            await _respond(send, 200, _encode({"name": name, "ready": True}))
            return
        versions = (chosen,) if version else tuple(deployed.models)
        metadata = protocol.metadata_of(deployed.models[chosen].signature, name=deployed.name, versions=versions)
        await _respond(send, 200, _encode(metadata))


def _split_model(rest: str) -> tuple[str, str | None]:
    """Split `NAME` or `NAME/versions/VERSION`."""
    name, _, version = rest.partition("/versions/")
    return name, version or None


def _label_of(element: object, where: str) -> tuple[str, int, Value, int | None]:
    try:
        label = msgspec.convert(element, _Labelled)
    except msgspec.ValidationError as error:
        raise InvalidSpecError(
            f"{error}", where=where, mend='Send {"id": "…", "label": …}, and if need be "row" and "observed_at".'
        ) from error
    value = label.label
    if not (value is None or isinstance(value, str | int | float | bool)):
        raise InvalidSpecError(
            "the label is neither a text, a number, a truth nor null", where=f"{where}.label", mend="Send one value."
        )
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise InvalidSpecError("the label has more than 64 bits", where=f"{where}.label", mend="Send it as a text.")
    if not label.id or label.row < 0 or label.row >= protocol.LARGEST_BATCH:
        raise InvalidSpecError(
            "id must not be empty, row counts from 0", where=where, mend="Send the id that the prediction had."
        )
    observed_us = None
    if label.observed_at is not None:
        try:
            observed_us = protocol.event_time_of({"event_time": label.observed_at}, None)
        except InvalidSpecError as error:
            raise InvalidSpecError(error.what, where=f"{where}.observed_at", mend=error.mend) from error
    return label.id, label.row, value, observed_us


def _header_length(headers: Headers) -> int | None:
    given = headers.get(b"inference-header-content-length")
    if given is None:
        return None
    if not given.isdigit() or len(given) > 12:
        raise InvalidSpecError(
            "not a number of bytes", where="Inference-Header-Content-Length", mend="Send the length of the JSON part."
        )
    return int(given)


async def _body(headers: Headers, receive: Receive) -> bytes:
    """Read the whole body. Raises _TooLargeError beyond the bound, and for encodings that are not served _UnsupportedError."""
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding != b"identity":
        raise _UnsupportedError(
            f"content encoding {encoding.decode('latin-1')!r} is not served", status=415, mend="Send it plain."
        )
    announced = headers.get(b"content-length")
    if announced is not None and announced.isdigit() and int(announced[:20]) > LARGEST_BODY:
        raise _TooLargeError(
            f"the body has {announced.decode()[:20]} bytes, at most {LARGEST_BODY} are taken", mend="Send fewer rows."
        )
    message = await receive()
    if message["type"] != "http.request":
        raise _GoneError
    if not message.get("more_body", False):
        return message.get("body", b"")
    parts = [message.get("body", b"")]
    size = len(parts[0])
    while message.get("more_body", False):
        message = await receive()
        if message["type"] != "http.request":
            raise _GoneError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > LARGEST_BODY:
            raise _TooLargeError(f"the body has more than {LARGEST_BODY} bytes", mend="Send fewer rows.")
    return b"".join(parts)


def _status_of(error: GoldenloopError) -> int:
    if isinstance(error, _UnsupportedError):
        return error.status
    table: tuple[tuple[type[GoldenloopError], int], ...] = (
        (InvalidSpecError, 400), (NotFoundError, 404), (_TooLargeError, 413), (TooManyError, 429), (UnavailableError, 503),
        (ScoringFailedError, 500),
    )  # fmt: skip
    return next((status for kind, status in table if isinstance(error, kind)), 500)


async def _respond_error(send: Send, error: GoldenloopError) -> None:
    extra = ((b"retry-after", _RETRY_SECONDS),) if isinstance(error, HeldTooLongError | TooManyError) else ()
    if isinstance(error, _TooLargeError):
        extra = (*extra, (b"connection", b"close"))  # the rest of the body is not read
    await _respond(send, _status_of(error), _encode({"error": str(error)}), extra=extra)


async def _respond_answer(send: Send, content: bytes, answered: Answered, head: int | None) -> None:
    headers = [
        _JSON if head is None else (b"content-type", b"application/octet-stream"),
        (b"content-length", b"%d" % len(content)),
        (b"x-prediction-id", answered.identity.encode()),
    ]
    if head is not None:
        headers.append((b"inference-header-content-length", b"%d" % head))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def _respond(
    send: Send,
    status: int,
    content: bytes,
    *,
    content_type: bytes = b"application/json",
    extra: tuple[tuple[bytes, bytes], ...] = (),
) -> None:
    headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(content)), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
