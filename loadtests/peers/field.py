"""Runs the servers side by side: each with its best set-up, then at each rate in turn, the same texts for all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

from loadtests.arrivals import Phase, phased_arrivals
from loadtests.bench.processor import others_cpu_seconds, others_cpu_share
from loadtests.capacity import Capacity, closed_loop, find_capacity
from loadtests.measurement import PhaseResult, measure
from loadtests.peers.comparison import KINDS, Comparison, Plan, SystemResult
from loadtests.peers.quiet import until_quiet
from loadtests.peers.systems import CTRANSLATE2, OURS, STATIC, Models, Setup, best_setup
from loadtests.request import Part, Request, draw_requests
from loadtests.server_process import ServerProcess
from loadtests.target import Calls, Target

CONNECT_SECONDS = 10.0
PATIENT_SECONDS = 60.0
WARM_UP_SHARE = 0.25
LATENCY_WEIGHT = 0.2
LIMIT_CALLS = 50
"""How many calls that are alone the limit of a good answer comes from."""
SWEEP_LOADS = (0.3, 0.6, 1.0, 1.5)
"""The rates at which set-ups are tried, over the closed loop of a system's first one: from what all carry to what none
does. A set-up must do well at all of them to be chosen."""
LEAST_CALLS = 50
"""A rate is kept up for longer where fewer calls than these would be sent."""
MOST_TRIES = 2
"""A phase that says nothing, as the generator lagged or others used the machine, is tried again."""
HOPELESS = 0.05
"""A server whose share of good answers is below this is not tried at higher rates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """A server that runs, called with a deadline of the limit or patiently."""

    system: str
    setup: Setup
    process: ServerProcess
    patient: Target
    capacity: Capacity


