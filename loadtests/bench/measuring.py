"""Runs rounds of cases: picks each system's set-up, warms up, then lets the systems take turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from loadtests.bench.cases import FLOAT32, INT8, WHOLE, Case
from loadtests.bench.protocol import Answer, IdRows, Job
from loadtests.bench.settings import Settings
from loadtests.bench.setups import Setups
from loadtests.bench.sweep import candidates, finalists

SWEPT_SENTENCES = 2
"""A set-up is tried on this many times the sentences in flight, within these bounds."""
FEWEST_SWEPT, MOST_SWEPT, MOST_SWEPT_BEAMS = 12, 256, 128
WARM_SENTENCES, MOST_WARM = 16, 64
FINAL_TRIES = 3
"""Of set-ups that came close to each other; a whole file is long enough to be tried once."""


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
        self._taken: dict[Case, list[dict[str, Answer]]] = {}

    def take_round(self, case: Case) -> None:
        """Let every system of `case` have one turn, after a warm-up; before the first their set-ups are chosen."""
        settings = {system: self._settings(system, case) for system in case.systems}
        for system in case.systems:
            self._warm_up(system, case, settings[system])
        answers = {system: self._turn(system, case, settings[system]) for system in case.systems}
        self._taken.setdefault(case, []).append(answers)

    def rows(self) -> list[list[Row]]:
        """For each case that had a whole round, in the order of their first ones, a row for each of its systems."""
        return [
            [
                Row(
                    case=case,
                    system=system,
                    settings=self._settings(system, case),
                    turns=tuple(Turn.of(answers[system]) for answers in rounds),
                    outputs=rounds[-1][system].outputs,
                )
                for system in case.systems
            ]
            for case, rounds in self._taken.items()
        ]

    def _turn(self, system: str, case: Case, settings: Settings) -> Answer:
        answer = self._run(system, case, settings, in_flight=case.in_flight)
        number, rate = len(self._taken.get(case, ())) + 1, Turn.of(answer).sentences_per_second
        name = f"{case.search.name}, {case.label}, {case.sentences} sentences"
        self._say(f"{name}: round {number} of {case.rounds}, {system} {rate:.1f} sentences/s")
        return answer

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
                self._chosen[key] = self._best(best, swept, case)
            else:
                self._chosen[key] = found[0]
            chosen = self._chosen[key].describe()
            self._say(f"{case.search.name}, {case.label}: {swept} runs with {chosen} (of {len(found)} set-ups)")
        settings = self._chosen[key]
        return replace(settings, call_size=case.in_flight) if _one_call(swept, case) else settings

    def _best(self, close: Sequence[Settings], system: str, case: Case) -> Settings:
        """The one with the largest throughput on all sentences of `case`, in some tries that take turns."""
        if len(close) == 1:
            return close[0]
        rates = dict.fromkeys(close, 0.0)
        for _ in range(1 if case.level == WHOLE else FINAL_TRIES):
            for each in close:
                rates[each] += self._try(system, case, each)
        return max(close, key=lambda each: rates[each])

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
