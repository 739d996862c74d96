"""Sends calls at their intended times, whatever the server does with the earlier ones (open loop)."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass

from loadtests.recorder import Call

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoop:
    """An open-loop run: ``send`` makes one call and returns its gRPC status name, ``record`` takes what came of it.

    ``send`` must not raise: a failure is a status.
    """

    send: Callable[[str], Awaitable[str]]
    record: Callable[[Call], None]
    clock: Clock
    sleep: Sleep = asyncio.sleep

    async def run(self, arrivals: Iterable[float], texts: Iterator[str]) -> None:
        """Send one text at each of ``arrivals`` (seconds from now, ascending); returns when the last call has ended."""
        start = self.clock()
        async with asyncio.TaskGroup() as calls:
            for intended in arrivals:
                wait = intended - (self.clock() - start)
                # Never skipped, even when late: the event loop must get to run the calls in flight.
                await self.sleep(max(wait, 0.0))
                calls.create_task(self._call(start, intended, next(texts)))

    async def _call(self, start: float, intended: float, text: str) -> None:
        sent = self.clock() - start
        status = await self.send(text)
        self.record(Call(intended=intended, sent=sent, ended=self.clock() - start, status=status))
