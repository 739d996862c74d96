"""Unary calls, streams and bulk over a real gRPC server, with a model that says every sentence again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import cast

import grpc
import pytest
from grpc import aio
from structlog.testing import capture_logs

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc as pb_grpc
from service.client import AsyncTranslationClient, TranslationClient, TranslationError, translate_request
from tests.doubles.edge_server import EdgeServer, edge_server, until

LETTER = "I love you. How are you?\n\n\tWe are fine;\r\n thank you.  "


@pytest.fixture
async def server() -> AsyncIterator[EdgeServer]:
    """A server that serves."""
    async with edge_server() as running:
        yield running


@pytest.fixture
async def client(server: EdgeServer) -> AsyncIterator[AsyncTranslationClient]:
    """A client of it."""
    async with server.client() as connected:
        yield connected


async def test_a_call_returns_translations_and_accounts_for_them(
    server: EdgeServer, client: AsyncTranslationClient
) -> None:
    """Text, sentences, model, timings and the caller's request id come back, and the metrics count the call."""
    response = await client.translate([LETTER, ""], source="en", target="de", request_id="my-request.1")
    assert [translation.text for translation in response.translations] == [LETTER, ""]
    assert len(response.translations[0].sentences) == 4
    assert (response.model, response.model_version, response.request_id) == ("echo", "0123456789ab", "my-request.1")
    assert response.timings.total.ToTimedelta().total_seconds() > 0
    assert response.timings.step_count > 1
    await server.until_idle()
    assert server.metric("dragoman_requests_total", method="Translate", model="echo", code="OK") == 1
    assert server.metric("dragoman_target_tokens_total", model="echo") == response.timings.target_token_count


@pytest.mark.parametrize("request_id", ["spaces are wrong", "x" * 129, ""])
async def test_a_malformed_request_id_is_replaced(client: AsyncTranslationClient, request_id: str) -> None:
    """The server makes one of its own."""
    response = await client.translate(["I love you."], source="en", target="de", request_id=request_id)
    assert response.request_id != request_id
    assert len(response.request_id) == 32


async def test_everything_that_was_asked_for_is_returned(client: AsyncTranslationClient) -> None:
    """Hypotheses, scores and alignments travel over the wire."""
    options = pb.TranslationOptions(beam_size=3, num_hypotheses=2, return_alignments=True, return_token_scores=True)
    response = await client.translate(["I love you."], source="en", target="de", options=options)
    sentence = response.translations[0].sentences[0]
    assert len(response.translations[0].hypotheses) == len(sentence.hypotheses) == 2
    alignment = sentence.alignment
    assert len(alignment.weights) == len(alignment.source_tokens) * len(alignment.target_tokens) > 0
    assert len(sentence.token_scores) == len(alignment.target_tokens)
    assert sentence.finish_reason == pb.FINISH_REASON_EOS


async def test_models_are_listed(client: AsyncTranslationClient) -> None:
    """With pairs, limits and abilities."""
    (model,) = await client.list_models()
    assert (model.id, model.precision, model.supports_alignments) == ("echo", pb.PRECISION_FP32, True)
    assert [pair.target_language_code for pair in model.language_pairs] == ["de", "fr", "zh"]
    assert all(pair.is_default for pair in model.language_pairs)
    assert model.limits.max_request_characters == 10_000


def request(*contents: str, source: str = "en", target: str = "de", **options: int) -> pb.TranslateRequest:
    """A request with integer options."""
    return translate_request(contents, source=source, target=target, options=pb.TranslationOptions(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "code", "reason", "field"),
    [
        (request(), "INVALID_ARGUMENT", "INVALID_ARGUMENT", "contents"),
        (request("a megabyte " * 95_325), "INVALID_ARGUMENT", "INVALID_ARGUMENT", "contents"),
        (request("x", source=""), "INVALID_ARGUMENT", "INVALID_ARGUMENT", "source_language_code"),
        (request("x", target="<script>"), "INVALID_ARGUMENT", "INVALID_ARGUMENT", "target_language_code"),
        (request("x", target="sw"), "NOT_FOUND", "MODEL_NOT_FOUND", ""),
        (request("x", beam_size=0), "INVALID_ARGUMENT", "INVALID_ARGUMENT", "options.beam_size"),
        (request("x", top_k=-1), "INVALID_ARGUMENT", "INVALID_ARGUMENT", "options.top_k"),
        (request("x", stopping_rule=99), "INVALID_ARGUMENT", "INVALID_ARGUMENT", "options.stopping_rule"),
        (request("x", length_penalty_kind=7), "INVALID_ARGUMENT", "INVALID_ARGUMENT", "options.length_penalty_kind"),
    ],
)
async def test_bad_requests_get_their_status_and_details(
    client: AsyncTranslationClient, asked: pb.TranslateRequest, code: str, reason: str, field: str
) -> None:
    """The code, a stable reason, the field at fault and the request id: enough to act on."""
    with pytest.raises(TranslationError) as caught:
        await client.translate(
            asked.contents,
            source=asked.source_language_code,
            target=asked.target_language_code,
            options=asked.options,
            request_id="r1",
        )
    error = caught.value
    assert (error.code.name, error.reason, error.field, error.request_id) == (code, reason, field, "r1")


