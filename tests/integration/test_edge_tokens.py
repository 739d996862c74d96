"""Bearer tokens and quotas over a real gRPC server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import cast

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs

from dragoman.google_v3 import translation_service_pb2 as google_pb
from dragoman.google_v3 import translation_service_pb2_grpc as google_grpc
from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc as pb_grpc
from service.client import AsyncTranslationClient, TranslationError, translate_request
from service.rpc import authentication
from service.tokens import TokenLimits, add_token
from tests.doubles.edge_server import EdgeServer, edge_server


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The tokens file."""
    return tmp_path / "tokens.toml"


@pytest.fixture
def token(file: Path) -> str:
    """A token without limits."""
    return add_token(file, "search", TokenLimits())


@pytest.fixture
async def server(file: Path, token: str) -> AsyncIterator[EdgeServer]:
    """A server that asks for tokens."""
    async with edge_server(tokens_file=file) as running:
        yield running


async def test_a_known_token_opens_every_call(server: EdgeServer, token: str) -> None:
    """Unary, stream, bulk and list; the log line names the caller as the file does."""
    async with AsyncTranslationClient(server.address, token=token) as client:
        with capture_logs() as logs:
            assert (await client.translate(["I love you."], source="en", target="de")).translations
        assert [line["caller"] for line in logs if line["event"] == "call"] == ["search"]
        assert [answer async for answer in client.stream("I love you.", source="en", target="de")]
        item = pb.TranslateBulkRequest(id="1", request=translate_request(["I love you."], source="en", target="de"))
        assert [answer.id async for answer in client.translate_bulk([item])] == ["1"]
        assert await client.list_models()
    assert server.metric("dragoman_token_characters_total", token="search") == 3 * len("I love you.")


@pytest.mark.parametrize(
    "value", [None, "", "Bearer", "Bearer ", "Bearer nobody", "Basic dXNlcjpwYXNz", "{token}", "Bearer {token}x"]
)
async def test_every_other_is_refused(server: EdgeServer, token: str, value: str | None) -> None:
    """UNAUTHENTICATED with one line, on every method, before a message is read; the token shows nowhere."""
    metadata = () if value is None else (("authorization", value.format(token=token)),)
    async with aio.insecure_channel(server.address) as channel:
        ours: pb_grpc.TranslationServiceAsyncStub = pb_grpc.TranslationServiceStub(channel)
        googles: google_grpc.TranslationServiceAsyncStub = google_grpc.TranslationServiceStub(channel)
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: ours.Translate(pb.TranslateRequest(), metadata=metadata),
            lambda: ours.ListModels(pb.ListModelsRequest(), metadata=metadata),
            lambda: ours.TranslateStream(pb.TranslateStreamRequest(), metadata=metadata).read(),
            lambda: ours.TranslateBulk(iter([pb.TranslateBulkRequest()]), metadata=metadata).read(),
            lambda: googles.TranslateText(google_pb.TranslateTextRequest(), metadata=metadata),
        ]
        with capture_logs() as logs:
            for call in calls:
                with pytest.raises(aio.AioRpcError) as caught:
                    await call()
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
                assert "token" in (caught.value.details() or "")
                assert token not in str(caught.value)
    assert [line["code"] for line in logs if line["event"] == "call"] == ["UNAUTHENTICATED"] * len(calls)
    assert token not in str(logs)


async def test_health_and_reflection_need_no_token(server: EdgeServer) -> None:
    """Probes have none, and what the services are called is no secret."""
    async with aio.insecure_channel(server.address) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        assert [answer async for answer in stub.ServerReflectionInfo(iter([request]))]


async def test_the_file_is_read_again(
    server: EdgeServer, file: Path, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new token works, one that was taken out does not, and a broken file changes nothing."""
    monkeypatch.setattr(authentication, "LOOK_SECONDS", 0.0)

    async def answer(token: str) -> str:
        async with AsyncTranslationClient(server.address, token=token) as client:
            try:
                await client.list_models()
            except TranslationError as error:
                return error.code.name
        return "OK"

    assert await answer(token) == "OK"
    with file.open("a") as text:
        text.write("[broken")
    with capture_logs() as logs:
        assert [await answer(token), await answer(token)] == ["OK", "OK"]
    assert [line["event"] for line in logs if "reload" in line["event"]] == ["tokens_not_reloaded"]
    other = file.with_name("other.toml")
    new = add_token(other, "new", TokenLimits())
    os.replace(other, file)
    with capture_logs() as logs:
        assert [await answer(new), await answer(token)] == ["OK", "UNAUTHENTICATED"]
    assert [line["event"] for line in logs if "reload" in line["event"]] == ["tokens_reloaded"]


async def test_a_used_up_quota_tells_when_to_come_back(file: Path) -> None:
    """RESOURCE_EXHAUSTED with its own reason, RetryInfo and pushback; another token is not held up."""
    limited = add_token(file, "limited", TokenLimits(characters_per_second=1.0, burst_seconds=11.0))
    other = add_token(file, "other", TokenLimits())
    request = translate_request(["I love you."], source="en", target="de")
    async with (
        edge_server(tokens_file=file) as server,
        aio.insecure_channel(server.address, [("grpc.enable_retries", 0)]) as channel,
    ):
        stub: pb_grpc.TranslationServiceAsyncStub = pb_grpc.TranslationServiceStub(channel)
        metadata = (("authorization", f"bearer {limited}"),)
        assert (await stub.Translate(request, metadata=metadata)).translations
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.Translate(request, metadata=metadata)
        trailers = dict(cast("Iterable[tuple[str, str]]", caught.value.trailing_metadata()))
        assert 1 <= int(trailers["grpc-retry-pushback-ms"]) <= 11_000
        assert (await stub.Translate(request, metadata=(("authorization", f"Bearer {other}"),))).translations
        async with AsyncTranslationClient(server.address, token=limited) as client:
            with pytest.raises(TranslationError) as refused:
                await client.translate(["I love you."], source="en", target="de", timeout_seconds=1)
        assert refused.value.code is grpc.StatusCode.DEADLINE_EXCEEDED  # the client waits as it was told
        assert server.metric("dragoman_token_refusals_total", token="limited", limit="characters") >= 2
        assert server.metric("dragoman_token_characters_total", token="limited") == 11


async def test_calls_per_second_hold_for_calls_without_text(file: Path) -> None:
    """ListModels costs no characters, and is counted all the same."""
    token = add_token(file, "limited", TokenLimits(calls_per_second=0.001, burst_seconds=2000.0))
    async with (
        edge_server(tokens_file=file) as server,
        aio.insecure_channel(server.address, [("grpc.enable_retries", 0)]) as channel,
    ):
        stub: pb_grpc.TranslationServiceAsyncStub = pb_grpc.TranslationServiceStub(channel)
        metadata = (("authorization", f"Bearer {token}"),)
        for _ in range(2):
            await stub.ListModels(pb.ListModelsRequest(), metadata=metadata)
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.ListModels(pb.ListModelsRequest(), metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_bulk_waits_for_its_quota(file: Path) -> None:
    """A corpus is slowed down, not refused."""
    token = add_token(file, "corpus", TokenLimits(characters_per_second=2000.0, burst_seconds=0.01))
    item = translate_request(["I love you."], source="en", target="de")
    items = [pb.TranslateBulkRequest(id=str(number), request=item) for number in range(12)]
    async with edge_server(tokens_file=file) as server, AsyncTranslationClient(server.address, token=token) as client:
        answers = [answer async for answer in client.translate_bulk(items)]
    assert len(answers) == 12
    assert all(answer.HasField("response") for answer in answers)
