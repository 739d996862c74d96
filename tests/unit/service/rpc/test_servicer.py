"""A stream ends with its deadline, whether its client reads or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

import pytest
from grpc import aio
from prometheus_client import CollectorRegistry

from dragoman.v1 import translation_pb2 as pb
from service.metrics import Metrics
from service.rpc import servicer
from service.rpc.call import Call, enter_call
from service.rpc.servicer import TranslationServicer
from service.translator import ModelCatalogue, Translator, TranslatorLimits
from tests.doubles.echo_model import echo_model, tiny_tokenizer

REQUEST = pb.TranslateStreamRequest(
    content="I love you. How are you?", source_language_code="en", target_language_code="de"
)
CONTEXT = cast("aio.ServicerContext[Any, Any]", None)
SECONDS = 0.05


@pytest.fixture(name="serving")
async def fixture_serving(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TranslationServicer]:
    """It lets a stream take a tenth of a second in all."""
    monkeypatch.setattr(servicer, "_LAST_WORDS_SECONDS", SECONDS)
    model = echo_model(tiny_tokenizer())
    model.engine.start()
    made = TranslationServicer(
        Metrics(CollectorRegistry()), max_deadline_seconds=SECONDS, bulk_items_in_flight=1, max_message_bytes=2**20
    )
    made.open(Translator(ModelCatalogue([model]), TranslatorLimits()))
    yield made
    model.engine.shutdown(grace_seconds=1.0)


async def call(serving: TranslationServicer, *, reads: asyncio.Event) -> list[pb.TranslateStreamResponse]:
    """What gRPC does with a stream: the next message is asked for when this one could be written."""
    enter_call(Call(method="TranslateStream", request_id="r"))
    written: list[pb.TranslateStreamResponse] = []
    async with aclosing(cast("Any", serving.TranslateStream(REQUEST, CONTEXT))) as responses:
        async for response in responses:
            await reads.wait()
            written.append(response)
    return written


async def test_a_client_that_does_not_read_is_cut_off(serving: TranslationServicer) -> None:
    """Its deadline passes while a message waits to be written, where the translator's cannot reach."""
    stuck = asyncio.create_task(call(serving, reads=asyncio.Event()))
    await asyncio.wait([stuck], timeout=20)
    assert stuck.cancelled()


async def test_a_stream_that_was_read_to_its_end_is_let_be(serving: TranslationServicer) -> None:
    """What the task does after it is not cut off."""
    reads = asyncio.Event()
    reads.set()

    async def goes_on() -> list[pb.TranslateStreamResponse]:
        written = await call(serving, reads=reads)
        await asyncio.sleep(4 * SECONDS)
        return written

    assert (await goes_on())[-1].HasField("end")
