"""What is measured on a GPU: systems, rows of a step, and how much text each case gets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from loadtests.bench.cases import OURS, TRANSFORMERS, Case
from loadtests.bench.protocol import IdRows
from loadtests.bench.settings import Search, Settings

DETERMINISTIC = "dragoman-deterministic"
CTRANSLATE2 = "ctranslate2"
SYSTEMS = (OURS, DETERMINISTIC, TRANSFORMERS, CTRANSLATE2)
"""In the order of their turns; the first is what others are compared with."""

ROWS = (1, 8, 64, 256, 1024)
"""Sentences x beams that are decoded together."""
BATCHES = 4
"""A case has this many times the sentences in flight."""
FEWEST_SENTENCES = 16


def cases(
    searches: Sequence[Search], rows: Sequence[int], systems: Sequence[str], *, rounds: int, fewest: int
) -> Iterator[Case]:
    """Every search with every number of rows, each number of sentences in flight once."""
    for search in searches:
        for in_flight in dict.fromkeys(max(1, count // search.beam_size) for count in rows):
            sentences = max(fewest, BATCHES * in_flight)
            yield Case(search=search, level=in_flight, sentences=sentences, rounds=rounds, systems=tuple(systems))


def rows_of(case: Case) -> int:
    """Sentences x beams in flight."""
    return case.in_flight * case.search.beam_size


def settings_of(system: str, case: Case) -> Settings:
    """One set-up for each system: ours takes sentence by sentence, the others padded batches of like length."""
    longest_first = case.in_flight > 1
    if system in (OURS, DETERMINISTIC):
        return Settings(workers=1, threads=1, row_slots=rows_of(case), longest_first=longest_first)
    size = case.in_flight
    return Settings(workers=1, threads=1, call_size=size, max_batch_size=size, longest_first=longest_first)


def cycled(sources: IdRows, count: int) -> IdRows:
    """`count` sources, the text from its beginning again where it is too short."""
    return [sources[index % len(sources)] for index in range(count)]
