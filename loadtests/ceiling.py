"""How many calls per second the generator itself can send and take back: proved against a server that does nothing."""

from __future__ import annotations

from itertools import repeat

from loadtests.arrivals import Phase, phased_arrivals
from loadtests.cores import Cores
from loadtests.measurement import PhaseResult, measure
from loadtests.request import GREEDY, Request
from loadtests.server_process import EMPTY, ServerProcess
from loadtests.target import Calls, Target

RATES = (250.0, 500.0, 1000.0, 1500.0, 2000.0, 2500.0, 3000.0, 4000.0, 5000.0)
GIVES_UP = 2
"""Rates at which it may lag before no higher one is tried: something else may have run for a moment."""
ENOUGH = 0.98
"""Share of the calls that must have been answered."""


async def prove_ceiling(cores: Cores, *, seconds: float) -> float:
    """The highest of RATES, in calls per second, at which the generator does not lag; 0 if it does at all of them."""
    proved = failures = 0.0
    with ServerProcess(EMPTY, cores=cores.server) as server:
        async with Target(address=server.address, calls=Calls(source="en", target="de")) as target:
            await target.wait_until_connected(timeout_seconds=10.0)
            for rate in RATES:
                phase = Phase(name="ceiling", rate=rate, seconds=seconds)
                arrivals = phased_arrivals([phase], seed=0)
                request = Request(GREEDY, "The generator must not be the bottleneck of what it measures.")
                (result,) = await measure(target.send, [phase], arrivals, repeat(request), limit_seconds=1.0)
                if _holds(result):
                    proved = rate
                elif (failures := failures + 1) == GIVES_UP:
                    break
    return proved


def _holds(result: PhaseResult) -> bool:
    return result.invalid is None and result.summary.answered_share >= ENOUGH
