"""What a server can do at all: its latency with one call in flight, and its throughput with always as many waiting."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loadtests.measurement import Send
from loadtests.request import Request
from service.errors import UnavailableError

SLOW = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Of calls one after the other the latency's median and 90% quantile, and the closed loop's throughput."""

    alone_seconds: float
    alone_slow_seconds: float
    per_second: float


async def find_capacity(
    send: Send, requests: Iterator[Request], *, in_flight: int, seconds: float, alone_calls: int = 1
) -> Capacity:
    """Measure both, the first for a third of `seconds` and at least `alone_calls` calls.

    Raises UnavailableError when nothing is answered.
    """
    alone = await closed_loop(send, requests, in_flight=1, seconds=seconds / 3, least_calls=alone_calls)
    together = await closed_loop(send, requests, in_flight=in_flight, seconds=seconds)
    if not alone:
        raise UnavailableError("the server answers no calls")
    latencies = sorted(ended - began for began, ended in alone)
    return Capacity(
        alone_seconds=statistics.median(latencies),
        alone_slow_seconds=latencies[int(SLOW * len(latencies))],
        per_second=throughput(together),
    )


def throughput(calls: Sequence[tuple[float, float]]) -> float:
    """Calls per second of a closed loop from its start to its last answer; 0 without answers.

    Answers come in bursts where calls are batched, so that no stretch within the run would be long enough.
    """
    return len(calls) / max(ended for _, ended in calls) if calls else 0.0


async def closed_loop(
    send: Send, requests: Iterator[Request], *, in_flight: int, seconds: float, least_calls: int = 1
) -> list[tuple[float, float]]:
    """(begin, end) of the answered calls, in seconds since the start; a caller's next call begins when one ends, for
    `seconds` and until `least_calls` have been made."""
    start = time.monotonic()
    calls = 0
    answered: list[tuple[float, float]] = []

    async def call_on_and_on() -> None:
        nonlocal calls
        while (began := time.monotonic() - start) < seconds or calls < least_calls:
            calls += 1
            outcome = await send(next(requests))
            if outcome.status == "OK":
                answered.append((began, time.monotonic() - start))

    await asyncio.gather(*(call_on_and_on() for _ in range(in_flight)))
    return answered
