"""REST: a bare ASGI application over the endpoints. Every error is JSON, `{"error": "…"}`.

Bodies are at most 64 MiB, also when they are unpacked. What a caller may get wrong is 4xx, a model that fails 500, a log or a model that is
not there 503, a model that takes too long 504. A service is named by the path, by `/serving/NAMESPACE/NAME/…` before it, or by the Host
header.
"""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import NotRequired, TypeAlias, TypedDict

import msgspec

from goldenloop.core.errors import GoldenloopError, InvalidSpecError, NotFoundError
from goldenloop.core.routing import Graph
from goldenloop.payloads.records import Value
from goldenloop.serving.dataplane import HeldTooLongError
from goldenloop.serving.endpoints import Endpoints
from goldenloop.serving.metrics import CONTENT_TYPE
from goldenloop.serving.queues import TooManyError
from goldenloop.serving.statuses import TooLargeError, UnsupportedError, status_of
from goldenloop.standards.open_inference import rest as protocol
from goldenloop.standards.open_inference.tensors import LARGEST_BATCH

LARGEST_BODY = 64 * 1024 * 1024
PACKED_FROM = 4096  # bytes; smaller answers are not worth packing
_RETRY_SECONDS = b"1"
_NOT_SERVED = {
    "systemsharedmemory": "shared memory is not served",
    "cudasharedmemory": "shared memory is not served",
    "trace": "trace settings are not served",
}


class Scope(TypedDict):
    """What the server says of a request (ASGI)."""

    type: str
    method: str
    path: str
    headers: Iterable[tuple[bytes, bytes]]
    client: NotRequired[tuple[str, int] | None]


class Received(TypedDict, total=False):
    """A part of a request's body (ASGI)."""

    type: str
    body: bytes
    more_body: bool


Sent: TypeAlias = dict[str, object]
Receive: TypeAlias = Callable[[], Awaitable[Received]]
Send: TypeAlias = Callable[[Sent], Awaitable[None]]

_JSON = (b"content-type", b"application/json")
_encode = msgspec.json.Encoder().encode


class Headers(Mapping[str, str]):
    """The headers of a request by name in lower case, made text when they are asked for."""

    __slots__ = ("raw",)

    def __init__(self, given: Iterable[tuple[bytes, bytes]]) -> None:
        self.raw = dict(given)

    def __getitem__(self, name: str) -> str:
        return self.raw[name.encode("latin-1")].decode("latin-1")

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]  # text or nothing
        given = self.raw.get(name.encode("latin-1"))
        return default if given is None else given.decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self.raw)

    def __len__(self) -> int:
        return len(self.raw)


class _GoneError(Exception):
    """The client went away before its request was complete."""


class _Labelled(msgspec.Struct, forbid_unknown_fields=True):
    """One label, as `POST /v1/feedback` takes it."""

    id: str
    label: object
    row: int = 0
    observed_at: str | int | float | None = None


