"""Whatever a client sends, the server answers with a status that is the client's own fault, or translates it."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field

import grpc
import pytest
from google.protobuf.message import Message
from grpc import aio
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from dragoman.google_v3 import translation_service_pb2 as google_pb
from dragoman.v1 import translation_pb2 as pb
from service.client import translate_request
from service.rpc.interceptor import GOOGLE_SERVICE, SERVICE
from tests.doubles.arbitrary_messages import messages, mutated
from tests.doubles.edge_server import EdgeServer, edge_server
from tests.doubles.raw_connections import send_garbage

ALLOWED = {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}
LONGEST_DETAILS = 500
TOGETHER_SECONDS = 120
"""A batch of calls that takes longer hangs."""

KINDS: dict[str, type[Message]] = {
    f"/{SERVICE}/Translate": pb.TranslateRequest,
    f"/{SERVICE}/TranslateStream": pb.TranslateStreamRequest,
    f"/{SERVICE}/TranslateBulk": pb.TranslateBulkRequest,
    f"/{SERVICE}/ListModels": pb.ListModelsRequest,
    f"/{GOOGLE_SERVICE}/TranslateText": google_pb.TranslateTextRequest,
    f"/{GOOGLE_SERVICE}/GetSupportedLanguages": google_pb.GetSupportedLanguagesRequest,
}
Sent = tuple[str, bytes]
SENT = st.sampled_from(list(KINDS)).flatmap(
    lambda path: st.tuples(st.just(path), messages(KINDS[path]).map(lambda message: message.SerializeToString()))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Victim:
    """A server on an event loop of its own thread, a channel to it, and the statuses of all calls so far."""

    server: EdgeServer
    channel: aio.Channel
    loop: asyncio.AbstractEventLoop
    statuses: Counter[str] = field(default_factory=Counter)

    def run(self, work: Coroutine[object, object, None]) -> None:
        """Runs `work` on the server's loop; fails the test when it takes too long."""
        asyncio.run_coroutine_threadsafe(work, self.loop).result(TOGETHER_SECONDS)

    def send_all(self, batch: Sequence[Sent]) -> None:
        """Sends all of them at once; every status must be an allowed one, with a short text."""
        self.run(self._send_all(batch))

    async def _send_all(self, batch: Sequence[Sent]) -> None:
        for status, details in await asyncio.gather(*(self._send(path, data) for path, data in batch)):
            self.statuses[status] += 1
            assert status in ALLOWED, details
            assert len(details) <= LONGEST_DETAILS

    async def _send(self, path: str, data: bytes) -> tuple[str, str]:
        """One message; the name of the call's status, or of the worst of a bulk stream's items, and its text."""
        call: aio.StreamStreamCall[bytes, bytes] = self.channel.stream_stream(path, bytes, bytes)(iter([data]))
        try:
            answers = [answer async for answer in call]
        except aio.AioRpcError as error:
            return error.code().name, error.details() or ""
        if path.endswith("Bulk"):
            for item in map(pb.TranslateBulkResponse.FromString, answers):
                if item.HasField("error"):
                    return _name_of(item.error.code), item.error.message
        return "OK", ""

    async def until_idle(self) -> None:
        """Fails unless nothing is left behind and a good call is still answered."""
        await self.server.until_idle()
        asked = translate_request(["I love you."], source="en", target="de")
        assert await self._send(f"/{SERVICE}/Translate", asked.SerializeToString()) == ("OK", "")


def _name_of(number: int) -> str:
    return next(code.name for code in grpc.StatusCode if code.value[0] == number)


@pytest.fixture(scope="module")
def victim() -> Iterator[Victim]:
    """One for all tests, which must be idle and well after them."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> Victim:
        server = await running.__aenter__()
        channel = aio.insecure_channel(server.address, [("grpc.enable_retries", 0)])
        return Victim(server=server, channel=channel, loop=loop)

    async def stop() -> None:
        await found.until_idle()
        assert found.server.metric("dragoman_requests_in_flight", method="Translate") == 0
        await found.channel.close(None)
        await running.__aexit__(None, None, None)

    running = edge_server(max_waiting=20_000)
    found = asyncio.run_coroutine_threadsafe(start(), loop).result(60)
    yield found
    asyncio.run_coroutine_threadsafe(stop(), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def with_mutations(batch: Sequence[Sent], *, each: int, numbers: random.Random) -> list[Sent]:
    """The messages, and `each` damaged copies of every one."""
    copies = [(path, mutated(data, numbers)) for path, data in batch for _ in range(each)]
    return [*batch, *copies]


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(batch=st.lists(SENT, min_size=1, max_size=12), numbers=st.randoms(use_true_random=False))
def test_no_message_makes_the_server_fail(victim: Victim, batch: list[Sent], numbers: random.Random) -> None:
    """Messages of every method, whole and damaged: translated, or refused as the client's fault."""
    victim.send_all(with_mutations(batch, each=1, numbers=numbers))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=200))
def test_no_bytes_make_the_server_fail(victim: Victim, data: bytes) -> None:
    """Arbitrary bytes in place of a message."""
    victim.send_all([(path, data) for path in KINDS])


def test_no_bytes_on_the_socket_make_the_server_fail(victim: Victim) -> None:
    """Something like HTTP/2, and nothing like it; afterwards good calls are answered."""
    numbers = random.Random(5)

    async def connect() -> None:
        await asyncio.gather(*(send_garbage(victim.server.address, numbers) for _ in range(60)))
        await victim.until_idle()

    victim.run(connect())


LONG = settings(
    max_examples=300,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_the_long_run(victim: Victim, results: dict[str, object]) -> None:
    """100,000 messages, a quarter of them whole and the others damaged, and thousands of connections of raw bytes."""
    wanted, whole, connections, numbers = 100_000, 0, 0, random.Random(6)
    before = victim.statuses.copy()

    @settings(LONG)
    @given(batch=st.lists(SENT, min_size=8, max_size=24))
    def send(batch: list[Sent]) -> None:
        nonlocal whole
        whole += len(batch)
        victim.send_all(with_mutations(batch, each=3, numbers=numbers))

    async def connect() -> None:
        await asyncio.gather(*(send_garbage(victim.server.address, numbers) for _ in range(50)))
        await victim.until_idle()

    while (victim.statuses - before).total() < wanted:
        seed(whole)(send)()
        for _ in range(20):
            victim.run(connect())
            connections += 50
    statuses = victim.statuses - before
    results["fuzz"] = {
        "messages": statuses.total(),
        "messages_undamaged": whole,
        "raw_connections": connections,
        "statuses": dict(sorted(statuses.items())),
    }
    assert connections >= 1000
    assert statuses["OK"] > wanted // 20