ODD_TEXTS = [
    "",
    " \n",
    "\x00\x07\x1b[31m",
    "\U0001f600\U0001f469\u200d\U0001f469\u200d\U0001f467",
    "שלום مرحبا",
    "\u202e\u200b",
    "a\u0301" * 50,
    "\x00" * 500,
]


@pytest.mark.parametrize("text", ODD_TEXTS)
async def test_odd_texts_never_fail(client: AsyncTranslationClient, text: str) -> None:
    """Blank, control characters, emoji, right to left, combining marks: answered, every sentence accounted for."""
    response = await client.translate([text], source="en", target="de")
    translation = response.translations[0]
    covered = sum(sentence.source_span.end - sentence.source_span.start for sentence in translation.sentences)
    assert covered <= len(text)
    assert bool(translation.sentences) == bool(text.strip())


async def test_bytes_that_are_no_message_are_the_callers_fault(server: EdgeServer) -> None:
    """They get INVALID_ARGUMENT, where gRPC by itself would answer INTERNAL."""
    async with aio.insecure_channel(server.address) as channel:
        for method in ("Translate", "ListModels"):
            path = f"/dragoman.v1.TranslationService/{method}"
            call: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path, bytes, bytes)
            with pytest.raises(aio.AioRpcError) as caught:
                await call(b"\xff\xff\xff")
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_full_queue_tells_when_to_come_back(server: EdgeServer) -> None:
    """RESOURCE_EXHAUSTED with RetryInfo and the pushback that gRPC clients obey; those accepted are answered."""
    server.runner.gate.clear()
    async with server.client() as client:
        running = asyncio.create_task(client.translate(["I love you."], source="en", target="de"))
        await until(lambda: server.engine.running == 1)
        waiting = asyncio.create_task(client.translate(["I love you.\n" * 16], source="en", target="de"))
        await until(lambda: server.engine.waiting == 16)
        async with aio.insecure_channel(server.address, [("grpc.enable_retries", 0)]) as channel:
            stub: pb_grpc.TranslationServiceAsyncStub = pb_grpc.TranslationServiceStub(channel)
            with pytest.raises(aio.AioRpcError) as caught:
                await stub.Translate(request("I love you."))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        trailers = dict(cast("Iterable[tuple[str, str]]", caught.value.trailing_metadata()))
        assert int(trailers["grpc-retry-pushback-ms"]) >= 1
        server.runner.gate.set()
        assert (await running).translations[0].text == "I love you."
        assert (await waiting).translations[0].text == "I love you.\n" * 16
    assert server.metric("dragoman_refusals_total", model="echo", reason="queue_full") >= 1


async def test_what_fails_inside_stays_inside(server: EdgeServer, client: AsyncTranslationClient) -> None:
    """A failed step is INTERNAL with a fixed text; the log has the place, nobody has the message."""
    server.runner.failing = True
    with capture_logs() as logs, pytest.raises(TranslationError) as caught:
        await client.translate(["I love you."], source="en", target="de")
    assert caught.value.code is grpc.StatusCode.INTERNAL
    assert "secret" not in f"{caught.value}{logs}"
    assert any(line["event"] == "call_failed" for line in logs)


async def test_no_text_of_a_user_is_logged(client: AsyncTranslationClient) -> None:
    """Neither of a call that succeeds nor of one that fails."""
    with capture_logs() as logs:
        await client.translate(["A most unusual sentence."], source="en", target="de")
        with pytest.raises(TranslationError):
            await client.translate(["A most unusual sentence."], source="en", target="sw")
    assert len([line for line in logs if line["event"] == "call"]) == 2
    assert "unusual" not in str(logs)