class Field:
    """The servers of a comparison; `say` gets a line about whatever was found."""

    def __init__(self, models: Models, plan: Plan, texts: tuple[str, ...], say: Callable[[str], None]) -> None:
        self._models = models
        self._plan = plan
        self._part = Part(weight=1.0, kind=KINDS[plan.search], texts=texts)
        self._say = say
        self._ends = time.monotonic() + plan.budget_seconds
        self._process_ids: list[int] = []

    async def choose_setups(self) -> dict[str, Setup]:
        """The best set-up of every system, tried with Poisson arrivals at `SWEEP_LOADS`.

        Ours with static batching runs with the set-up of ours: they are to differ in nothing else.
        """
        limit = self._limit(await self._reference())
        chosen: dict[str, Setup] = {}
        for system in self._plan.systems:
            if system == STATIC and OURS in chosen:
                chosen[system] = chosen[OURS]
            else:
                chosen[system] = await self._best_setup(system, limit)
            self._say(f"{self._plan.search}: {system} runs with {chosen[system].describe()}")
        return chosen

    async def _reference(self) -> Capacity:
        """What CTranslate2's first set-up does: limit and rates of everybody are multiples of it."""
        async with AsyncExitStack() as stack:
            entrant = await self._enter(CTRANSLATE2, Setup(), stack, alone_calls=LIMIT_CALLS)
        self._say(f"{self._plan.search}: an answer is good within {1e3 * self._limit(entrant.capacity):.0f} ms")
        return entrant.capacity

    def _limit(self, reference: Capacity) -> float:
        """Seconds within which an answer is good, in the sweep and in what follows."""
        return self._plan.limit_factor * reference.alone_seconds

    async def _best_setup(self, system: str, limit: float) -> Setup:
        highest = 0.0

        async def judge(setup: Setup) -> float:
            nonlocal highest
            async with AsyncExitStack() as stack:
                entrant = await self._enter(system, setup, stack)
                if entrant.capacity.alone_seconds > limit:  # late at every rate: the least late is the best
                    return -entrant.capacity.alone_seconds / limit
                highest = highest or entrant.capacity.per_second
                target = await self._connect(entrant.process, stack, seconds=limit)
                seconds = self._plan.sweep_seconds
                rates = [load * highest for load in SWEEP_LOADS]
                score = sum([_score(await self._at(target, rate, seconds, limit=limit), limit) for rate in rates])
            self._say(f"    {system}, {setup.describe()}: up to {highest:.1f} calls/s {score / len(rates):.3f}")
            return score

        return await best_setup(system, beam_size=self._part.kind.beam_size, judge=judge)

    async def compare(self, setups: Mapping[str, Setup]) -> Comparison:
        """Start all servers, let them take turns at each rate, and stop them."""
        plan, began = self._plan, datetime.now(UTC).isoformat(timespec="seconds")
        others, wall = others_cpu_seconds(), time.monotonic()
        reference = await self._reference()
        limit = self._limit(reference)
        async with AsyncExitStack() as stack:
            entrants = [await self._enter(system, setups[system], stack) for system in plan.systems]
            self._process_ids = [each.process.process_id for each in entrants]
            targets = {each.system: await self._connect(each.process, stack, seconds=limit) for each in entrants}
            phases: dict[str, list[list[PhaseResult]]] = {each.system: [] for each in entrants}
            while len(phases[CTRANSLATE2]) < plan.rounds and self._has_time(phases[CTRANSLATE2], wall):
                for system, added in (await self._round(targets, phases, reference.per_second, limit)).items():
                    phases[system].append(added)
            results = [
                SystemResult(
                    system=each.system,
                    setup=each.setup,
                    capacity=each.capacity,
                    peak_memory_bytes=each.process.memory_bytes(peak=True),
                    rounds=phases[each.system],
                )
                for each in entrants
            ]
            share = others_cpu_share(others, others_cpu_seconds(), seconds=time.monotonic() - wall)
        return Comparison(search=plan.search, began=began, limit_seconds=limit, others_cpu_share=share, systems=results)

    def _has_time(self, rounds: Sequence[object], began: float) -> bool:
        """Whether another round as long as those since `began` fits into the budget."""
        now = time.monotonic()
        if not rounds or now + (now - began) / len(rounds) <= self._ends:
            return True
        self._say(f"{self._plan.search}: no time for round {len(rounds) + 1}")
        return False

    async def _round(
        self,
        targets: Mapping[str, Target],
        before: Mapping[str, Sequence[Sequence[PhaseResult]]],
        unit: float,
        limit: float,
    ) -> dict[str, list[PhaseResult]]:
        """All servers at each load, a multiple of `unit`; in all rounds at the loads that a server had in the first."""
        plan = self._plan
        results: dict[str, list[PhaseResult]] = {system: [] for system in targets}
        for place, load in enumerate(plan.loads):
            for system, send in targets.items():
                rounds = before[system]
                given_up = place >= len(rounds[0]) if rounds else _is_hopeless(results[system])
                if given_up:
                    continue
                rate = load * unit
                seconds = max(plan.seconds, LEAST_CALLS / rate)
                for _ in range(MOST_TRIES):
                    await self._quiet()
                    result = await self._at(send, rate, seconds, limit=limit, name=f"{load:g}", number=len(rounds))
                    self._say_phase(system, result)
                    if result.invalid is None:
                        break
                results[system].append(result)
        return results

    async def _quiet(self) -> None:
        """Return when no server works on what an earlier phase left behind."""
        if not await until_quiet(self._process_ids):
            self._say(f"{self._plan.search}: a server does not come to rest, and slows the others down")

    def _requests(self, number: int = 0) -> Iterator[Request]:
        return draw_requests([self._part], seed=self._plan.seed + number)

    async def _enter(self, system: str, setup: Setup, stack: AsyncExitStack, *, alone_calls: int = 1) -> Entrant:
        """Start a server and find out what it can do, which also warms it up."""
        process = stack.enter_context(ServerProcess(self._models.command(system, setup)))
        patient = await self._connect(process, stack, seconds=PATIENT_SECONDS)
        plan = self._plan
        await closed_loop(patient.send, self._requests(), in_flight=plan.in_flight, seconds=plan.sweep_seconds / 2)
        capacity = await find_capacity(
            patient.send,
            self._requests(),
            in_flight=plan.in_flight,
            seconds=plan.sweep_seconds,
            alone_calls=alone_calls,
        )
        self._say(
            f"{plan.search}: {system}, {setup.describe()}: alone {1e3 * capacity.alone_seconds:.0f} ms, "
            f"{plan.in_flight} in flight {capacity.per_second:.1f} calls/s"
        )
        return Entrant(system=system, setup=setup, process=process, patient=patient, capacity=capacity)

    async def _connect(self, process: ServerProcess, stack: AsyncExitStack, *, seconds: float) -> Target:
        calls = Calls(source=self._plan.source, target=self._plan.target, timeout_seconds=seconds)
        target = await stack.enter_async_context(Target(address=process.address, calls=calls))
        await target.wait_until_connected(timeout_seconds=CONNECT_SECONDS)
        return target

    async def _at(
        self, target: Target, rate: float, seconds: float, *, limit: float, name: str = "sweep", number: int = 0
    ) -> PhaseResult:
        """One phase at `rate` with the arrivals and texts of round `number`, after a warm-up."""
        phases = [
            Phase(name="warm-up", rate=rate, seconds=WARM_UP_SHARE * seconds, measured=False),
            Phase(name=name, rate=rate, seconds=seconds),
        ]
        arrivals = phased_arrivals(phases, seed=self._plan.seed + number)
        (result,) = await measure(target.send, phases, arrivals, self._requests(number), limit_seconds=limit)
        return result

    def _say_phase(self, system: str, result: PhaseResult) -> None:
        summary = result.summary
        latency = summary.latency_milliseconds or {}
        self._say(
            f"{self._plan.search}, {result.offered_per_second:.1f} calls/s: {system}: goodput "
            f"{summary.goodput_per_second:.1f}, p50 {latency.get('p50', 0):.0f} ms, p99 {latency.get('p99', 0):.0f} ms"
            + (f" INVALID {result.invalid}" if result.invalid else "")
        )


def _good_share(result: PhaseResult) -> float:
    return result.summary.goodput_per_second * result.seconds / max(1, result.summary.calls)


def _is_hopeless(results: Sequence[PhaseResult]) -> bool:
    return bool(results) and _good_share(results[-1]) < HOPELESS


def _score(result: PhaseResult, limit: float) -> float:
    """The share of good answers, less a little for slow ones so that two set-ups which lose nothing differ."""
    slow = (result.summary.latency_milliseconds or {}).get("p95", 1e3 * limit)
    return _good_share(result) - LATENCY_WEIGHT * slow / (1e3 * limit)
