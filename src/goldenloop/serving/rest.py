"""REST over the endpoints. Every error is JSON, `{"error": "…"}`.

Bodies are at most 64 MiB, also when they are unpacked. What a caller may get wrong is 4xx, a model that fails 500, a log or a model that is
not there 503, a model that takes too long 504. A service is named by the path, by `/serving/NAMESPACE/NAME/…` before it, or by the Host
header.
"""

from __future__ import annotations

import zlib

import msgspec

from goldenloop.core.errors import GoldenloopError, InvalidSpecError, NotFoundError
from goldenloop.core.routing import Graph
from goldenloop.payloads.records import Value
from goldenloop.serving.dataplane import HeldTooLongError
from goldenloop.serving.endpoints import Endpoints
from goldenloop.serving.http.connection import LARGEST_BODY
from goldenloop.serving.http.messages import Headers, Request, Response
from goldenloop.serving.metrics import CONTENT_TYPE
from goldenloop.serving.queues import TooManyError
from goldenloop.serving.statuses import TooLargeError, UnsupportedError, status_of
from goldenloop.standards.open_inference import rest as protocol
from goldenloop.standards.open_inference.tensors import LARGEST_BATCH

PACKED_FROM = 4096  # bytes; smaller answers are not worth packing
_RETRY = b"retry-after: 1\r\n"
_RAW_TENSORS = b"application/octet-stream"
_NOT_SERVED = {
    "systemsharedmemory": "shared memory is not served",
    "cudasharedmemory": "shared memory is not served",
    "trace": "trace settings are not served",
}
_encode = msgspec.json.Encoder().encode


class _Labelled(msgspec.Struct, forbid_unknown_fields=True):
    """One label, as `POST /v1/feedback` takes it."""

    id: str
    label: object
    row: int = 0
    observed_at: str | int | float | None = None


