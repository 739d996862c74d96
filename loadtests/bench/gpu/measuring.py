"""Runs the cases on a device: warm-up, then the systems take turns; single sentences for latency; memory one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from loadtests.bench.cases import Case
from loadtests.bench.gpu.cases import cycled, rows_of, settings_of
from loadtests.bench.measuring import Library, Row, Turn
from loadtests.bench.protocol import Answer, IdRows, Job
from loadtests.bench.settings import Search
from loadtests.bench.statistics import interleaved
from service.errors import UnavailableError


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """Seconds of single sentences of one system: `rounds` of the same sentences, and how long the answers were."""

    system: str
    rounds: list[list[float]]
    tokens: list[int]


class GpuBench:
    """Measures on running systems; one that fails is left out from there on, and `left_out` says why."""

    def __init__(self, libraries: Mapping[str, Library], sources: IdRows, *, say: Callable[[str], None]) -> None:
        self._libraries = dict(libraries)
        self._sources = sources
        self._say = say
        self.left_out: dict[str, str] = {}

    def throughput(self, case: Case) -> list[Row]:
        """Run one case, warmed up with all of it; a row for each system that lasted."""
        systems = [system for system in case.systems if self._run(system, case) is not None]
        turns: dict[str, list[Turn]] = {system: [] for system in systems}
        outputs: dict[str, IdRows] = {}
        for number, system in interleaved(systems, rounds=case.rounds):
            answer = self._run(system, case)
            if answer is None:
                continue
            turns[system].append(Turn.of(answer))
            outputs[system] = answer.outputs
            rate = turns[system][-1].tokens_per_second
            name = f"{case.search.name}, {rows_of(case)} rows, round {number + 1} of {case.rounds}"
            self._say(f"{name}: {system} {rate:.0f} tokens/s")
        return [
            Row(
                case=case,
                system=system,
                settings=settings_of(system, case),
                turns=tuple(turns[system]),
                outputs=outputs[system],
            )
            for system in systems
            if len(turns[system]) == case.rounds
        ]

    def latency(self, systems: Sequence[str], sources: IdRows, search: Search, *, rounds: int) -> list[Latencies]:
        """Time each source alone, all systems in turns, after one round that does not count."""
        case = Case(search=search, level=1, sentences=1, rounds=rounds, systems=tuple(systems))
        seconds: dict[str, list[list[float]]] = {system: [] for system in systems}
        tokens: dict[str, list[int]] = {system: [] for system in systems}
        for _, system in interleaved(systems, rounds=1 + rounds):
            answers = [self._run(system, case, sources=[source]) for source in sources]
            answered = [answer for answer in answers if answer is not None]
            if len(answered) == len(sources):
                seconds[system].append([answer.seconds for answer in answered])
                tokens[system] = [answer.tokens for answer in answered]
        return [
            Latencies(system=system, rounds=seconds[system][1:], tokens=tokens[system])
            for system in systems
            if len(seconds[system]) == 1 + rounds
        ]

    def answers(self, system: str, case: Case) -> IdRows:
        """What `system` answers to a case, without EOS; nothing where it failed."""
        answer = self._run(system, case)
        return [] if answer is None else answer.outputs

    def _run(self, system: str, case: Case, *, sources: IdRows | None = None) -> Answer | None:
        """Have a job done; None from a system that is left out."""
        if system not in self._libraries:
            return None
        given = cycled(self._sources, case.sentences) if sources is None else sources
        job = Job(sources=given, search=case.search, settings=settings_of(system, case), in_flight=case.in_flight)
        try:
            return self._libraries[system].run(job)
        except UnavailableError as error:
            del self._libraries[system]
            self.left_out[system] = str(error)
            self._say(f"{system} is left out from here on: {error}")
            return None


def memory_of(
    start: Callable[[], AbstractContextManager[Library]],
    system: str,
    case: Case,
    sources: IdRows,
    used: Callable[[], int],
) -> int:
    """Bytes more in use on the device after `system`, started for this, has done `case`: libraries keep their peak."""
    before = used()
    job = Job(
        sources=cycled(sources, case.sentences),
        search=case.search,
        settings=settings_of(system, case),
        in_flight=case.in_flight,
    )
    with start() as library:
        library.run(job)
        return used() - before


def near(outputs: IdRows, tokens: int, count: int) -> list[int]:
    """Indices of the `count` answers whose length (EOS counted) is nearest to `tokens`, in the order of the text."""
    by_distance = sorted(range(len(outputs)), key=lambda index: abs(len(outputs[index]) + 1 - tokens))
    return sorted(by_distance[:count])
