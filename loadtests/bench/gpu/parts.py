"""The parts of a run in their order: those that want the card alone come first, the interleaved ones last."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loadtests.bench.cases import OURS, Case
from loadtests.bench.gpu.cases import cases, rows_of
from loadtests.bench.gpu.device import DeviceWatch
from loadtests.bench.gpu.measuring import GpuBench, memory_of, near
from loadtests.bench.gpu.report import Measured
from loadtests.bench.gpu.roofline import Ceilings
from loadtests.bench.gpu.steps import StepsAnswer
from loadtests.bench.gpu.systems import (
    MODES,
    Command,
    commands_of,
    device_options,
    open_systems,
    process_of,
    python_of_peers,
    told_by,
    torch_device,
)
from loadtests.bench.protocol import IdRows
from loadtests.bench.settings import SEARCHES, Search
from service.errors import UnavailableError

CEILINGS, STEPS, MEMORY, THROUGHPUT, LATENCY = "ceilings", "steps", "memory", "throughput", "latency"
PARTS = (CEILINGS, STEPS, MEMORY, THROUGHPUT, LATENCY)
PROFILED_ROWS = (1, 64, 256)
LATENCY_TOKENS = 25
"""Sentences whose answers are nearest to this long, EOS counted, are timed alone."""
_LATENCY_POOL = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured."""

    searches: Sequence[Search]
    rows: Sequence[int]
    rounds: int
    fewest: int
    latency_sentences: int
    step_rounds: int

    def cases(self, systems: Sequence[str]) -> list[Case]:
        """Every case for these systems."""
        return list(cases(self.searches, self.rows, systems, rounds=self.rounds, fewest=self.fewest))


class Run:
    """One run; a part that fails is left out with its reason, and what was measured stays."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        plan: Plan,
        sources: IdRows,
        watch: DeviceWatch,
        say: Callable[[str], None],
    ) -> None:
        self._arguments = arguments
        self._plan = plan
        self._sources = sources
        self._watch = watch
        self._say = say
        self.complete = True
        self.versions: dict[str, dict[str, str]] = {}
        self.left_out: dict[str, str] = {}

    @property
    def ours_failed(self) -> bool:
        """Whether something of ours is among what was left out."""
        return any(name in self.left_out for name in (*MODES, *map(_memory_of, MODES), STEPS))

    def measure(self) -> Measured:
        """Measure the parts that were asked for; Ctrl-C ends it and keeps what there is."""
        measured = Measured()
        try:
            self._alone(measured)
            self._together(measured)
        except KeyboardInterrupt:
            self._say("interrupted: what was measured so far is reported")
            self.complete = False
        return measured

    def _alone(self, measured: Measured) -> None:
        """What has the device for itself."""
        wanted = self._arguments.parts
        if CEILINGS in wanted:
            self._try(CEILINGS, lambda: self._ceilings(measured))
        if STEPS in wanted:
            self._try(STEPS, lambda: self._steps(measured))
        if MEMORY in wanted:
            commands, _ = commands_of(self._arguments)
            for name, command in commands.items():
                self._try(_memory_of(name), partial(self._memory, measured, name, command))

    def _try(self, name: str, work: Callable[[], None]) -> None:
        self._say(name)
        try:
            work()
        except UnavailableError as error:
            self.left_out[name] = str(error)
            self._say(f"{name} is left out: {error}")

    def _ceilings(self, measured: Measured) -> None:
        """A copy and a product by torch, where the peers have it or this environment does."""
        arguments = self._arguments
        python = python_of_peers(arguments) if arguments.checkpoint or arguments.peers_python else Path(sys.executable)
        command: Command = [python, "-m", "loadtests.bench.gpu.ceilings", "--device", torch_device(arguments)]
        measured.ceilings = Ceilings(**json.loads(told_by(CEILINGS, command)))

    def _steps(self, measured: Measured) -> None:
        """Runs of the graphs and their profiles, mode by mode."""
        plan, rows = self._plan, [str(count) for count in self._plan.rows]
        profiled = [str(count) for count in plan.rows if count in PROFILED_ROWS]
        for mode in MODES.values():
            command: Command = [sys.executable, "-m", "loadtests.bench.gpu.steps", "--mode", mode]
            command += ["--bundle", self._arguments.bundle, *device_options(self._arguments)]
            command += ["--rows", *rows, "--rounds", str(plan.step_rounds), "--profile-rows", *profiled]
            command += ["--profiles", self._arguments.output / "profiles"]
            answer = StepsAnswer.from_line(told_by(f"{STEPS}-{mode}", command))
            measured.runs += answer.runs
            measured.profiles += [(mode, rows, each) for rows, each in answer.profiles.items()]

    def _memory(self, measured: Measured, system: str, command: Command) -> None:
        """What the largest case of every search takes, each in a process of its own."""
        for search in self._plan.searches:
            case = max((each for each in self._plan.cases([system]) if each.search is search), key=rows_of)
            taken = memory_of(lambda: process_of(system, command), system, case, self._sources, self._watch.used_bytes)
            measured.memory.append((system, search.name, rows_of(case), taken))

    def _together(self, measured: Measured) -> None:
        """What the systems do in turns."""
        wanted = self._arguments.parts
        if THROUGHPUT not in wanted and LATENCY not in wanted:
            return
        commands, missing = commands_of(self._arguments)
        self.left_out |= missing
        with ExitStack() as stack:
            systems, dead = open_systems(stack, commands, self._say)
            self.left_out |= dead
            self.versions |= {name: system.versions for name, system in systems.items()}
            bench = GpuBench(systems, self._sources, say=self._say)
            try:
                if THROUGHPUT in wanted:
                    for case in self._plan.cases(tuple(systems)):
                        measured.cases.append(bench.throughput(case))
                if LATENCY in wanted:
                    self._latency(measured, bench, tuple(systems))
            finally:
                self.left_out |= bench.left_out

    def _latency(self, measured: Measured, bench: GpuBench, systems: Sequence[str]) -> None:
        """Single sentences of like length, greedy."""
        plan, greedy = self._plan, SEARCHES["greedy"]
        pool = self._sources[:_LATENCY_POOL]
        together = Case(search=greedy, level=max(plan.rows), sentences=len(pool), rounds=1, systems=(OURS,))
        outputs = bench.answers(OURS, together)
        chosen = [pool[index] for index in near(outputs, LATENCY_TOKENS, plan.latency_sentences)]
        if chosen:
            measured.latencies.extend(bench.latency(systems, chosen, greedy, rounds=plan.rounds))


def _memory_of(system: str) -> str:
    """The part of the memory that one system takes, as the run names it."""
    return f"{MEMORY} of {system}"
