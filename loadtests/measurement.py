"""One open-loop run of phases that follow each other without a pause, and what each of them measured."""

from __future__ import annotations

import asyncio
import gc
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from loadtests.arrivals import Phase
from loadtests.bench.processor import others_cpu_seconds, others_cpu_share
from loadtests.generator import OpenLoop
from loadtests.recorder import Call, Recorder, Summary
from loadtests.request import Request
from loadtests.target import Outcome

LARGEST_LAG_MILLISECONDS = 10.0
LARGEST_LAG_SHARE = 0.1
LARGEST_CPU_SHARE = 0.9
LARGEST_OTHERS_SHARE = 0.1

Send = Callable[[Request], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseResult:
    """What a phase measured.

    `generator_cpu_share` is the generator's part of one core and `others_cpu_share` the part of all cores that went to
    neither generator nor servers, None where that is not known; `invalid` says why nothing can be concluded from the
    phase, None where it can.
    """

    name: str
    offered_per_second: float
    seconds: float
    summary: Summary
    generator_cpu_share: float
    others_cpu_share: float | None
    invalid: str | None

    @property
    def sent_per_second(self) -> float:
        """What a Poisson process of the offered rate really came to."""
        return self.summary.calls / self.seconds


async def measure(
    send: Send,
    phases: Sequence[Phase],
    arrivals: Sequence[float],
    requests: Iterator[Request],
    *,
    limit_seconds: float,
    servers_are_ours: bool = True,
) -> list[PhaseResult]:
    """Send at `arrivals` and give the results of those of `phases`, in which they fall, that are measured.

    An answer within `limit_seconds` is a good one. Where this process started the servers, it is known what of the
    machine went to others.
    """
    recorders = [Recorder(limit_seconds=limit_seconds) for _ in phases]
    ends = list(accumulate(phase.seconds for phase in phases))

    def record(call: Call) -> None:
        recorders[min(bisect_right(ends, call.intended), len(phases) - 1)].add(call)

    gc.collect()
    gc.freeze()  # what is here already need not be looked through while calls wait to be sent
    meter = asyncio.create_task(_cpu_shares(phases, servers_are_ours=servers_are_ours))
    loop = OpenLoop(send=send, record=record, clock=time.monotonic)
    await loop.run(arrivals, requests)
    shares = await meter
    gc.unfreeze()
    return [
        _result(phase, recorder.summary(seconds=phase.seconds), each)
        for phase, recorder, each in zip(phases, recorders, shares, strict=True)
        if phase.measured
    ]


def _result(phase: Phase, summary: Summary, shares: _CpuShares) -> PhaseResult:
    return PhaseResult(
        name=phase.name,
        offered_per_second=phase.rate,
        seconds=phase.seconds,
        summary=summary,
        generator_cpu_share=shares.own,
        others_cpu_share=shares.others,
        invalid=why_invalid(summary, cpu_share=shares.own, others_share=shares.others),
    )


def why_invalid(summary: Summary, *, cpu_share: float, others_share: float | None = None) -> str | None:
    """What disqualifies a phase: a generator that was late by more than its measurements bear, or out of processor; or
    a machine on which others were at work."""
    lag = (summary.generator_lag_milliseconds or {}).get("p99", 0.0)
    latency = (summary.latency_milliseconds or {}).get("p99", 0.0)
    bearable = max(LARGEST_LAG_MILLISECONDS, LARGEST_LAG_SHARE * latency)
    if lag > bearable:
        return f"the generator lagged: p99 {lag:.0f} ms, where {bearable:.0f} can be borne"
    if cpu_share > LARGEST_CPU_SHARE:
        return f"the generator used {cpu_share:.0%} of its core"
    if others_share is not None and others_share > LARGEST_OTHERS_SHARE:
        return f"others used {others_share:.0%} of the processor"
    return None


@dataclass(frozen=True, slots=True)
class _CpuShares:
    """This process's part of one core, and the part of all cores that others took."""

    own: float
    others: float | None


async def _cpu_shares(phases: Sequence[Phase], *, servers_are_ours: bool) -> list[_CpuShares]:
    """Over the length of each phase."""
    shares = []
    others = await _others_cpu_seconds(known=servers_are_ours)
    for phase in phases:
        wall, cpu, before = time.monotonic(), time.process_time(), others
        await asyncio.sleep(phase.seconds)
        seconds, own = time.monotonic() - wall, time.process_time() - cpu
        others = await _others_cpu_seconds(known=servers_are_ours)
        shares.append(_CpuShares(own=own / seconds, others=others_cpu_share(before, others, seconds=seconds)))
    return shares


async def _others_cpu_seconds(*, known: bool) -> float | None:
    """A look at every process, for which calls are not to wait; None where the servers would count as others."""
    return await asyncio.to_thread(others_cpu_seconds) if known else None