class Application:
    """What one worker answers over HTTP."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._plane = endpoints.plane

    async def answer(self, request: Request) -> Response:
        """Answer a request, whatever comes of it."""
        self._plane.begin()
        headers = request.headers
        try:
            path, namespace, graph = self._place(request.path, headers)
            if request.method == "POST":
                body = _body(request)
                if graph is None:
                    return await self._post(path, namespace, headers, body)
                status, content = await self._endpoints.route(graph, body, headers)
                return Response(status, content)
            if request.method in ("GET", "HEAD"):
                return await self._get(path, namespace)
            raise UnsupportedError(f"{request.method} is not served", status=405, mend="Use GET or POST.")
        except GoldenloopError as error:
            extra = _RETRY if isinstance(error, HeldTooLongError | TooManyError) else b""
            return Response(status_of(error), _encode({"error": str(error)}), extra=extra)

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

    async def _post(self, path: str, namespace: str | None, headers: Headers, body: bytes) -> Response:
        if path.startswith("/v2/models/") and path.endswith("/infer"):
            name, version = _split_model(path[11:-6])
            return await self._infer(name, version, body, namespace, headers)
        if path.startswith("/v1/models/") and path.endswith(":predict"):
            name = path[11:-8]
            try:
                request = protocol.read_v1(body)
            except GoldenloopError as error:
                self._endpoints.refused(name, body, headers, error, namespace=namespace)
                raise
            predicted = await self._endpoints.predict(name, request, headers, namespace=namespace)
            content = _encode(predicted.document or {"predictions": predicted.predictions})
            return _answer(headers, content, predicted.answered.identity)
        if path.startswith("/v1/models/") and path.endswith(":explain"):
            given = protocol.read_v1(body)
            explained = await self._endpoints.explain(path[11:-8], given, headers, namespace=namespace)
            return Response(200, _encode(explained))
        if path == "/v1/feedback":
            return await self._feedback(body)
        if path == "/v2/repository/index":
            wants_ready = bool(body.strip()) and _object(body).get("ready") is True
            return Response(200, _encode(self._endpoints.index(ready=wants_ready)))
        if path.startswith("/v2/repository/models/") and path.endswith("/load"):
            parameters = _object(body).get("parameters") if body.strip() else None
            if isinstance(parameters, dict) and any(name.startswith("file:") for name in parameters):
                raise UnsupportedError(
                    "model files do not come with a load request",
                    status=400,
                    mend="Apply an InferenceService with a storageUri.",
                )
            await self._endpoints.load(path[22:-5])
            return Response(200, _encode({"name": path[22:-5], "load": True}))
        if path.startswith("/v2/repository/models/") and path.endswith("/unload"):
            await self._endpoints.unload(path[22:-7])
            return Response(200, _encode({"name": path[22:-7], "unload": True}))
        if path == "/v2/logging":
            settings = self._endpoints.log_settings
            settings |= {name: value for name, value in _object(body).items() if name in settings}
            return Response(200, _encode(settings))
        raise _not_served("POST", path)

    async def _infer(self, name: str, version: str, body: bytes, namespace: str | None, headers: Headers) -> Response:
        try:
            request = protocol.read_v2(body, model=name, version=version, header_length=_header_length(headers))
        except GoldenloopError as error:
            self._endpoints.refused(name, body, headers, error, namespace=namespace)
            raise
        response = await self._endpoints.infer(request, headers, namespace=namespace)
        content, head = protocol.write_v2(request, response)
        return _answer(headers, content, response.prediction, head)

    async def _feedback(self, body: bytes) -> Response:
        try:
            given = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError, ValueError) as error:
            raise InvalidSpecError(
                f"not JSON: {error}", where="body", mend='Send [{"id": "…", "label": …}, …].'
            ) from error
        elements = given if isinstance(given, list) else [given]
        labels = [_label_of(element, f"[{place}]") for place, element in enumerate(elements)]
        accepted = await self._plane.take_labels(labels)
        return Response(202, _encode({"accepted": accepted}))

    async def _get(self, path: str, namespace: str | None) -> Response:
        endpoints = self._endpoints
        if path in ("/v2", "/v2/"):
            return Response(200, _encode(endpoints.server()))
        if path == "/v2/health/live":
            return Response(200, b'{"live":true}')
        if path == "/":
            return Response(200, b'{"status":"alive"}')  # what V1 clients ask
        if path == "/v2/health/ready":
            is_ready = self._plane.is_ready
            return Response(200 if is_ready else 503, _encode({"ready": is_ready}))
        if path in ("/v1/models", "/v2/models"):
            return Response(200, _encode({"models": [deployed.name for deployed in self._plane.services]}))
        if path == "/v2/models/stats":
            return Response(200, _encode({"model_stats": endpoints.statistics()}))
        if path.startswith("/v2/models/"):
            return await self._get_model(path[11:], namespace)
        if path.startswith("/v1/models/"):
            name = path[11:]
            is_ready = endpoints.is_ready(name, namespace=namespace)
            return Response(200 if is_ready else 503, _encode({"name": name, "ready": is_ready}))
        if path == "/metrics":
            metrics = self._plane.metrics
            metrics.flush()
            return Response(200, metrics.exposition(), content_type=CONTENT_TYPE.encode())
        if path == "/v2/logging":
            return Response(200, _encode(self._endpoints.log_settings))
        raise _not_served("GET", path)

    async def _get_model(self, rest: str, namespace: str | None) -> Response:
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
            return Response(200 if is_ready else 503, _encode({"name": name, "ready": is_ready}))
        if subject == "config":
            return Response(200, _encode(await endpoints.config(name, version, namespace=namespace)))
        if subject == "stats":
            told = endpoints.statistics(name, version, namespace=namespace)
            return Response(200, _encode({"model_stats": told}))
        return Response(200, _encode(await endpoints.metadata(name, version, namespace=namespace)))


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


def _body(request: Request) -> bytes:
    """The body, unpacked. Raises TooLargeError beyond the bound, UnsupportedError for an encoding that is not served."""
    encoding = request.headers.raw.get(b"content-encoding")
    return request.body if encoding is None else _unpacked(request.body, encoding)


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


def _answer(headers: Headers, content: bytes, identity: str, head: int | None = None) -> Response:
    """An answer with its prediction's id; `head` is how many bytes are JSON where raw tensors follow."""
    content, encoding = _packed(content, headers)
    extra = b"x-prediction-id: %s\r\n" % identity.encode()
    if encoding is not None:
        extra += b"content-encoding: %s\r\n" % encoding
    if head is None:
        return Response(200, content, extra=extra)
    extra += b"inference-header-content-length: %d\r\n" % head
    return Response(200, content, content_type=_RAW_TENSORS, extra=extra)
