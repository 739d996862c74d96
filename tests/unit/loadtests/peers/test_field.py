"""Servers take turns at each rate; one that is drowned is not pushed further, in no round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from loadtests.capacity import Capacity
from loadtests.measurement import PhaseResult
from loadtests.peers.comparison import Plan
from loadtests.peers.field import LEAST_CALLS, Entrant, Field
from loadtests.peers.systems import CTRANSLATE2, OURS, Models, Setup
from loadtests.recorder import Call, Recorder
from loadtests.server_process import ServerProcess
from loadtests.target import Outcome, Target

PLAN = Plan(
    search="greedy",
    systems=[OURS, CTRANSLATE2],
    loads=[0.1, 1.0, 2.0, 3.0],
    rounds=2,
    seconds=10.0,
    sweep_seconds=5.0,
    in_flight=64,
    limit_factor=5.0,
    source="zh",
    target="en",
    seed=0,
    budget_seconds=1000.0,
)
MODELS = Models(bundle=Path("b"), checkpoint=Path("c"), converted=Path("m"), python=Path("python"))
CARRIED = {OURS: 30.0, CTRANSLATE2: 9.0}
"""Calls a second that each server can do; of more it answers none in time."""


class Servers(Field):
    """Answers all or nothing; the targets are names."""

    def __init__(self) -> None:
        super().__init__(MODELS, PLAN, ("one", "two"), lambda line: None)
        self.asked: list[tuple[str, float, float]] = []
        self.disturbed: set[int] = set()
        self.quiet_before: list[int] = []

    async def _quiet(self) -> None:
        self.quiet_before.append(len(self.asked))

    async def _at(
        self, target: Target, rate: float, seconds: float, *, limit: float, name: str = "sweep", number: int = 0
    ) -> PhaseResult:
        system = cast(str, target)
        disturbed = len(self.asked) in self.disturbed
        self.asked.append((system, rate, seconds))
        recorder = Recorder(limit_seconds=limit)
        outcome = Outcome(status="OK" if rate <= CARRIED[system] else "DEADLINE_EXCEEDED")
        for _ in range(round(rate * seconds)):
            recorder.add(Call(intended=0.0, sent=0.0, ended=0.5 * limit, outcome=outcome))
        return PhaseResult(
            name=name,
            offered_per_second=rate,
            seconds=seconds,
            summary=recorder.summary(seconds=seconds),
            generator_cpu_share=0.1,
            others_cpu_share=0.0,
            invalid="others used the machine" if disturbed else None,
        )


@pytest.fixture(name="targets")
def fixture_targets() -> dict[str, Target]:
    """By name."""
    return {system: cast(Target, system) for system in PLAN.systems}


async def test_a_drowned_server_is_not_pushed_further_in_any_round(targets: dict[str, Target]) -> None:
    """It is tried at the first rate that it does not carry, and every round has the same rates."""
    servers = Servers()
    rounds: dict[str, list[list[PhaseResult]]] = {system: [] for system in targets}
    for _ in range(PLAN.rounds):
        for system, results in (await servers._round(targets, rounds, 10.0, 1.0)).items():
            rounds[system].append(results)
    names = {system: [[phase.name for phase in phases] for phases in done] for system, done in rounds.items()}
    assert names == {OURS: [["0.1", "1", "2", "3"]] * 2, CTRANSLATE2: [["0.1", "1"]] * 2}
    assert [system for system, _, _ in servers.asked[:5]] == [OURS, CTRANSLATE2, OURS, CTRANSLATE2, OURS]
    assert servers.quiet_before == list(range(len(servers.asked)))


@pytest.mark.parametrize("factor", [5.0, 10.0])
def test_the_limit_follows_what_ctranslate2_takes(factor: float) -> None:
    """As many times its median as the plan says, for all servers."""
    field = Field(MODELS, replace(PLAN, limit_factor=factor), ("one",), lambda line: None)
    reference = Capacity(alone_seconds=0.2, alone_slow_seconds=0.5, per_second=30.0)
    assert field._limit(reference) == pytest.approx(0.2 * factor)


async def test_a_low_rate_is_kept_up_until_enough_calls_were_sent(targets: dict[str, Target]) -> None:
    """A median of a dozen calls would say nothing."""
    servers = Servers()
    await servers._round(targets, {system: [] for system in targets}, 10.0, 1.0)
    assert all(rate * seconds >= LEAST_CALLS and seconds >= PLAN.seconds for _, rate, seconds in servers.asked)


async def test_a_phase_that_says_nothing_is_tried_again_once(targets: dict[str, Target]) -> None:
    """The second try counts, and a second one that says nothing is told."""
    servers = Servers()
    servers.disturbed = {0, 2, 3}
    results = await servers._round(targets, {system: [] for system in targets}, 10.0, 1.0)
    assert [system for system, _, _ in servers.asked[:5]] == [OURS, OURS, CTRANSLATE2, CTRANSLATE2, OURS]
    assert [phase.invalid is None for phase in results[OURS]] == [True] * 4
    assert [phase.invalid is None for phase in results[CTRANSLATE2]] == [False, True]


async def test_a_setup_must_do_well_at_every_rate_of_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep goes from a third of what the first set-up does in a closed loop, which all carry, to beyond it."""
    servers = sweeping(monkeypatch, alone=lambda setup: 0.2)
    await servers._best_setup(CTRANSLATE2, 1.0)
    assert [rate for _, rate, _ in servers.asked[:4]] == pytest.approx([10.8, 21.6, 36.0, 54.0])


async def test_a_setup_that_is_late_alone_is_tried_at_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of such set-ups the least late is the best, of others any is better."""
    late = sweeping(monkeypatch, alone=lambda setup: 2.0 + setup.threads)
    assert (await late._best_setup(CTRANSLATE2, 1.0)).threads == 1
    assert late.asked == []
    mixed = sweeping(monkeypatch, alone=lambda setup: 0.5 if setup.threads == 2 else 2.0)
    assert (await mixed._best_setup(CTRANSLATE2, 1.0)).threads == 2


def sweeping(monkeypatch: pytest.MonkeyPatch, *, alone: Callable[[Setup], float]) -> Servers:
    """Servers of which one takes `alone` seconds for a call, and does 36 a second in a closed loop."""
    servers = Servers()

    async def enter(system: str, setup: Setup, *_: object) -> Entrant:
        capacity = Capacity(alone_seconds=alone(setup), alone_slow_seconds=3.0, per_second=36.0)
        process, patient = cast(ServerProcess, None), cast(Target, system)
        return Entrant(system=system, setup=setup, process=process, patient=patient, capacity=capacity)

    async def connect(*_: object, **__: object) -> Target:
        return cast(Target, CTRANSLATE2)

    monkeypatch.setattr(servers, "_enter", enter)
    monkeypatch.setattr(servers, "_connect", connect)
    return servers
