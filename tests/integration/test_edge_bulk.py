"""TranslateBulk over a real gRPC server: matching by id, a status per item, flow control."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from dragoman.v1 import translation_pb2 as pb
from service.client import AsyncTranslationClient, TranslationError, translate_request
from tests.doubles.edge_server import EdgeServer, edge_server, until


@pytest.fixture
async def server() -> AsyncIterator[EdgeServer]:
    """A server that takes four items of a stream at a time."""
    async with edge_server(bulk_items_in_flight=4) as running:
        yield running


@pytest.fixture
async def client(server: EdgeServer) -> AsyncIterator[AsyncTranslationClient]:
    """A client of it."""
    async with server.client() as connected:
        yield connected


def item(name: str, *contents: str, target: str = "de") -> pb.TranslateBulkRequest:
    """One item."""
    return pb.TranslateBulkRequest(id=name, request=translate_request(contents, source="en", target=target))


async def test_each_item_gets_its_own_answer_or_error(client: AsyncTranslationClient) -> None:
    """Bad items carry their status, and the others are translated."""
    items = [item(str(number), f"I love you {number}.") for number in range(30)]
    items += [item("pair", "x", target="sw"), item("none"), item("", "I love you."), item("blank", " ")]
    answers = {answer.id: answer async for answer in client.translate_bulk(items)}
    assert len(answers) == len(items)
    for number in range(30):
        assert answers[str(number)].response.translations[0].text == f"I love you {number}."
    assert answers["pair"].error.code == grpc.StatusCode.NOT_FOUND.value[0]
    assert answers["none"].error.code == answers[""].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert len(answers["none"].error.details) == 3
    assert answers["blank"].response.translations[0].text == " "


async def test_items_beyond_the_window_are_not_read(server: EdgeServer, client: AsyncTranslationClient) -> None:
    """While four items are in work, no more are put into the engine, however many the client has."""
    server.runner.gate.clear()
    items = [item(str(number), "I love you.") for number in range(200)]
    answers = client.translate_bulk(items)
    first = asyncio.ensure_future(anext(answers))
    await until(lambda: server.engine.running + server.engine.waiting == 4)
    assert server.metric("dragoman_queue_sequences", model="echo") <= 4
    server.runner.gate.set()
    names = {(await first).id} | {answer.id async for answer in answers}
    assert names == {str(number) for number in range(200)}


async def test_a_full_queue_slows_bulk_down_and_fails_nothing() -> None:
    """Bulk waits for room where an interactive call would be refused."""
    async with edge_server(bulk_items_in_flight=8, max_waiting=2) as server, server.client() as client:
        items = [item(str(number), "I love you.\nHow are you?") for number in range(40)]
        answers = [answer async for answer in client.translate_bulk(items)]
        assert all(answer.HasField("response") for answer in answers)
        assert len(answers) == 40


async def test_a_bulk_client_that_leaves_frees_everything(server: EdgeServer, client: AsyncTranslationClient) -> None:
    """Items in work are taken out of the engine."""
    answers = client.translate_bulk([item(str(number), "I love you.") for number in range(100)])
    await anext(answers)
    await answers.aclose()
    await server.until_idle()
    assert server.metric("dragoman_requests_in_flight", method="TranslateBulk") == 0


async def test_closing_ends_a_bulk_stream_after_the_accepted_items(server: EdgeServer) -> None:
    """What was accepted is answered; the stream then ends with UNAVAILABLE, so that the rest goes elsewhere."""

    async def slowly() -> AsyncIterator[pb.TranslateBulkRequest]:
        for number in range(3):
            yield item(str(number), "I love you.")
        await asyncio.sleep(60)

    async with server.client() as client:
        answers = client.translate_bulk(slowly())
        server.runner.gate.clear()
        first = asyncio.ensure_future(anext(answers))
        await until(lambda: server.engine.running + server.engine.waiting == 3)
        server.servicer.close()
        server.runner.gate.set()
        names = {(await first).id, (await anext(answers)).id, (await anext(answers)).id}
        assert names == {"0", "1", "2"}
        with pytest.raises(TranslationError) as caught:
            await anext(answers)
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    await server.until_idle()