async def test_a_client_that_leaves_frees_its_slots_and_strands_nobody(
    server: EdgeServer, client: AsyncTranslationClient
) -> None:
    """Cancelling a call takes its sentences out; a batch-mate gets its answer."""
    server.runner.gate.clear()
    leaving = asyncio.create_task(client.translate(["I love you.\nHow are you?"], source="en", target="de"))
    staying = asyncio.create_task(client.translate(["We are fine."], source="en", target="de"))
    await until(lambda: server.engine.running + server.engine.waiting == 3)
    leaving.cancel()
    await until(lambda: server.metric("dragoman_cancellations_total", method="Translate") == 1)
    server.runner.gate.set()
    assert (await staying).translations[0].text == "We are fine."
    await server.until_idle()


async def test_the_clients_deadline_holds(server: EdgeServer, client: AsyncTranslationClient) -> None:
    """The client is told in time, and nothing of the call is left on the server."""
    server.runner.gate.clear()
    with pytest.raises(TranslationError) as caught:
        await client.translate(["I love you."], source="en", target="de", timeout_seconds=0.2)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    server.runner.gate.set()
    await server.until_idle()


async def test_the_server_caps_deadlines() -> None:
    """A client that would wait for ever is told after the server's own limit."""
    async with edge_server(max_deadline_seconds=0.2) as server, server.client() as client:
        server.runner.gate.clear()
        with pytest.raises(TranslationError) as caught:
            await client.translate(["I love you."], source="en", target="de", timeout_seconds=600)
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE")


@pytest.mark.parametrize("text", [LETTER, "", "😀 \n"])
@pytest.mark.parametrize("beam_size", [1, 2])
async def test_a_stream_equals_the_unary_answer(client: AsyncTranslationClient, text: str, beam_size: int) -> None:
    """Its deltas joined, and its end."""
    options = pb.TranslationOptions(beam_size=beam_size)
    responses = [response async for response in client.stream(text, source="en", target="de", options=options)]
    unary = await client.translate([text], source="en", target="de", options=options)
    assert "".join(response.text_delta for response in responses) == unary.translations[0].text
    assert [response.WhichOneof("event") for response in responses[:-1]] == ["text_delta"] * (len(responses) - 1)
    assert responses[-1].end.translation == unary.translations[0]


async def test_a_stream_that_is_left_frees_its_slots(server: EdgeServer, client: AsyncTranslationClient) -> None:
    """Closing the iteration cancels the call on the server."""
    stream = client.stream("I love you. " * 50, source="en", target="de")
    await anext(stream)
    await stream.aclose()
    await server.until_idle()


async def test_a_stream_refuses_several_hypotheses(client: AsyncTranslationClient) -> None:
    """There is one text only to be streamed."""
    options = pb.TranslationOptions(beam_size=2, num_hypotheses=2)
    with pytest.raises(TranslationError) as caught:
        await anext(client.stream("x", source="en", target="de", options=options))
    assert caught.value.field == "options.num_hypotheses"


async def test_compressed_requests_are_understood(server: EdgeServer) -> None:
    """gzip, for clients on slow lines."""
    async with aio.insecure_channel(server.address, compression=grpc.Compression.Gzip) as channel:
        stub: pb_grpc.TranslationServiceAsyncStub = pb_grpc.TranslationServiceStub(channel)
        assert (await stub.Translate(request(LETTER))).translations[0].text == LETTER


def test_the_blocking_client_does_the_same() -> None:
    """Translate, stream, bulk and errors, from a thread without an event loop."""

    def use(address: str) -> None:
        with TranslationClient(address) as client:
            assert client.translate([LETTER], source="en", target="de").translations[0].text == LETTER
            deltas = [response.text_delta for response in client.stream(LETTER, source="en", target="de")]
            assert "".join(deltas) == LETTER
            items = [pb.TranslateBulkRequest(id=str(n), request=request(f"I love you {n}.")) for n in range(10)]
            answers = {answer.id: answer.response for answer in client.translate_bulk(items)}
            assert {answers[str(n)].translations[0].text for n in range(10)} == {f"I love you {n}." for n in range(10)}
            assert [model.id for model in client.list_models()] == ["echo"]
            with pytest.raises(TranslationError) as caught:
                client.translate(["x"], source="en", target="sw")
            assert caught.value.code is grpc.StatusCode.NOT_FOUND

    async def run() -> None:
        async with edge_server() as server:
            await asyncio.to_thread(use, server.address)

    asyncio.run(run())
