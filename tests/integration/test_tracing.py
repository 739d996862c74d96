"""Traces of calls over a real server: a span per call with its phases, under the caller's own; nothing when off."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc import aio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id
from prometheus_client.openmetrics.exposition import generate_latest

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc as pb_grpc
from service import bootstrap, tracing
from service.client import translate_request
from service.errors import ConfigError
from service.tracing import Tracing
from tests.doubles.edge_server import EdgeServer, edge_server

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PHASES = ["tokenize", "queue", "encode", "decode", "detokenize"]


@pytest.fixture
def spans() -> InMemorySpanExporter:
    """The spans that were sent."""
    return InMemorySpanExporter()


@pytest.fixture
def tracer(spans: InMemorySpanExporter) -> Iterator[Tracing]:
    """Tracing that keeps its spans here."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    traced = Tracing(provider)
    yield traced
    traced.close()


async def call(server: EdgeServer, request: pb.TranslateRequest, *, traceparent: str = "") -> grpc.StatusCode:
    """The status of a call."""
    metadata = (("traceparent", traceparent),) if traceparent else ()
    async with aio.insecure_channel(server.address) as channel:
        stub: pb_grpc.TranslationServiceAsyncStub = pb_grpc.TranslationServiceStub(channel)
        try:
            await stub.Translate(request, metadata=metadata)
        except aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def attributes_of(span: ReadableSpan) -> dict[str, object]:
    """The attributes of a span."""
    return dict(span.attributes or {})


async def test_a_call_is_a_span_with_its_phases_under_the_callers_own(
    tracer: Tracing, spans: InMemorySpanExporter
) -> None:
    """One trace: the caller's id, a server span, five phases one after the other inside it; exemplars name it."""
    async with edge_server(tracer=tracer) as server:
        request = translate_request(["I love you."], source="en", target="de")
        assert await call(server, request, traceparent=f"00-{TRACE}-{PARENT}-01") is grpc.StatusCode.OK
        await server.until_idle()
        page = generate_latest(server.metrics.registry).decode()  # type: ignore[no-untyped-call]
    *phases, root = spans.get_finished_spans()
    assert [span.name for span in phases] == PHASES
    assert (root.name, root.kind) == ("dragoman.v1.TranslationService/Translate", SpanKind.SERVER)
    assert root.parent is not None
    assert format_span_id(root.parent.span_id) == PARENT
    assert {format_trace_id(span.context.trace_id) for span in (*phases, root) if span.context} == {TRACE}
    assert all(span.parent == root.context for span in phases)
    times = [time for span in phases for time in (span.start_time, span.end_time)]
    assert None not in times
    assert times == sorted(time for time in times if time)
    attributes = attributes_of(root)
    assert (attributes["rpc.grpc.status_code"], attributes["dragoman.model"]) == (0, "echo")
    assert f'trace_id="{TRACE}"' in page


async def test_a_trace_that_is_not_kept_costs_no_spans(tracer: Tracing, spans: InMemorySpanExporter) -> None:
    """The caller has decided against it; without a caller's decision ours is a trace of its own."""
    async with edge_server(tracer=tracer) as server:
        request = translate_request(["I love you."], source="en", target="de")
        await call(server, request, traceparent=f"00-{TRACE}-{PARENT}-00")
        assert spans.get_finished_spans() == ()
        await call(server, request, traceparent="nonsense")
        await server.until_idle()
    *_, root = spans.get_finished_spans()
    assert root.parent is None


async def test_failed_calls_are_traced_without_any_text(tracer: Tracing, spans: InMemorySpanExporter) -> None:
    """The status is on the span: an error if the fault is ours. What a user wrote is on none."""
    async with edge_server(tracer=tracer) as server:
        await call(server, translate_request(["A most unusual sentence."], source="en", target="sw"))
        server.runner.failing = True
        await call(server, translate_request(["A most unusual sentence."], source="en", target="de"))
        await server.until_idle()
    refused, failed = spans.get_finished_spans()
    assert attributes_of(refused)["rpc.grpc.status_code"] == grpc.StatusCode.NOT_FOUND.value[0]
    assert refused.status.status_code is StatusCode.UNSET
    assert attributes_of(failed)["rpc.grpc.status_code"] == grpc.StatusCode.INTERNAL.value[0]
    assert failed.status.status_code is StatusCode.ERROR
    assert "unusual" not in f"{refused.to_json()}{failed.to_json()}"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what is sent to it over OTLP."""

    def __init__(self) -> None:
        self.received: list[ResourceSpans] = []

    def Export(self, request: ExportTraceServiceRequest, context: object) -> ExportTraceServiceResponse:  # noqa: N802
        """See opentelemetry/proto/collector/trace/v1/trace_service.proto."""
        self.received.extend(request.resource_spans)
        return ExportTraceServiceResponse()


@pytest.mark.parametrize(("name_set", "name"), [("", "dragoman"), ("shop-translations", "shop-translations")])
async def test_spans_go_where_opentelemetrys_variables_say(
    monkeypatch: pytest.MonkeyPatch, name_set: str, name: str
) -> None:
    """Over OTLP, under our service's name or the one that was set; closing sends the last of them."""
    collector = Collector()
    receiver = grpc.server(ThreadPoolExecutor(max_workers=1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, receiver)  # type: ignore[no-untyped-call]
    port = receiver.add_insecure_port("127.0.0.1:0")
    receiver.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_SERVICE_NAME", name_set)
    tracer = bootstrap.load_tracer()
    async with edge_server(tracer=tracer) as server:
        await call(server, translate_request(["I love you."], source="en", target="de"))
        await server.until_idle()
    await asyncio.to_thread(tracer.close)
    receiver.stop(None)
    (resource,) = collector.received
    attributes = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert attributes["service.name"] == name
    names = [span.name for scope in resource.scope_spans for span in scope.spans]
    assert names == [*PHASES, "dragoman.v1.TranslationService/Translate"]


def test_missing_libraries_are_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """That says what to install."""
    monkeypatch.setitem(sys.modules, "service.tracing", None)
    with pytest.raises(ConfigError, match=r"^--tracing: .*dragoman\[tracing\]"):
        bootstrap.load_tracer()


async def test_tracing_that_is_off_allocates_nothing() -> None:
    """Not a byte from its module while calls run."""
    async with edge_server() as server:
        request = translate_request(["I love you."], source="en", target="de")
        await call(server, request, traceparent=f"00-{TRACE}-{PARENT}-01")
        tracemalloc.start()
        try:
            for _ in range(3):
                await call(server, request)
            snapshot = tracemalloc.take_snapshot()
        finally:
            tracemalloc.stop()
    files = [str(Path(tracing.__file__)), "*/opentelemetry/*"]
    assert snapshot.filter_traces([tracemalloc.Filter(True, name) for name in files]).statistics("filename") == []


def test_tracing_that_is_off_is_not_imported(repository: Path) -> None:
    """The whole service loads without OpenTelemetry, which the extra brings."""
    program = (
        "import sys, service.bootstrap, service.__main__\n"
        "print(sorted(name for name in sys.modules if name.startswith(('opentelemetry', 'service.tracing'))))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.stdout.strip() == "[]", result.stderr
