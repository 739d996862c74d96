"""Whatever a client sends, the server answers with a status that is the client's own fault, or translates it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import cast

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dragoman.v1 import translation_pb2 as pb
from service.client import translate_request
from tests.doubles.edge_server import EdgeServer, edge_server

ALLOWED = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
Raw = Callable[[str, bytes], grpc.StatusCode]

FAST = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NUMBERS = st.none() | st.integers(-2, 12) | st.integers(-(2**31), 2**31 - 1)
FLOATS = st.none() | st.floats() | st.floats(0, 2)
CODES = st.sampled_from(["en", "de", "fr", "zh", "", "EN-us", "x" * 50, "de\n"]) | st.text(max_size=8)
TEXTS = st.text(max_size=120) | st.text(alphabet="I loveyu.\n", max_size=300)
OPTIONS = st.builds(
    pb.TranslationOptions,
    beam_size=NUMBERS,
    num_hypotheses=NUMBERS,
    length_penalty=FLOATS,
    length_penalty_kind=st.integers(0, 3),
    stopping_rule=st.integers(0, 3),
    max_output_tokens=NUMBERS,
    no_repeat_ngram_size=NUMBERS,
    temperature=FLOATS,
    top_k=NUMBERS,
    top_p=FLOATS,
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    target_prefix=TEXTS,
    return_alignments=st.booleans(),
    return_token_scores=st.booleans(),
)
REQUESTS = st.builds(
    pb.TranslateRequest,
    contents=st.lists(TEXTS, max_size=3),
    source_language_code=st.just("en") | CODES,
    target_language_code=st.just("de") | CODES,
    model=st.just("") | st.sampled_from(["echo", "nobody"]) | st.text(max_size=5),
    options=OPTIONS | st.just(pb.TranslationOptions()),
)


async def _leave(running: AbstractAsyncContextManager[EdgeServer]) -> None:
    await running.__aexit__(None, None, None)


@pytest.fixture(scope="module")
def server() -> Iterator[EdgeServer]:
    """A server on an event loop of its own thread, so that blocking tests can call it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    running = edge_server(max_waiting=2000)
    yield asyncio.run_coroutine_threadsafe(running.__aenter__(), loop).result(60)
    asyncio.run_coroutine_threadsafe(_leave(running), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="module")
def send(server: EdgeServer) -> Iterator[Raw]:
    """Sends bytes to a unary method; the code of the answer."""
    with grpc.insecure_channel(server.address, [("grpc.enable_retries", 0)]) as channel:

        def call(method: str, data: bytes) -> grpc.StatusCode:
            path = f"/dragoman.v1.TranslationService/{method}"
            unary: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path, bytes, bytes)
            try:
                unary(data, timeout=60)
            except grpc.RpcError as error:
                return cast("grpc.Call", error).code()
            return grpc.StatusCode.OK

        yield call


@FAST
@given(asked=REQUESTS)
def test_no_message_makes_the_server_fail(send: Raw, asked: pb.TranslateRequest) -> None:
    """Any well-formed message: translated, or refused as the client's fault."""
    assert send("Translate", asked.SerializeToString()) in ALLOWED


@FAST
@given(data=st.binary(max_size=200))
def test_no_bytes_make_the_server_fail(send: Raw, data: bytes) -> None:
    """Raw bytes in place of a message."""
    assert send("Translate", data) in ALLOWED
    assert send("ListModels", data) in ALLOWED


def test_the_server_is_idle_and_well_after_all_that(send: Raw, server: EdgeServer) -> None:
    """Nothing was left behind, and it still translates."""
    asked = translate_request(["I love you."], source="en", target="de")
    assert send("Translate", asked.SerializeToString()) is grpc.StatusCode.OK
    assert server.engine.waiting == server.engine.running == 0
    assert server.metric("dragoman_requests_in_flight", method="Translate") == 0
