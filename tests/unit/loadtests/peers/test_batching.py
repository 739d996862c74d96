"""The peers' dynamic batching: what a careful engineer would build, so that the comparison is fair."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from loadtests.peers.batching import DynamicBatcher, Ids, QueueFullError, Search

GREEDY = Search(1, 1.0, False)
BEAM = Search(4, 0.0, True)
LONG = 1000.0


class Library:
    """Answers each source with itself; while its gate is shut, batches do not end."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[tuple[list[Ids], Search]] = []

    def translate(self, sources: Sequence[Ids], search: Search) -> list[Ids]:
        """Note the batch."""
        self.batches.append((list(sources), search))
        if not self.gate.wait(20):
            raise RuntimeError("nobody opened the gate")
        if [13] in sources:
            raise ValueError("secret")
        return list(sources)


@asynccontextmanager
async def batcher(
    library: Library, *, size: int = 4, wait_seconds: float = 0.0, workers: int = 1, max_waiting: int = 100
) -> AsyncIterator[DynamicBatcher]:
    """A running batcher."""
    found = DynamicBatcher(
        library.translate,
        workers=workers,
        max_batch_size=size,
        max_wait_seconds=wait_seconds,
        max_waiting=max_waiting,
    )
    running = asyncio.create_task(found.run())
    try:
        yield found
    finally:
        library.gate.set()
        running.cancel()


async def until_batches(library: Library, count: int) -> None:
    """Returns when `count` batches have been handed over."""
    async with asyncio.timeout(20):
        while len(library.batches) < count:
            await asyncio.sleep(0.001)


async def test_what_comes_while_the_worker_is_busy_goes_together_up_to_the_size() -> None:
    """One alone, then batches of four and one; every caller gets its own answer."""
    library = Library()
    library.gate.clear()
    async with batcher(library) as running:
        first = asyncio.create_task(running.submit([0], GREEDY))
        await until_batches(library, 1)
        rest = [asyncio.create_task(running.submit([number], GREEDY)) for number in range(1, 6)]
        await asyncio.sleep(0)
        library.gate.set()
        answers = await asyncio.gather(first, *rest)
    assert [done.answer.result() for done in answers] == [[number] for number in range(6)]
    assert [sources for sources, _ in library.batches] == [[[0]], [[1], [2], [3], [4]], [[5]]]


async def test_a_full_batch_does_not_wait_out_its_time() -> None:
    """With a wait of a quarter of an hour, four sentences go as soon as they are four."""
    library = Library()
    async with batcher(library, wait_seconds=LONG) as running, asyncio.timeout(20):
        await asyncio.gather(*(running.submit([number], GREEDY) for number in range(4)))
    assert len(library.batches) == 1


async def test_a_lone_sentence_goes_when_its_time_is_up() -> None:
    """No company comes: it is translated alone."""
    library = Library()
    async with batcher(library, wait_seconds=0.01) as running, asyncio.timeout(20):
        await running.submit([1], GREEDY)
    assert library.batches == [([[1]], GREEDY)]


async def test_different_searches_are_not_mixed() -> None:
    """A library decodes a batch in one way."""
    library = Library()
    async with batcher(library, wait_seconds=LONG) as running, asyncio.timeout(20):
        searches = [GREEDY, BEAM, GREEDY, BEAM]
        await asyncio.gather(*(running.submit([number], search) for number, search in enumerate(searches)))
    assert library.batches == [([[0], [2]], GREEDY), ([[1], [3]], BEAM)]


async def test_a_caller_who_has_gone_takes_no_place_in_a_batch() -> None:
    """A call whose deadline passed while it waited is not computed."""
    library = Library()
    library.gate.clear()
    async with batcher(library) as running:
        first = asyncio.create_task(running.submit([0], GREEDY))
        await until_batches(library, 1)
        gone = asyncio.create_task(running.submit([1], GREEDY))
        stays = asyncio.create_task(running.submit([2], GREEDY))
        await asyncio.sleep(0)
        gone.cancel()
        library.gate.set()
        await asyncio.gather(first, stays)
    assert [sources for sources, _ in library.batches] == [[[0]], [[2]]]


async def test_a_full_queue_refuses_and_a_failed_batch_fails_its_callers_only() -> None:
    """Nobody waits for ever."""
    library = Library()
    library.gate.clear()
    async with batcher(library, size=1, max_waiting=1) as running:
        first = asyncio.create_task(running.submit([13], GREEDY))
        await until_batches(library, 1)
        second = asyncio.create_task(running.submit([2], GREEDY))
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError):
            await running.submit([3], GREEDY)
        library.gate.set()
        with pytest.raises(ValueError, match="secret"):
            await first
        assert (await second).answer.result() == [2]
