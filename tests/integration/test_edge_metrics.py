"""What a call leaves on the metrics page: its latency by length class, and the trace that it belonged to."""

from __future__ import annotations

import grpc
from prometheus_client.openmetrics.exposition import generate_latest

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc as pb_grpc
from tests.doubles.edge_server import edge_server

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TEXT = "I love you. "


async def test_a_traced_call_leaves_an_exemplar_and_its_length_class() -> None:
    """Short and medium texts are told apart; a failed call adds no latency; other calls leave no exemplar."""
    async with edge_server() as server, grpc.aio.insecure_channel(server.address) as channel:
        stub: pb_grpc.TranslationServiceAsyncStub = pb_grpc.TranslationServiceStub(channel)
        short = pb.TranslateRequest(contents=[TEXT], source_language_code="en", target_language_code="de")
        medium = pb.TranslateRequest(
            contents=["I love you. "] * 20, source_language_code="en", target_language_code="de"
        )
        await stub.Translate(short, metadata=(("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"),))
        await stub.Translate(medium)
        wrong = pb.TranslateRequest(contents=[TEXT], source_language_code="en", target_language_code="sw")
        answer = stub.Translate(wrong)
        assert await answer.code() is grpc.StatusCode.NOT_FOUND
        await server.until_idle()
        page: str = generate_latest(server.metrics.registry).decode()  # type: ignore[no-untyped-call]
        for name in ("short", "medium"):
            labels = {"method": "Translate", "model": "echo", "length_class": name}
            assert server.metric("dragoman_request_seconds_count", **labels) == 1
    latencies = [line for line in page.splitlines() if line.startswith("dragoman_request_seconds_bucket")]
    traced = [line for line in latencies if f'# {{trace_id="{TRACE}"}}' in line]
    assert len(traced) == 1
    assert 'length_class="short"' in traced[0]
    assert sum('le="+Inf"' in line for line in latencies) == 2
