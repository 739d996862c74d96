"""The load does not wait for the server, and a stall shows in the latency of every call it delayed."""

import asyncio
from itertools import repeat

import pytest

from loadtests.generator import OpenLoop
from loadtests.recorder import Call
from loadtests.request import GREEDY, Request
from loadtests.target import Outcome

REQUEST = Request(GREEDY, "x")
OK = Outcome(status="OK")


class HandClock:
    """A clock that moves when somebody sleeps on it, or when it is pushed."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Let others run, then move on to ``seconds`` from the call, unless somebody pushed the clock beyond that."""
        until = self.now + seconds
        await asyncio.sleep(0)
        self.now = max(self.now, until)


async def test_calls_are_sent_when_they_were_meant_to_be_though_none_has_ended() -> None:
    """A server that answers nothing until the end still gets every call on time."""
    clock, calls, gate = HandClock(), list[Call](), asyncio.Event()
    sent: list[float] = []

    async def send(request: Request) -> Outcome:
        sent.append(clock())
        if len(sent) == 3:
            gate.set()
        await gate.wait()
        return OK

    await OpenLoop(send=send, record=calls.append, clock=clock, sleep=clock.sleep).run([0.5, 1.0, 1.5], repeat(REQUEST))
    calls.sort(key=lambda call: call.intended)
    assert [call.intended for call in calls] == [0.5, 1.0, 1.5]
    assert [call.sent - call.intended for call in calls] == pytest.approx([0.0, 0.0, 0.0])
    assert [call.ended - call.intended for call in calls] == pytest.approx([1.0, 0.5, 0.0])


async def test_a_stall_counts_from_the_intended_time() -> None:
    """When everything stands still for 10 s, the calls that should have gone out meanwhile have waited too."""
    clock, calls = HandClock(), list[Call]()

    async def send(request: Request) -> Outcome:
        if not calls:
            clock.now += 10.0
        return OK

    await OpenLoop(send=send, record=calls.append, clock=clock, sleep=clock.sleep).run([1.0, 2.0, 3.0], repeat(REQUEST))
    assert [call.ended - call.intended for call in calls] == pytest.approx([10.0, 9.0, 8.0])
    assert [call.sent - call.intended for call in calls] == pytest.approx([0.0, 9.0, 8.0])


async def test_failures_are_recorded_like_answers() -> None:
    """A refused call is a call: it keeps its status."""
    calls: list[Call] = []
    clock = HandClock()

    async def send(request: Request) -> Outcome:
        return Outcome(status="RESOURCE_EXHAUSTED")

    await OpenLoop(send=send, record=calls.append, clock=clock, sleep=clock.sleep).run([0.1], repeat(REQUEST))
    assert [call.outcome.status for call in calls] == ["RESOURCE_EXHAUSTED"]
