"""Sends calls at their intended times, whatever the server does with the earlier ones (open loop)."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass

from loadtests.recorder import Call
from loadtests.request import Request
from loadtests.target import Outcome

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoop:
    """An open-loop run: ``send`` makes one call and returns what came of it, ``record`` takes it with its times.

    ``send`` must not raise: a failure is a status.
    """

    send: Callable[[Request], Awaitable[Outcome]]
    record: Callable[[Call], None]
    clock: Clock
    sleep: Sleep = asyncio.sleep

    async def run(self, arrivals: Iterable[float], requests: Iterator[Request]) -> None:
        """Send a request at each of ``arrivals`` (seconds from now, ascending); returns when the last has ended."""
        start = self.clock()
        async with asyncio.TaskGroup() as calls:
            for intended in arrivals:
                wait = intended - (self.clock() - start)
                # Never skipped, even when late: the event loop must get to run the calls in flight.
                await self.sleep(max(wait, 0.0))
                calls.create_task(self._call(start, intended, next(requests)))

    async def _call(self, start: float, intended: float, request: Request) -> None:
        sent = self.clock() - start
        outcome = await self.send(request)
        ended = self.clock() - start
        self.record(
            Call(
                intended=intended,
                sent=sent,
                ended=ended,
                kind=request.kind.name,
                characters=len(request.text),
                outcome=outcome,
            )
        )
