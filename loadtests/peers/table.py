"""A comparison as tables and ratios: every server, and ours beside each other one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from loadtests.bench.statistics import Spread, round_ratios, second_run
from loadtests.measurement import PhaseResult
from loadtests.peers.comparison import Comparison, SystemResult
from loadtests.peers.systems import OURS

CARRIED_SHARE = 0.99
"""A rate is carried when this share of its calls is answered within the limit: that is what a limit on p99 means."""
Figure = Callable[[SystemResult], list[float]]
"""A figure of a server for each round."""


def best_goodput(result: SystemResult) -> list[float]:
    """The highest goodput of each round."""
    return [max(phase.summary.goodput_per_second for phase in phases) for phases in result.rounds]


def best_characters(result: SystemResult) -> list[float]:
    """The highest goodput of each round in source characters, which does not rise by leaving out the long texts."""
    return [max(phase.summary.good_characters_per_second for phase in phases) for phases in result.rounds]


def carried(result: SystemResult) -> list[float]:
    """The highest goodput of each round at a rate that is carried; 0 if none is."""
    return [
        max((phase.summary.goodput_per_second for phase in phases if _is_carried(phase)), default=0.0)
        for phases in result.rounds
    ]


def light_p50(result: SystemResult) -> list[float]:
    """The median latency at the lowest rate of each round, in milliseconds."""
    return [(phases[0].summary.latency_milliseconds or {}).get("p50", float("nan")) for phases in result.rounds]


FIGURES: dict[str, Figure] = {
    "best goodput": best_goodput,
    "in characters": best_characters,
    "p50 at the lowest rate": light_p50,
}
"""What ours is compared by. Not by `carried`, which is one of the rates: rounds that agree on it may all be far off."""


def worst_goodput(result: SystemResult) -> list[float]:
    """The goodput at the last rate of each round over the best one: what overload leaves; 0 of none."""
    return [
        phases[-1].summary.goodput_per_second / best if best else 0.0
        for phases, best in zip(result.rounds, best_goodput(result), strict=True)
    ]


def _is_carried(phase: PhaseResult) -> bool:
    summary = phase.summary
    return summary.goodput_per_second * phase.seconds >= CARRIED_SHARE * summary.calls


def markdown(comparisons: Sequence[Comparison]) -> str:
    """Two tables for each comparison: the servers, and ours over the others."""
    parts: list[str] = []
    for comparison in comparisons:
        parts += [
            f"**{comparison.search}**",
            "",
            *_systems(comparison),
            "",
            *_ratios(comparison),
            "",
            _validity(comparison),
            "",
        ]
    return "\n".join(parts)


def _validity(comparison: Comparison) -> str:
    phases = [phase for each in comparison.systems for phases in each.rounds for phase in phases]
    invalid = [phase.invalid for phase in phases if phase.invalid is not None]
    reasons = "; ".join(sorted(set(invalid)))
    return f"{len(invalid)} of {len(phases)} phases say nothing{': ' + reasons if reasons else ''}."


def _systems(comparison: Comparison) -> list[str]:
    lines = [
        "| server | set-up | closed loop | best goodput | in characters | with p99 in the limit "
        "| left at the highest rate | memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    reference = next(each for each in comparison.systems if each.system == OURS)
    for each in comparison.systems:
        figures = [
            f"{each.capacity.per_second / reference.capacity.per_second:.2f}",
            *(_over_ours(each, reference, figure) for figure in (best_goodput, best_characters, carried)),
            f"{Spread.of(worst_goodput(each)).median:.0%}",
            f"{(each.peak_memory_bytes or 0) / 2**20:.0f} MiB",
        ]
        lines.append(f"| {each.system} | {each.setup.describe()} | {' | '.join(figures)} |")
    return lines


def _over_ours(result: SystemResult, reference: SystemResult, figure: Figure) -> str:
    ours = Spread.of(figure(reference)).median
    return f"{Spread.of(figure(result)).median / ours:.2f}" if ours else "-"


def _ratios(comparison: Comparison) -> list[str]:
    lines = [f"| ours over | {' | '.join(FIGURES)} |", "|---" * (len(FIGURES) + 1) + "|"]
    ours = next(each for each in comparison.systems if each.system == OURS)
    for other in comparison.systems:
        if other is not ours:
            cells = [_ratio(ours, other, figure) for figure in FIGURES.values()]
            lines.append(f"| {other.system} | {' | '.join(cells)} |")
    return lines


def _ratio(ours: SystemResult, other: SystemResult, figure: Figure) -> str:
    ratios = _by_round(ours, other, figure)
    if ratios is None:
        return "it carries none" if all(figure(ours)) else "-"
    spread, again = Spread.of(ratios), second_run(ratios)
    told = f"**{spread.median:.2f}** ({spread.least:.2f}-{spread.largest:.2f})"
    return f"{told}, second run {again[0]:.2f}-{again[1]:.2f}" if again else told


def _by_round(ours: SystemResult, other: SystemResult, figure: Figure) -> list[float] | None:
    """Ours over the other's; None where it answered nothing in a round, which then has no ratio."""
    theirs = figure(other)
    return round_ratios(figure(ours), theirs) if all(0.0 < each < math.inf for each in theirs) else None


def named_ratios(comparisons: Sequence[Comparison]) -> dict[str, list[float]]:
    """Every ratio of the tables by what it is, round by round."""
    found = {}
    for comparison in comparisons:
        ours = next(each for each in comparison.systems if each.system == OURS)
        for other in comparison.systems:
            for name, figure in FIGURES.items():
                ratios = _by_round(ours, other, figure)
                if other is not ours and ratios is not None:
                    found[f"{comparison.search}, {name}, over {other.system}"] = ratios
    return found
