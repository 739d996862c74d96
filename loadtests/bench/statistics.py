"""Ratios of interleaved rounds: the order of runs, the median, the spread, and what a second run may find."""

from __future__ import annotations

import math
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


T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""The 0.975 quantiles of Student's t distribution for 1, 2, ... degrees of freedom; beyond, the last serves."""


def second_run(ratios: Sequence[float]) -> tuple[float, float] | None:
    """The range in which 95 of 100 further runs with as many rounds have their median; None for a single round, or
    where a ratio is not a positive number.

    If rounds scatter as these did, on a logarithmic scale and normally: medians of n rounds then have the variance
    pi s^2 / 2n, their difference twice as much. Least and largest of the rounds say less than it seems: of two runs of
    three equal rounds the second median lies outside them in 40 of 100 cases.
    """
    count = len(ratios)
    if count < 2 or not all(0.0 < ratio < math.inf for ratio in ratios):
        return None
    logarithms = [math.log(ratio) for ratio in ratios]
    quantile = T_QUANTILES[min(count - 1, len(T_QUANTILES)) - 1]
    factor = math.exp(quantile * statistics.stdev(logarithms) * math.sqrt(math.pi / count))
    median = statistics.median(ratios)
    return median / factor, median * factor
