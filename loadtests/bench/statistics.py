"""Ratios of interleaved rounds: the order of runs, the median and the spread."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some rounds, with the least and the largest."""

    median: float
    least: float
    largest: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Summarise at least one value."""
        return Spread(statistics.median(values), min(values), max(values))


def interleaved(systems: Sequence[str], *, rounds: int) -> Iterator[tuple[int, str]]:
    """A B A B: (round, system), every system once in each round, so that what drifts touches all alike."""
    for number in range(rounds):
        for system in systems:
            yield number, system


def round_ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Our throughput over theirs, round by round."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]
