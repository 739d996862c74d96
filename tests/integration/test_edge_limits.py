"""Everything that a client can make large or many has a bound, and the answer beyond it says what to do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from typing import cast

import grpc
import pytest
from grpc import aio

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc as pb_grpc
from service.client import TranslationError, translate_request
from tests.doubles.edge_server import EdgeServer, edge_server, until

PATH = "/dragoman.v1.TranslationService/Translate"
NO_RETRIES = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]


@pytest.fixture
async def server() -> AsyncIterator[EdgeServer]:
    """A server that serves."""
    async with edge_server() as running:
        yield running


async def refusal(server: EdgeServer, request: pb.TranslateRequest) -> TranslationError:
    """How a call ends that is refused."""
    async with server.client() as client:
        with pytest.raises(TranslationError) as caught:
            await client.translate(
                request.contents,
                source=request.source_language_code,
                target=request.target_language_code,
                options=request.options,
            )
    return caught.value


def request(*contents: str, **options: object) -> pb.TranslateRequest:
    """A request with options."""
    wanted = pb.TranslationOptions(**options)  # type: ignore[arg-type]
    return translate_request(contents, source="en", target="de", options=wanted)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (request(*["x"] * 1025), "contents"),
        (request("x" * 10_001), "contents"),
        (request("x " * 2000, beam_size=4, num_hypotheses=3), "contents"),
        (request(*["x"] * 100, target_prefix="y" * 100), "contents"),
        (request("x", target_prefix="y" * 5000), "options.target_prefix"),
        (request("x", beam_size=9), "options.beam_size"),
        (request("x", num_hypotheses=2**31 - 1), "options.num_hypotheses"),
        (request("x", max_output_tokens=65), "options.max_output_tokens"),
        (request("x", no_repeat_ngram_size=17), "options.no_repeat_ngram_size"),
        (request("x", top_k=1001), "options.top_k"),
        (request("x", temperature=101.0), "options.temperature"),
        (request("x", length_penalty=10.5), "options.length_penalty"),
    ],
)
async def test_a_call_beyond_its_bounds_names_the_field(
    server: EdgeServer, asked: pb.TranslateRequest, field: str
) -> None:
    """INVALID_ARGUMENT before any work; texts count once per hypothesis, prefixes once per text."""
    error = await refusal(server, asked)
    assert (error.code, error.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)
    assert server.runner.steps == 0


async def test_an_answer_that_fits_into_no_message_is_the_callers_to_cut() -> None:
    """INVALID_ARGUMENT, which no client retries; an item of a bulk stream fails alone."""
    wide = request("I love you. " * 40, beam_size=4, num_hypotheses=4, return_alignments=True)
    async with edge_server(max_message_bytes=8 * 1024) as server, server.client() as client:
        error = await refusal(server, wide)
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
        assert "ask for less" in str(error)
        items = [
            pb.TranslateBulkRequest(id="wide", request=wide),
            pb.TranslateBulkRequest(id="x", request=request("x")),
        ]
        answers = {answer.id: answer async for answer in client.translate_bulk(items)}
        assert answers["wide"].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        assert answers["x"].HasField("response")
        options = pb.TranslationOptions(return_alignments=True)
        with pytest.raises(TranslationError) as caught:
            async for _ in client.stream("I love you. " * 40, source="en", target="de", options=options):
                pass
        assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_message_that_is_too_large_is_not_read(server: EdgeServer) -> None:
    """gRPC's own RESOURCE_EXHAUSTED, and the connection goes on."""
    async with aio.insecure_channel(server.address, NO_RETRIES) as channel:
        call: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PATH, bytes, bytes)
        with pytest.raises(aio.AioRpcError) as caught:
            await call(b"\n\xff\xff\xff\x07" + b"x" * (16 * 1024 * 1024))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await call(request("I love you.").SerializeToString())


async def test_metadata_has_a_bound(server: EdgeServer) -> None:
    """What is more than twice 8 KiB is refused by gRPC before our code sees it."""
    async with aio.insecure_channel(server.address, NO_RETRIES) as channel:
        stub: pb_grpc.TranslationServiceAsyncStub = pb_grpc.TranslationServiceStub(channel)
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.ListModels(pb.ListModelsRequest(), metadata=(("x-large", "x" * 20_000),))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await stub.ListModels(pb.ListModelsRequest(), metadata=(("x-small", "x" * 2000),))).models
    assert server.metric("dragoman_requests_total", method="ListModels", model="", code="OK") == 1


async def test_connections_have_a_bound() -> None:
    """One more is closed at once, those that are open are not disturbed, and a closed one makes room."""
    async with edge_server(max_connections=2) as server:
        channels = [aio.insecure_channel(server.address, NO_RETRIES) for _ in range(3)]
        stubs: list[pb_grpc.TranslationServiceAsyncStub] = [pb_grpc.TranslationServiceStub(each) for each in channels]
        for stub in stubs[:2]:
            await stub.ListModels(pb.ListModelsRequest())
        with pytest.raises(aio.AioRpcError) as caught:
            await stubs[2].ListModels(pb.ListModelsRequest())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert (await stubs[0].ListModels(pb.ListModelsRequest())).models
        await channels[1].close(None)
        assert (await stubs[2].ListModels(pb.ListModelsRequest(), wait_for_ready=True, timeout=20)).models
        for each in channels:
            await each.close(None)


async def test_one_connection_has_so_many_calls_at_a_time() -> None:
    """Its client holds the others back, and all are answered."""
    async with edge_server(max_streams_per_connection=3) as server, server.client() as client:
        server.runner.gate.clear()
        calls = [asyncio.create_task(client.translate([f"I love {n}."], source="en", target="de")) for n in range(12)]
        await until(lambda: server.engine.running + server.engine.waiting == 2)  # the third watches health
        server.runner.gate.set()
        assert [answer.translations[0].text for answer in await asyncio.gather(*calls)] == [
            f"I love {n}." for n in range(12)
        ]


async def test_calls_of_all_clients_together_have_a_bound() -> None:
    """One more is refused at once, with a time to come back and whatever its method, and health still answers."""
    async with edge_server(max_calls=2) as server, server.client() as client:
        server.runner.gate.clear()
        calls = [asyncio.create_task(client.translate([f"I love {n}."], source="en", target="de")) for n in range(2)]
        await until(lambda: server.engine.running + server.engine.waiting == 2)
        async with aio.insecure_channel(server.address, NO_RETRIES) as channel:
            stub: pb_grpc.TranslationServiceAsyncStub = pb_grpc.TranslationServiceStub(channel)
            for refused in (
                stub.Translate(request("x")),
                stub.TranslateStream(pb.TranslateStreamRequest()).read(),
                stub.TranslateBulk(iter([pb.TranslateBulkRequest()])).read(),
            ):
                with pytest.raises(aio.AioRpcError) as caught:
                    await refused
                assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                trailers = dict(cast("Iterable[tuple[str, str]]", caught.value.trailing_metadata()))
                assert "grpc-retry-pushback-ms" in trailers
        server.runner.gate.set()
        assert all(answer.translations for answer in await asyncio.gather(*calls))


async def test_who_connects_and_says_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection without HTTP/2 does not hold a place for ever."""
    monkeypatch.setattr("service.rpc.server._HANDSHAKE_MILLISECONDS", 200)
    async with edge_server() as server:
        host, _, port = server.address.rpartition(":")

        def wait_for_the_end() -> bytes:
            with socket.create_connection((host, int(port)), timeout=20) as silent:
                while silent.recv(4096):
                    pass
                return b""

        assert await asyncio.to_thread(wait_for_the_end) == b""