class Application:
    """The ASGI application of one worker."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._plane = endpoints.plane
        self._is_leaving = False

    def leave(self) -> None:
        """From now on ask clients to open their next connection anew: another worker will take it."""
        self._is_leaving = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self._plane.begin()
        if self._is_leaving:
            send = _closing(send)
        headers = Headers(scope["headers"])
        try:
            path, namespace, graph = self._place(scope["path"], headers)
            if scope["method"] == "POST":
                if graph is not None:
                    await self._graph(graph, headers, receive, send)
                else:
                    await self._post(path, namespace, headers, receive, send)
            elif scope["method"] in ("GET", "HEAD"):
                await self._get(path, namespace, send)
            else:
                raise UnsupportedError(f"{scope['method']} is not served", status=405, mend="Use GET or POST.")
        except GoldenloopError as error:
            await _respond_error(send, error)
        except _GoneError:
            return
        except Exception as error:  # a bug of ours must not look like a broken connection
            await _respond(send, 500, _encode({"error": f"internal error: {type(error).__name__}: {error}"}))
            raise

    def _place(self, path: str, headers: Headers) -> tuple[str, str | None, Graph | None]:
        """The path without what names the service, the namespace if one is said, and the graph if it is one."""
        if path.startswith("/serving/"):
            _, _, namespace, name, *rest = f"{path}///".split("/")
            inner = "/" + "/".join(rest).rstrip("/")
            return inner, namespace, self._plane.graph(namespace, name)
        host = headers.raw.get(b"host")
        if host is not None and self._plane.has_hosts:
            meant = self._plane.at_host(host.decode("latin-1").partition(":")[0])
            if meant is not None:
                return path, meant.namespace, meant if isinstance(meant, Graph) else None
        return path, None, None

    async def _post(self, path: str, namespace: str | None, headers: Headers, receive: Receive, send: Send) -> None:
        body = await _body(headers, receive)
        if path.startswith("/v2/models/") and path.endswith("/infer"):
            name, version = _split_model(path[11:-6])
            await self._infer(name, version, body, namespace, headers, send)
        elif path.startswith("/v1/models/") and path.endswith(":predict"):
            name = path[11:-8]
            try:
                request = protocol.read_v1(body)
            except GoldenloopError as error:
                self._endpoints.refused(name, body, headers, error, namespace=namespace)
                raise
            predicted = await self._endpoints.predict(name, request, headers, namespace=namespace)
            content = _encode(predicted.document or {"predictions": predicted.predictions})
            await _respond_answer(send, headers, content, predicted.answered.identity)
        elif path.startswith("/v1/models/") and path.endswith(":explain"):
            given = protocol.read_v1(body)
            explained = await self._endpoints.explain(path[11:-8], given, headers, namespace=namespace)
            await _respond(send, 200, _encode(explained))
        elif path == "/v1/feedback":
            await self._feedback(body, send)
        elif path == "/v2/repository/index":
            wants_ready = bool(body.strip()) and _object(body).get("ready") is True
            await _respond(send, 200, _encode(self._endpoints.index(ready=wants_ready)))
        elif path.startswith("/v2/repository/models/") and path.endswith("/load"):
            parameters = _object(body).get("parameters") if body.strip() else None
            if isinstance(parameters, dict) and any(name.startswith("file:") for name in parameters):
                raise UnsupportedError(
                    "model files do not come with a load request",
                    status=400,
                    mend="Apply an InferenceService with a storageUri.",
                )
            await self._endpoints.load(path[22:-5])
            await _respond(send, 200, _encode({"name": path[22:-5], "load": True}))
        elif path.startswith("/v2/repository/models/") and path.endswith("/unload"):
            await self._endpoints.unload(path[22:-7])
            await _respond(send, 200, _encode({"name": path[22:-7], "unload": True}))
        elif path == "/v2/logging":
            settings = self._endpoints.log_settings
            settings |= {name: value for name, value in _object(body).items() if name in settings}
            await _respond(send, 200, _encode(settings))
        else:
            raise _not_served("POST", path)

    async def _infer(
        self, name: str, version: str, body: bytes, namespace: str | None, headers: Headers, send: Send
    ) -> None:
        try:
            request = protocol.read_v2(body, model=name, version=version, header_length=_header_length(headers))
        except GoldenloopError as error:
            self._endpoints.refused(name, body, headers, error, namespace=namespace)
            raise
        response = await self._endpoints.infer(request, headers, namespace=namespace)
        content, head = protocol.write_v2(request, response)
        await _respond_answer(send, headers, content, response.prediction, head)

    async def _graph(self, graph: Graph, headers: Headers, receive: Receive, send: Send) -> None:
        status, content = await self._endpoints.route(graph, await _body(headers, receive), headers)
        await _respond(send, status, content)

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

    async def _get(self, path: str, namespace: str | None, send: Send) -> None:
        endpoints = self._endpoints
        if path in ("/v2", "/v2/"):
            await _respond(send, 200, _encode(endpoints.server()))
        elif path == "/v2/health/live":
            await _respond(send, 200, b'{"live":true}')
        elif path == "/":
            await _respond(send, 200, b'{"status":"alive"}')  # what V1 clients ask
        elif path == "/v2/health/ready":
            is_ready = self._plane.is_ready
            await _respond(send, 200 if is_ready else 503, _encode({"ready": is_ready}))
        elif path in ("/v1/models", "/v2/models"):
            await _respond(send, 200, _encode({"models": [deployed.name for deployed in self._plane.services]}))
        elif path == "/v2/models/stats":
            await _respond(send, 200, _encode({"model_stats": endpoints.statistics()}))
        elif path.startswith("/v2/models/"):
            await self._get_model(path[11:], namespace, send)
        elif path.startswith("/v1/models/"):
            name = path[11:]
            is_ready = endpoints.is_ready(name, namespace=namespace)
            await _respond(send, 200 if is_ready else 503, _encode({"name": name, "ready": is_ready}))
        elif path == "/metrics":
            metrics = self._plane.metrics
            metrics.flush()
            await _respond(send, 200, metrics.exposition(), content_type=CONTENT_TYPE.encode())
        elif path == "/v2/logging":
            await _respond(send, 200, _encode(self._endpoints.log_settings))
        else:
            raise _not_served("GET", path)

    async def _get_model(self, rest: str, namespace: str | None, send: Send) -> None:
        rest = rest.rstrip("/")
        subject = ""
        for ending in ("ready", "config", "stats"):
            if rest.endswith(f"/{ending}"):
                subject, rest = ending, rest[: -len(ending) - 1]
                break
        if "/trace/" in f"{rest}/":
            raise _not_served("GET", f"/v2/{rest}")
        name, version = _split_model(rest)
        endpoints = self._endpoints
        if subject == "ready":
            is_ready = endpoints.is_ready(name, version, namespace=namespace)
            await _respond(send, 200 if is_ready else 503, _encode({"name": name, "ready": is_ready}))
        elif subject == "config":
            await _respond(send, 200, _encode(await endpoints.config(name, version, namespace=namespace)))
        elif subject == "stats":
            told = endpoints.statistics(name, version, namespace=namespace)
            await _respond(send, 200, _encode({"model_stats": told}))
        else:
            await _respond(send, 200, _encode(await endpoints.metadata(name, version, namespace=namespace)))


def _split_model(rest: str) -> tuple[str, str]:
    """Split `NAME` or `NAME/versions/VERSION`."""
    name, _, version = rest.partition("/versions/")
    return name, version


def _not_served(method: str, path: str) -> GoldenloopError:
    for part, what in _NOT_SERVED.items():
        if f"/{part}" in path:
            return UnsupportedError(what, status=501, mend="Leave it out: values travel with the request.")
    return NotFoundError(f"nothing is served at {method} {path[:200]}", mend="See /v2 and /v1/models for what is.")


def _object(body: bytes) -> dict[str, object]:
    try:
        given = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise InvalidSpecError(f"not JSON: {error}", where="body", mend="Send a JSON object.") from error
    if not isinstance(given, dict):
        raise InvalidSpecError("not an object", where="body", mend="Send a JSON object.")
    return given


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
    if not label.id or label.row < 0 or label.row >= LARGEST_BATCH:
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
    given = headers.raw.get(b"inference-header-content-length")
    if given is None:
        return None
    if not given.isdigit() or len(given) > 12:
        raise InvalidSpecError(
            "not a number of bytes", where="Inference-Header-Content-Length", mend="Send the length of the JSON part."
        )
    return int(given)


async def _body(headers: Headers, receive: Receive) -> bytes:
    """Read the whole body and unpack it. Raises TooLargeError beyond the bound, UnsupportedError for an encoding that is not served."""
    announced = headers.raw.get(b"content-length")
    if announced is not None and announced.isdigit() and int(announced[:20]) > LARGEST_BODY:
        raise TooLargeError(
            f"the body has {announced.decode()[:20]} bytes, at most {LARGEST_BODY} are taken", mend="Send fewer rows."
        )
    message = await receive()
    if message["type"] != "http.request":
        raise _GoneError
    if not message.get("more_body", False):
        body = message.get("body", b"")
    else:
        parts = [message.get("body", b"")]
        size = len(parts[0])
        while message.get("more_body", False):
            message = await receive()
            if message["type"] != "http.request":
                raise _GoneError
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > LARGEST_BODY:
                raise TooLargeError(f"the body has more than {LARGEST_BODY} bytes", mend="Send fewer rows.")
        body = b"".join(parts)
    encoding = headers.raw.get(b"content-encoding")
    return body if encoding is None else _unpacked(body, encoding)


def _unpacked(body: bytes, encoding: bytes) -> bytes:
    encoding = encoding.strip().lower()
    if encoding in (b"identity", b""):
        return body
    if encoding not in (b"gzip", b"deflate"):
        raise UnsupportedError(
            f"content encoding {encoding.decode('latin-1')[:40]!r} is not served",
            status=415,
            mend="Send gzip, deflate or plain.",
        )
    # Deflate comes with the zlib header, or, from some clients, bare.
    for bits in (31,) if encoding == b"gzip" else (15, -15):
        unpacker = zlib.decompressobj(bits)
        try:
            content = unpacker.decompress(body, LARGEST_BODY + 1)
        except zlib.error:
            continue
        if len(content) > LARGEST_BODY:
            raise TooLargeError(f"the body has more than {LARGEST_BODY} bytes when unpacked", mend="Send fewer rows.")
        if unpacker.eof:
            return content
    raise InvalidSpecError(
        f"the body is not {encoding.decode()}", where="content-encoding", mend="Send what the header says."
    )


def _packed(content: bytes, headers: Headers) -> tuple[bytes, bytes | None]:
    accepted = headers.raw.get(b"accept-encoding")
    if accepted is None or len(content) < PACKED_FROM:
        return content, None
    if b"gzip" in accepted:
        packer = zlib.compressobj(1, zlib.DEFLATED, 31)
        return packer.compress(content) + packer.flush(), b"gzip"
    if b"deflate" in accepted:
        return zlib.compress(content, 1), b"deflate"
    return content, None


def _closing(send: Send) -> Send:
    async def closing(message: Sent) -> None:
        if message["type"] == "http.response.start":
            headers = message["headers"]
            assert isinstance(headers, list)  # as we write them
            message = {**message, "headers": [*headers, (b"connection", b"close")]}
        await send(message)

    return closing


async def _respond_error(send: Send, error: GoldenloopError) -> None:
    extra = ((b"retry-after", _RETRY_SECONDS),) if isinstance(error, HeldTooLongError | TooManyError) else ()
    if isinstance(error, TooLargeError):
        extra = (*extra, (b"connection", b"close"))  # the rest of the body is not read
    await _respond(send, status_of(error), _encode({"error": str(error)}), extra=extra)


async def _respond_answer(send: Send, headers: Headers, content: bytes, identity: str, head: int | None = None) -> None:
    content, encoding = _packed(content, headers)
    answer = [
        _JSON if head is None else (b"content-type", b"application/octet-stream"),
        (b"content-length", b"%d" % len(content)),
        (b"x-prediction-id", identity.encode()),
    ]
    if head is not None:
        answer.append((b"inference-header-content-length", b"%d" % head))
    if encoding is not None:
        answer.append((b"content-encoding", encoding))
    await send({"type": "http.response.start", "status": 200, "headers": answer})
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
