"""What a server can do, found by a closed loop."""

import asyncio
from itertools import repeat

import pytest

from loadtests.capacity import closed_loop, find_capacity, throughput
from loadtests.request import GREEDY, Request
from loadtests.target import Outcome
from service.errors import UnavailableError

REQUESTS = repeat(Request(GREEDY, "x"))


def test_throughput_counts_all_answers_until_the_last() -> None:
    """Sixty-four answers in two bursts, the last after two seconds, are 32 a second, however close the bursts are."""
    calls = [(0.0, 1.9)] * 32 + [(0.0, 2.0)] * 32
    assert throughput(calls) == pytest.approx(32.0)
    assert throughput([]) == 0.0


async def test_a_closed_loop_keeps_as_many_in_flight_as_it_was_told() -> None:
    """Never more, and no fewer while it runs; failures are no answers."""
    flying, most = 0, 0

    async def send(request: Request) -> Outcome:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(0)
        flying -= 1
        return Outcome(status="OK")

    answered = await closed_loop(send, REQUESTS, in_flight=5, seconds=0.02)
    assert most == 5
    assert len(answered) >= 5


async def test_as_many_calls_are_made_alone_as_were_asked_for() -> None:
    """However slow they are: a median of three calls is no limit. A server that answers none is not asked for ever."""
    made: list[str] = []

    async def send(request: Request) -> Outcome:
        made.append(request.text)
        await asyncio.sleep(0.002)
        return Outcome(status="OK" if len(made) > 10 else "UNAVAILABLE")

    assert len(await closed_loop(send, REQUESTS, in_flight=1, seconds=0.001, least_calls=20)) == 10
    assert len(made) == 20


async def test_a_server_that_refuses_everything_has_no_capacity() -> None:
    """One clear error instead of a division by nothing."""

    async def refuse(request: Request) -> Outcome:
        await asyncio.sleep(0)
        return Outcome(status="UNAVAILABLE")

    with pytest.raises(UnavailableError):
        await find_capacity(refuse, REQUESTS, in_flight=2, seconds=0.02)
