"""Google's Translation v3 methods beside ours, on the same port of a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest
from grpc import aio

from dragoman.google_v3 import translation_service_pb2 as pb
from dragoman.google_v3 import translation_service_pb2_grpc as pb_grpc
from service.rpc.interceptor import GOOGLE_SERVICE
from tests.doubles.edge_server import EdgeServer, edge_server

PARENT = "projects/any/locations/global"


@pytest.fixture
async def server() -> AsyncIterator[EdgeServer]:
    """A server that serves."""
    async with edge_server() as running:
        yield running


@pytest.fixture
async def stub(server: EdgeServer) -> AsyncIterator[pb_grpc.TranslationServiceAsyncStub]:
    """Google's methods of it."""
    async with aio.insecure_channel(server.address) as channel:
        yield pb_grpc.TranslationServiceStub(channel)


def request(*contents: str, model: str = "", target: str = "de") -> pb.TranslateTextRequest:
    """A request from English."""
    return pb.TranslateTextRequest(
        contents=contents, parent=PARENT, source_language_code="en", target_language_code=target, model=model
    )


async def test_texts_are_translated_and_the_call_is_accounted_for(
    server: EdgeServer, stub: pb_grpc.TranslationServiceAsyncStub
) -> None:
    """Answers in order, the model's name, a request id, and the same metrics as our own calls have."""
    call = stub.TranslateText(request("I love you &#40;and me&#41;.", ""), metadata=(("x-request-id", "g1"),))
    response = await call
    assert [translation.translated_text for translation in response.translations] == ["I love you (and me).", ""]
    assert {translation.model for translation in response.translations} == {f"{PARENT}/models/echo"}
    assert dict(await call.initial_metadata())["x-request-id"] == "g1"
    await server.until_idle()
    assert server.metric("dragoman_requests_total", method="TranslateText", model="echo", code="OK") == 1


async def test_languages_are_listed(stub: pb_grpc.TranslationServiceAsyncStub) -> None:
    """Every language that a model reads or writes, and which of the two."""
    response = await stub.GetSupportedLanguages(pb.GetSupportedLanguagesRequest(parent=PARENT))
    found = {each.language_code: (each.support_source, each.support_target) for each in response.languages}
    assert found == {"de": (False, True), "en": (True, False), "fr": (False, True), "zh": (False, True)}


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (request("<p>x</p>"), grpc.StatusCode.INVALID_ARGUMENT),
        (request(), grpc.StatusCode.INVALID_ARGUMENT),
        (request("x", target="sw"), grpc.StatusCode.NOT_FOUND),
        (request("x", model=f"{PARENT}/models/nobody"), grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_bad_requests_get_their_status(
    stub: pb_grpc.TranslationServiceAsyncStub, asked: pb.TranslateTextRequest, code: grpc.StatusCode
) -> None:
    """The table of statuses is the same."""
    with pytest.raises(aio.AioRpcError) as caught:
        await stub.TranslateText(asked)
    assert caught.value.code() is code


async def test_languages_of_nobody_and_their_names_are_refused(stub: pb_grpc.TranslationServiceAsyncStub) -> None:
    """An unknown model is not found; display names are refused by name."""
    for asked, code in (
        (pb.GetSupportedLanguagesRequest(parent=PARENT, model=f"{PARENT}/models/nobody"), grpc.StatusCode.NOT_FOUND),
        (pb.GetSupportedLanguagesRequest(parent=PARENT, display_language_code="en"), grpc.StatusCode.INVALID_ARGUMENT),
        (pb.GetSupportedLanguagesRequest(), grpc.StatusCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.GetSupportedLanguages(asked)
        assert caught.value.code() is code


async def test_other_methods_of_google_are_unimplemented(server: EdgeServer) -> None:
    """A client learns that the method is missing, not that the server is broken."""
    async with aio.insecure_channel(server.address) as channel:
        path = f"/{GOOGLE_SERVICE}/DetectLanguage"
        call: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path, bytes, bytes)
        with pytest.raises(aio.AioRpcError) as caught:
            await call(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
