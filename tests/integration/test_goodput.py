"""Far beyond what a server can do its goodput stays near its peak, and what it cannot do is refused at once.

Goodput counts source characters of answers within the deadline: a server that took short texts only would answer more
calls and translate less. Long, and in need of an idle machine of two cores: `pytest -m full`.
"""

from __future__ import annotations

import os
import re
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from loadtests.capacity import find_capacity
from loadtests.cores import Cores, pin
from loadtests.generated_corpus import LONG, LengthClass, generated_texts
from loadtests.measurement import PhaseResult
from loadtests.request import GREEDY, Kind, Part, draw_requests
from loadtests.scenarios.subject import Subject
from loadtests.server_process import SERVICE, SLEEPING, ServerProcess
from loadtests.target import Calls, Target

LOADS = (1.0, 2.0, 5.0, 10.0)
SLEEPING_SECONDS, ENGINE_SECONDS = 8.0, 20.0
"""Of each load; a real engine answers a few dozen long texts a second, and so few move by themselves."""
IN_FLIGHT = 64
DEADLINE_OVER_ALONE = 10.0
"""A usual deadline: ten times what a call takes that is alone."""
LONGEST_REFUSAL_SECONDS = 0.005
EQUAL = LengthClass((12,) * 9)
"""Sentences of twelve words: which calls get through makes no difference to what a call is worth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overload:
    """What the loads in LOADS gave."""

    phases: list[PhaseResult]
    prompt_share: float
    refusals: int

    @property
    def over_peak(self) -> dict[str, float]:
        """The goodput of each load over the best of all, by the load's name."""
        goodput = {phase.name: phase.summary.good_characters_per_second for phase in self.phases}
        return {name: value / max(goodput.values()) for name, value in goodput.items()}

    def report(self) -> dict[str, object]:
        """For the results."""
        return {
            "goodput_over_peak": {name: round(value, 3) for name, value in self.over_peak.items()},
            "statuses": {phase.name: phase.summary.statuses for phase in self.phases},
            "refusals": self.refusals,
            "refused_within_5_ms": round(self.prompt_share, 4),
            "invalid": [phase.invalid for phase in self.phases if phase.invalid],
        }


async def overload(
    server: ServerProcess,
    cores: Cores,
    part: Part,
    *,
    seconds: float,
    before: Callable[[int], None] = lambda _: None,
) -> Overload:
    """Finds out what the server can do, calls `before` with its process number, and loads it with LOADS times that."""
    assert server.metrics_url is not None
    pin(0, cores.generator)
    calls = Calls(source="en", target="de", timeout_seconds=60.0)
    async with Target(address=server.address, calls=calls) as patient:
        assert await patient.wait_until_connected(timeout_seconds=20)
        requests = draw_requests([part], seed=1)
        await find_capacity(patient.send, requests, in_flight=IN_FLIGHT, seconds=SLEEPING_SECONDS / 4)
        before(server.process_id)
        capacity = await find_capacity(patient.send, requests, in_flight=IN_FLIGHT, seconds=SLEEPING_SECONDS)
        limit = DEADLINE_OVER_ALONE * capacity.alone_slow_seconds
        hurried_calls = Calls(source="en", target="de", timeout_seconds=limit)
        async with Target(address=server.address, calls=hurried_calls) as hurried:
            assert await hurried.wait_until_connected(timeout_seconds=20)
            subject = Subject(
                send=hurried.send,
                send_patiently=patient.send,
                capacity=capacity,
                limit_seconds=limit,
                seconds=seconds,
                seed=2,
                texts=part.texts,
            )
            phases: list[PhaseResult] = []
            for load in LOADS:
                steps = [subject.warm_up(load=load), subject.phase(f"{load:g}x", load=load)]
                phases += await subject.run(steps, parts=[part])
    prompt, refusals = refusals_of(server.metrics_url)
    return Overload(phases=phases, prompt_share=prompt / max(refusals, 1), refusals=refusals)


def refusals_of(metrics_url: str) -> tuple[int, int]:
    """Calls that were refused within LONGEST_REFUSAL_SECONDS, from the arrival at the handler, and all refused ones."""
    with urllib.request.urlopen(metrics_url, timeout=10) as page:
        text = page.read().decode()
    bucket = re.search(
        rf'dragoman_refusal_seconds_bucket{{le="{LONGEST_REFUSAL_SECONDS}",method="Translate"}} (\S+)', text
    )
    count = re.search(r'dragoman_refusal_seconds_count{method="Translate"} (\S+)', text)
    return (int(float(bucket[1])), int(float(count[1]))) if bucket and count else (0, 0)


@pytest.fixture
def cores() -> Iterator[Cores]:
    """One for each side, where there are two; this process gets its own back."""
    usable = os.sched_getaffinity(0)
    yield Cores.apart()
    os.sched_setaffinity(0, usable)


@pytest.mark.full
@pytest.mark.timeout(900)
async def test_overload_costs_no_goodput(cores: Cores, results: dict[str, object]) -> None:
    """With a runner that sleeps: at least 95% of the peak at 2 to 10 times what can be done, refusals within 5 ms."""
    part = Part(weight=1.0, kind=GREEDY, texts=generated_texts(EQUAL, count=500, seed=3))
    with ServerProcess(SLEEPING, cores=cores.server) as server:
        found = await overload(server, cores, part, seconds=SLEEPING_SECONDS)
    results["overload_sleeping"] = found.report()
    assert found.refusals > 1000
    assert found.prompt_share >= 0.99
    assert min(found.over_peak[name] for name in ("2x", "5x", "10x")) >= 0.95


@pytest.mark.full
@pytest.mark.timeout(900)
async def test_overload_costs_the_real_engine_little(
    cores: Cores, bundled_int8: Path, results: dict[str, object]
) -> None:
    """Long sentences by beam search, the worker on one core, edge and generator on the other: at least 85% of the peak
    at twice what can be done, and never under 70% up to ten times."""
    part = Part(weight=1.0, kind=Kind(name="beam", beam_size=4), texts=generated_texts(LONG, count=500, seed=3))
    with ServerProcess([*SERVICE, "--bundle", bundled_int8, "--workers", "1"], cores=cores.server) as server:
        before = partial(part_worker_from_edge, cores=cores)
        found = await overload(server, cores, part, seconds=ENGINE_SECONDS, before=before)
    results["overload_engine"] = found.report()
    assert found.refusals > 100
    assert found.over_peak["2x"] >= 0.85
    assert min(found.over_peak.values()) >= 0.7


def part_worker_from_edge(process: int, cores: Cores) -> None:
    """Keeps the server's busiest thread but the main one, which is its worker, where it is; all others go away."""
    threads = [int(folder.name) for folder in Path(f"/proc/{process}/task").iterdir()]
    worker = max((thread for thread in threads if thread != process), key=lambda thread: ticks_of(process, thread))
    for thread in threads:
        pin(thread, cores.server if thread == worker else cores.generator)


def ticks_of(process: int, thread: int) -> int:
    """Processor time of a thread so far (proc(5))."""
    fields = Path(f"/proc/{process}/task/{thread}/stat").read_text().rpartition(") ")[2].split()
    return int(fields[11]) + int(fields[12])
