"""Traces with OpenTelemetry: a span for each request, and under it what was done when (route, queue, score, log).

The request's `traceparent` (W3C Trace Context) says what it belongs to and whether it is sampled; without one the SDK's own sampler decides
(`OTEL_TRACES_SAMPLER`). Spans are made when the request has ended, and sent by a thread, in batches, to an OTLP receiver over HTTP. A
receiver that is away costs spans, and nothing else.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from goldenloop import __version__
from goldenloop.core.errors import UnavailableError
from goldenloop.serving.watching import Noted, Watch

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

SERVICE_NAME = "goldenloop-inference"
_PATH = "/v1/traces"
_SEND_SECONDS = 5.0
_SERVER_ERROR = 500


def check() -> None:
    """Raise UnavailableError where the packages for traces are not installed."""
    for name in ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http"):
        try:
            found = find_spec(name)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise UnavailableError(
                f"traces need the package {name}, which is not installed",
                where="--otel",
                mend="pip install 'goldenloop[otel]'.",
            )


class Telemetry:
    """Sends spans to `endpoint` ("http://127.0.0.1:4318"). Raises UnavailableError where the packages are not installed."""

    def __init__(self, endpoint: str, *, exporter: SpanExporter | None = None) -> None:
        check()
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        base = endpoint.rstrip("/")
        address = base if base.endswith(_PATH) else base + _PATH
        resource = Resource.create({"service.name": SERVICE_NAME, "service.version": __version__})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter or OTLPSpanExporter(endpoint=address, timeout=_SEND_SECONDS))
        )
        self._tracer = self._provider.get_tracer("goldenloop", __version__)
        self._extract = TraceContextTextMapPropagator().extract
        self._inside = set_span_in_context
        self._server = SpanKind.SERVER
        self._error = Status(StatusCode.ERROR)

    def saw(self, watch: Watch) -> None:
        """Make the spans of a request."""
        span = self._tracer.start_span(
            _name(watch),
            context=self._extract(watch.headers),
            kind=self._server,
            start_time=watch.started_ns,
            attributes={
                "http.request.method": watch.method,
                "url.path": watch.path,
                "network.protocol.name": watch.protocol,
                "http.response.status_code": watch.status,
            },
        )
        if span.is_recording():
            if watch.noted:
                span.set_attributes(_facts(watch.noted[-1]))
            if watch.status >= _SERVER_ERROR:
                span.set_status(self._error)
            inside = self._inside(span)
            begun = watch.started_ns
            for noted in watch.noted:
                for name, start, end in (
                    ("route", begun, _wall_ns(watch, noted.submitted)),
                    ("queue", _wall_ns(watch, noted.submitted), _wall_ns(watch, noted.scoring)),
                    ("score", _wall_ns(watch, noted.scoring), _wall_ns(watch, noted.scored)),
                    ("log", _wall_ns(watch, noted.scored), _wall_ns(watch, noted.logged)),
                ):
                    part = self._tracer.start_span(name, context=inside, start_time=start, attributes=_facts(noted))
                    if name == "score" and noted.failure:
                        part.set_status(self._error)
                        part.set_attribute("error.message", noted.failure)
                    part.end(end_time=end)
                begun = _wall_ns(watch, noted.logged)
        span.end(end_time=watch.started_ns + watch.took_ns)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def _name(watch: Watch) -> str:
    """Few different ones: services have names of the table, paths are whatever callers send."""
    if watch.noted:
        return f"infer {watch.noted[-1].namespace}/{watch.noted[-1].service}"
    return watch.method if watch.method in ("GET", "HEAD", "POST") else "OTHER"


def _facts(noted: Noted) -> dict[str, str | int]:
    return {
        "goldenloop.namespace": noted.namespace,
        "goldenloop.service": noted.service,
        "goldenloop.model_version": noted.version,
        "goldenloop.prediction_id": noted.identity,
        "goldenloop.reason": noted.reason,
        "goldenloop.rows": noted.rows,
    }


def _wall_ns(watch: Watch, seconds: float) -> int:
    """The time of day of a moment on the process's clock."""
    return watch.started_ns + int(seconds * 1e9) - watch.begun_ns
