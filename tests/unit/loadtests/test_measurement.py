"""A run of phases: each call counts for the phase it was meant for, and a generator that lagged is told on."""

import asyncio
from itertools import repeat

from loadtests.arrivals import Phase
from loadtests.measurement import measure, why_invalid
from loadtests.recorder import Call, Recorder, Summary
from loadtests.request import GREEDY, Request
from loadtests.target import Outcome


async def test_calls_belong_to_the_phase_they_were_meant_for_and_a_warm_up_to_none() -> None:
    """Three short phases, the first not measured: arrivals fall where they were planned."""
    phases = [
        Phase(name="warm-up", rate=1.0, seconds=0.05, measured=False),
        Phase(name="first", rate=1.0, seconds=0.05),
        Phase(name="second", rate=1.0, seconds=0.05),
    ]

    async def send(request: Request) -> Outcome:
        await asyncio.sleep(0)
        return Outcome(status="OK")

    arrivals = [0.01, 0.06, 0.07, 0.11]
    results = await measure(send, phases, arrivals, repeat(Request(GREEDY, "x")), limit_seconds=1.0)
    assert [(result.name, result.summary.calls) for result in results] == [("first", 2), ("second", 1)]
    assert all(result.generator_cpu_share >= 0 for result in results)


def summary_of(*, lag: float, latency: float) -> Summary:
    """Of a hundred calls that were sent ``lag`` late and answered ``latency`` after they should have been sent."""
    recorder = Recorder()
    for _ in range(100):
        recorder.add(Call(intended=0.0, sent=lag, ended=latency, outcome=Outcome(status="OK")))
    return recorder.summary(seconds=1.0)


def test_a_generator_that_lagged_or_had_no_processor_left_makes_a_phase_invalid() -> None:
    """Ten milliseconds, or a tenth of the latency, can be borne; so can nine tenths of a core."""
    assert why_invalid(summary_of(lag=0.009, latency=0.02), cpu_share=0.5) is None
    assert why_invalid(summary_of(lag=0.05, latency=1.0), cpu_share=0.5) is None
    assert "lagged" in (why_invalid(summary_of(lag=0.02, latency=0.05), cpu_share=0.5) or "")
    assert "core" in (why_invalid(summary_of(lag=0.0, latency=0.05), cpu_share=0.95) or "")


def test_a_phase_with_others_at_work_is_invalid() -> None:
    """A tenth of the processor can be borne; nothing is said where it is not known."""
    summary = summary_of(lag=0.0, latency=0.05)
    assert why_invalid(summary, cpu_share=0.5, others_share=None) is None
    assert why_invalid(summary, cpu_share=0.5, others_share=0.09) is None
    assert why_invalid(summary, cpu_share=0.5, others_share=0.3) == "others used 30% of the processor"
