"""The pictures of a report as SVG: latency over throughput, goodput over load, phases stacked, the generator's own."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from loadtests.measurement import PhaseResult
from loadtests.recorder import STACK

QUANTILES = {"p50": "#1f77b4", "p95": "#ff7f0e", "p99": "#d62728"}
STACK_COLOURS = ("#d9d9d9", "#bdbdbd", "#fdae6b", "#c7e9c0", "#6baed6", "#2171b5", "#c6dbef", "#f0f0f0")
SIZE = (8.0, 3.6)


def latency_throughput(phases: Sequence[PhaseResult]) -> str:
    """Latency quantiles of the answers over what was answered per second, a point for each phase."""
    figure, axes = _figure("answered calls/s", "latency, ms")
    answered = [phase for phase in phases if phase.summary.latency_milliseconds]
    for name, colour in QUANTILES.items():
        points = sorted((each.summary.answered_per_second, _latency(each, name)) for each in answered)
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", color=colour, label=name)
    axes.set_yscale("log")
    return _svg(figure, axes)


def goodput(phases: Sequence[PhaseResult], *, ceiling: float) -> str:
    """Answers within the limit over offered calls, beside all answers and the line of a server without bounds."""
    figure, axes = _figure("offered calls/s", "calls/s")
    ordered = sorted(phases, key=lambda phase: phase.sent_per_second)
    offered = [phase.sent_per_second for phase in ordered]
    good = [phase.summary.goodput_per_second for phase in ordered]
    axes.plot(offered, good, marker="o", color="#2ca02c", label="goodput")
    answered = [phase.summary.answered_per_second for phase in ordered]
    axes.plot(offered, answered, marker=".", color="#1f77b4", linestyle=":", label="answered")
    axes.plot([0, max(good)], [0, max(good)], color="#bbbbbb", linewidth=1, label="all that is offered")
    if 0 < ceiling <= max(offered):
        axes.axvline(ceiling, color="#d62728", linestyle="--", label="the generator's ceiling")
    beside = axes.twinx()
    characters = [phase.summary.good_characters_per_second for phase in ordered]
    beside.plot(offered, characters, marker=".", color="#9467bd", label="good source characters/s (right)")
    beside.set_ylim(bottom=0)
    beside.legend(fontsize=8, loc="lower right")
    return _svg(figure, axes)


def phases_stacked(phases: Sequence[PhaseResult]) -> str:
    """The mean latency of each phase of the run, by where it was spent."""
    figure, axes = _figure("", "mean latency, ms")
    shown = [phase for phase in phases if phase.summary.latency_milliseconds]
    bottoms = [0.0] * len(shown)
    for name, colour in zip(STACK, STACK_COLOURS, strict=True):
        parts = [max(0.0, phase.summary.phases[name]) for phase in shown]
        axes.bar(range(len(shown)), parts, bottom=bottoms, color=colour, label=name)
        bottoms = [bottom + part for bottom, part in zip(bottoms, parts, strict=True)]
    axes.set_xticks(range(len(shown)), [phase.name for phase in shown], rotation=30, ha="right", fontsize=8)
    return _svg(figure, axes)


def generator_own(phases: Sequence[PhaseResult]) -> str:
    """The generator's lag at p99 and its share of a core, over the offered rate; a cross: does not count."""
    figure, axes = _figure("offered calls/s", "lag at p99, ms")
    beside = axes.twinx()
    ordered = sorted(phases, key=lambda phase: phase.sent_per_second)
    offered = [phase.sent_per_second for phase in ordered]
    lags = [(phase.summary.generator_lag_milliseconds or {}).get("p99", 0.0) for phase in ordered]
    shares = [100 * phase.generator_cpu_share for phase in ordered]
    axes.plot(offered, lags, marker="o", color="#9467bd", label="lag at p99")
    beside.plot(offered, shares, marker=".", color="#8c564b", linestyle=":", label="share of a core, %")
    beside.set_ylim(0, 105)
    crossed = [(x, y) for x, y, phase in zip(offered, lags, ordered, strict=True) if phase.invalid]
    axes.plot([x for x, _ in crossed], [y for _, y in crossed], "x", color="#d62728", markersize=12, label="invalid")
    beside.legend(loc="upper right", fontsize=8)
    return _svg(figure, axes)


def _latency(phase: PhaseResult, name: str) -> float:
    return (phase.summary.latency_milliseconds or {}).get(name, 0.0)


def _figure(across: str, up: str) -> tuple[Figure, Any]:
    """A figure with its axes (matplotlib is untyped here)."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(alpha=0.3)
    return figure, axes


def _svg(figure: Figure, axes: Any) -> str:
    figure.legend(*axes.get_legend_handles_labels(), fontsize=8, loc="outside right upper")
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
