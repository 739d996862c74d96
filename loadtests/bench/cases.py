"""What is measured: which search with how many sentences in flight, on how many sentences, how often, by whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from loadtests.bench.settings import Search

OURS = "dragoman"
INT8, FLOAT32, TRANSFORMERS = "ctranslate2-int8", "ctranslate2-float32", "transformers"
REFERENCE = FLOAT32
"""The system whose BLEU every row must meet."""

WHOLE = 0
"""In place of a number in flight: the whole file at once."""
GREEDY_SENTENCES = {1: 48, 8: 128, 32: 192, 64: 256}
BEAM_SENTENCES = {1: 24, 8: 64, 32: 128, 64: 128}
SLOW_SENTENCES = {1: 8, 32: 64}
SLOW_WHOLE = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One cell of the table: `systems` take turns on the first `sentences` of the text for `rounds` rounds."""

    search: Search
    level: int
    sentences: int
    rounds: int
    systems: tuple[str, ...]

    @property
    def in_flight(self) -> int:
        """Sentences under way at a time."""
        return self.level or self.sentences

    @property
    def label(self) -> str:
        """The level as the table names it."""
        return str(self.level) if self.level else "whole file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured; `levels` are numbers in flight, WHOLE the whole file."""

    searches: Sequence[Search]
    levels: Sequence[int]
    sentences: int
    rounds: int
    slow_rounds: int
    peers: bool

    def cases(self) -> Iterator[Case]:
        """What matters most comes first, so that a run that is cut short still says something."""
        unlike = [search for search in self.searches if not search.same_rule_everywhere]
        alike = [search for search in self.searches if search.same_rule_everywhere]
        if self.peers:
            yield from map(self._reference_case, self.searches)
        yield from self._int8_cases(alike)
        if self.peers:
            yield from self._slow_cases(alike)
        yield from self._int8_cases(unlike)

    def _reference_case(self, search: Search) -> Case:
        """CTranslate2 float32 on the whole file: the BLEU to meet."""
        systems = (OURS, REFERENCE)
        return Case(search=search, level=WHOLE, sentences=self.sentences, rounds=self.slow_rounds, systems=systems)

    def _int8_cases(self, searches: Sequence[Search]) -> Iterator[Case]:
        systems = (OURS, INT8) if self.peers else (OURS,)
        for search in searches:
            counts = GREEDY_SENTENCES if search.beam_size == 1 else BEAM_SENTENCES
            for level in self.levels:
                count = self._count(level, counts)
                yield Case(search=search, level=level, sentences=count, rounds=self.rounds, systems=systems)

    def _slow_cases(self, searches: Sequence[Search]) -> Iterator[Case]:
        """The fp32 libraries, on less text."""
        for search in searches:
            rounds, systems = self.slow_rounds, (OURS, FLOAT32, TRANSFORMERS)
            for level in self.levels:
                if level in SLOW_SENTENCES:
                    count = self._count(level, SLOW_SENTENCES)
                    yield Case(search=search, level=level, sentences=count, rounds=rounds, systems=systems)
            count = min(SLOW_WHOLE, self.sentences)
            yield Case(search=search, level=WHOLE, sentences=count, rounds=rounds, systems=(OURS, TRANSFORMERS))

    def _count(self, level: int, counts: Mapping[int, int]) -> int:
        return min(self.sentences, counts.get(level, self.sentences)) if level else self.sentences
