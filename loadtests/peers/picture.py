"""A comparison as a picture: goodput over offered calls and latency over offered calls, a column for each search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from matplotlib.figure import Figure

from loadtests.peers.comparison import Comparison, SystemResult
from loadtests.peers.systems import CTRANSLATE2, OURS, STATIC, TRANSFORMERS

COLOURS = {OURS: "#d62728", STATIC: "#ff9896", CTRANSLATE2: "#1f77b4", TRANSFORMERS: "#7f7f7f"}


def write_picture(comparisons: Sequence[Comparison], path: Path) -> None:
    """Draw all comparisons; latencies are those of the answers that came before the deadline."""
    figure = Figure(figsize=(6 * len(comparisons), 8), layout="constrained")
    panels = figure.subplots(2, len(comparisons), squeeze=False)
    for column, comparison in enumerate(comparisons):
        goodput, latency = panels[0][column], panels[1][column]
        most = 0.0
        for each in comparison.systems:
            offered = [median(phase.sent_per_second for phase in phases) for phases in zip(*each.rounds, strict=True)]
            most = max(most, *offered)
            goodput.plot(offered, _goodputs(each), marker="o", color=COLOURS[each.system], label=each.system)
            for name, style in (("p50", "-"), ("p99", ":")):
                label, colour = f"{each.system} {name}", COLOURS[each.system]
                latency.plot(offered, _latencies(each, name), style, marker=".", color=colour, label=label)
        goodput.plot([0, most], [0, most], color="#cccccc", linewidth=1, label="all that is offered")
        latency.axhline(1e3 * comparison.limit_seconds, color="black", linewidth=1, linestyle="--")
        latency.set_yscale("log")
        goodput.set_title(comparison.search, loc="left")
        goodput.set_ylabel("good answers/s")
        latency.set_ylabel("latency of answers, ms (dashed: the limit)")
        for panel in (goodput, latency):
            panel.set_xlabel("offered calls/s")
            panel.grid(alpha=0.3)
            panel.legend(fontsize=7)
    figure.suptitle("Servers on the same weights, cores and text (medians over rounds)", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _goodputs(result: SystemResult) -> list[float]:
    return [median(phase.summary.goodput_per_second for phase in phases) for phases in zip(*result.rounds, strict=True)]


def _latencies(result: SystemResult, name: str) -> list[float]:
    return [
        median((phase.summary.latency_milliseconds or {}).get(name, float("nan")) for phase in phases)
        for phases in zip(*result.rounds, strict=True)
    ]
