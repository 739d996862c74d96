"""Runs the cases: picks each system's set-up, warms up, then lets the systems take turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from loadtests.bench.cases import FLOAT32, INT8, Case
from loadtests.bench.protocol import Answer, IdRows, Job
from loadtests.bench.settings import Settings
from loadtests.bench.setups import Setups
from loadtests.bench.statistics import interleaved
from loadtests.bench.sweep import candidates, finalists

SWEPT_SENTENCES = 2
"""A set-up is tried on this many times the sentences in flight, within these bounds."""
FEWEST_SWEPT, MOST_SWEPT, MOST_SWEPT_BEAMS = 12, 256, 128
WARM_SENTENCES, MOST_WARM = 16, 64


class Library(Protocol):
    """Whatever translates jobs: a SystemProcess, or a test's double."""

    def run(self, job: Job) -> Answer:
        """Have one job done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One round of one system."""

    seconds: float
    sentences: int
    tokens: int
    cpu_seconds: float
    others_cpu_seconds: float | None

    @property
    def sentences_per_second(self) -> float:
        """Throughput."""
        return self.sentences / self.seconds

    @property
    def tokens_per_second(self) -> float:
        """Target tokens, EOS counted, per second."""
        return self.tokens / self.seconds

    @staticmethod
    def of(answer: Answer) -> Turn:
        """Keep the numbers of an answer."""
        return Turn(
            seconds=answer.seconds,
            sentences=len(answer.outputs),
            tokens=answer.tokens,
            cpu_seconds=answer.cpu_seconds,
            others_cpu_seconds=answer.others_cpu_seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A system in a case: its set-up, its rounds, and what it answered in the last one."""

    case: Case
    system: str
    settings: Settings
    turns: tuple[Turn, ...]
    outputs: IdRows


class Bench:
    """Measures cases on running systems; `say` gets a line about whatever begins.

    `setups` are those chosen before; what a sweep chooses is added to them.
    """

    def __init__(
        self,
        libraries: Mapping[str, Library],
        sources: IdRows,
        *,
        sweeps: frozenset[str],
        say: Callable[[str], None],
        setups: Setups | None = None,
    ) -> None:
        self._libraries = libraries
        self._sources = sources
        self._sweeps = sweeps
        self._say = say
        self._chosen = {} if setups is None else setups

    def measure(self, case: Case) -> list[Row]:
        """Run one case; a row for each of its systems, in their order."""
        settings = {system: self._settings(system, case) for system in case.systems}
        name = f"{case.search.name}, {case.label}, {case.sentences} sentences"
        for system in case.systems:
            self._warm_up(system, case, settings[system])
        turns: dict[str, list[Turn]] = {system: [] for system in case.systems}
        outputs: dict[str, IdRows] = {}
        for number, system in interleaved(case.systems, rounds=case.rounds):
            answer = self._run(system, case, settings[system], in_flight=case.in_flight)
            turns[system].append(Turn.of(answer))
            outputs[system] = answer.outputs
            rate = turns[system][-1].sentences_per_second
            self._say(f"{name}: round {number + 1} of {case.rounds}, {system} {rate:.1f} sentences/s")
        return [
            Row(
                case=case,
                system=system,
                settings=settings[system],
                turns=tuple(turns[system]),
                outputs=outputs[system],
            )
            for system in case.systems
        ]

    def _warm_up(self, system: str, case: Case, settings: Settings) -> None:
        """Let a set-up touch its memory once before it is measured."""
        warm = replace(case, sentences=min(case.sentences, max(WARM_SENTENCES, min(case.in_flight, MOST_WARM))))
        self._run(system, warm, settings, in_flight=case.in_flight)

    def _run(self, system: str, case: Case, settings: Settings, *, in_flight: int) -> Answer:
        sources = self._sources[: case.sentences]
        return self._libraries[system].run(
            Job(sources=sources, search=case.search, settings=settings, in_flight=in_flight)
        )

    def _settings(self, system: str, case: Case) -> Settings:
        """The best set-up for the case, found once for each beam size and level; float32 takes that of int8."""
        swept = INT8 if system == FLOAT32 else system
        small = replace(case, sentences=self._swept_sentences(case))
        key = (swept, case.search.beam_size, case.level)
        if key not in self._chosen:
            found = candidates(swept, case)
            if swept in self._sweeps:
                best = finalists(found, lambda settings: self._try(swept, small, settings))
                self._chosen[key] = finalists(best, lambda settings: self._try(swept, case, settings))[0]
            else:
                self._chosen[key] = found[0]
            chosen = self._chosen[key].describe()
            self._say(f"{case.search.name}, {case.label}: {swept} runs with {chosen} (of {len(found)} set-ups)")
        settings = self._chosen[key]
        return replace(settings, call_size=case.in_flight) if _one_call(swept, case) else settings

    def _swept_sentences(self, case: Case) -> int:
        if case.level == 0:
            return min(case.sentences, MOST_SWEPT if case.search.beam_size == 1 else MOST_SWEPT_BEAMS)
        return min(case.sentences, max(FEWEST_SWEPT, SWEPT_SENTENCES * case.in_flight))

    def _try(self, system: str, case: Case, settings: Settings) -> float:
        if _one_call(system, case):
            settings = replace(settings, call_size=case.sentences)
        self._warm_up(system, case, settings)
        answer = self._run(system, case, settings, in_flight=case.in_flight)
        rate = len(answer.outputs) / answer.seconds
        self._say(f"    {system}: {settings.describe()}: {rate:.1f} sentences/s ({case.sentences} sentences)")
        return rate


def _one_call(system: str, case: Case) -> bool:
    """CTranslate2 takes a whole file in one call and batches it itself."""
    return case.level == 0 and system in (INT8, FLOAT32)
