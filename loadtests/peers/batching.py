"""Dynamic batching by size and time: what arrives while all workers are busy, or within a short wait, goes together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

Ids = list[int]


@dataclass(frozen=True, slots=True)
class Search:
    """How a batch is decoded; only calls that ask for the same go together."""

    beam_size: int
    length_penalty: float
    stops_at_best: bool


Translate = Callable[[Sequence[Ids], Search], list[Ids]]
"""Translates a batch on the calling thread: the best hypothesis of each source."""


class QueueFullError(Exception):
    """Too many calls wait; the caller should come again later."""


@dataclass(slots=True)
class Waiting:
    """A sentence that waits for a batch; nobody waits for it any more once its future is cancelled."""

    source: Ids
    search: Search
    arrived: float
    started: float = 0.0
    answer: asyncio.Future[Ids] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class DynamicBatcher:
    """Hands batches to `workers` threads. A batch leaves when a worker is free and either `max_batch_size` sentences
    wait or the oldest has waited for `max_wait_seconds`."""

    def __init__(
        self, translate: Translate, *, workers: int, max_batch_size: int, max_wait_seconds: float, max_waiting: int
    ) -> None:
        self._translate = translate
        self._threads = ThreadPoolExecutor(max_workers=workers)
        self._free = asyncio.Semaphore(workers)
        self._max_batch_size = max_batch_size
        self._max_wait_seconds = max_wait_seconds
        self._queue: asyncio.Queue[Waiting] = asyncio.Queue(max_waiting)
        self._running: set[asyncio.Task[None]] = set()

    async def submit(self, source: Ids, search: Search) -> Waiting:
        """Wait for the translation of one sentence. Raises QueueFullError at once when too many wait."""
        waiting = Waiting(source, search, asyncio.get_running_loop().time())
        try:
            self._queue.put_nowait(waiting)
        except asyncio.QueueFull:
            raise QueueFullError from None
        await waiting.answer
        return waiting

    async def run(self) -> None:
        """Form batches for ever."""
        while True:
            await self._free.acquire()
            batch = await self._gather()
            task = asyncio.create_task(self._run_batch(batch))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _gather(self) -> list[Waiting]:
        """The next batch; calls that were given up meanwhile are dropped."""
        loop = asyncio.get_running_loop()
        batch = [await self._next()]
        leaves = batch[0].arrived + self._max_wait_seconds
        while len(batch) < self._max_batch_size:
            try:
                async with asyncio.timeout_at(max(leaves, loop.time()) if self._queue.empty() else None):
                    batch.append(await self._next())
            except TimeoutError:
                break
        return batch

    async def _next(self) -> Waiting:
        while (waiting := await self._queue.get()).answer.done():
            pass
        return waiting

    async def _run_batch(self, batch: Sequence[Waiting]) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            for search in dict.fromkeys(waiting.search for waiting in batch):
                alike = [waiting for waiting in batch if waiting.search == search]
                sources = [waiting.source for waiting in alike]
                answers = await loop.run_in_executor(self._threads, self._translate, sources, search)
                for waiting, answer in zip(alike, answers, strict=True):
                    waiting.started = started
                    if not waiting.answer.done():
                        waiting.answer.set_result(answer)
        except Exception as error:
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
        finally:
            self._free.release()
