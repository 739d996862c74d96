"""OpenTelemetry traces of calls, sent over OTLP; imported only where they are asked for (the extra `tracing`).

Where to and how much is said by OpenTelemetry's own variables, such as OTEL_EXPORTER_OTLP_ENDPOINT
(https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.metadata import version

import grpc
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.translator import CallTimings

_PROPAGATOR = TraceContextTextMapPropagator()
# The statuses that are the server's fault: https://opentelemetry.io/docs/specs/semconv/rpc/grpc/
_FAULTS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


class Tracing:
    """Makes a server span for each call, with its phases as children; implements CallTracer."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("dragoman")

    def begin(self, method: str, metadata: Mapping[str, str | bytes]) -> TracedCall:
        """See CallTracer.begin; `method` is `package.Service/Method`."""
        carrier = {key: value for key, value in metadata.items() if isinstance(value, str)}
        service, _, name = method.rpartition("/")
        span = self._tracer.start_span(
            method,
            context=_PROPAGATOR.extract(carrier),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": name},
        )
        return TracedCall(self._tracer, span)

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()


class TracedCall:
    """A call's span; implements CallSpan."""

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span

    @property
    def trace_id(self) -> str:
        """See CallSpan."""
        context = self._span.get_span_context()
        return format_trace_id(context.trace_id) if context.trace_flags.sampled else ""

    def phases(self, timings: CallTimings) -> None:
        """A span for each phase, as they followed each other up to now.

        Sentences run side by side: queue, encode and decode are as long as those of the slowest one, and end with the
        decoding, so that they may overlap where different sentences were slowest.
        """
        if not self._span.is_recording():
            return
        now = time.time()
        started = now - timings.total_seconds
        decoded = now - timings.detokenize_seconds
        encoded = decoded - timings.decode_seconds
        scheduled = encoded - timings.encode_seconds
        submitted = started + timings.tokenize_seconds
        self._phase("tokenize", started, submitted)
        if timings.steps:
            self._phase("queue", max(submitted, scheduled - timings.queue_seconds), scheduled)
            self._phase("encode", scheduled, encoded)
            self._phase("decode", encoded, decoded)
        self._phase("detokenize", decoded, now)
        self._span.set_attributes(
            {
                "dragoman.source_tokens": timings.source_tokens,
                "dragoman.target_tokens": timings.target_tokens,
                "dragoman.steps": timings.steps,
                "dragoman.cached_sentences": timings.cached_sentences,
                "dragoman.coalesced_sentences": timings.coalesced_sentences,
            }
        )

    def _phase(self, name: str, start: float, end: float) -> None:
        span = self._tracer.start_span(name, set_span_in_context(self._span), start_time=_nanoseconds(start))
        span.end(_nanoseconds(max(start, end)))

    def end(self, code: grpc.StatusCode, *, model: str) -> None:
        """See CallSpan."""
        self._span.set_attribute("rpc.grpc.status_code", code.value[0])
        if model:
            self._span.set_attribute("dragoman.model", model)
        if code in _FAULTS:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


def otlp_tracing() -> Tracing:
    """Tracing that sends over OTLP, with settings from the environment."""
    resource = Resource.create({"service.version": version("dragoman")})
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "dragoman"}))
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
