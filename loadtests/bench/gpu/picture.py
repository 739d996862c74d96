"""The run as a picture: tokens a second by rows for each search, and the card's roofline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loadtests.bench.cases import OURS, TRANSFORMERS
from loadtests.bench.gpu.cases import CTRANSLATE2, DETERMINISTIC, SYSTEMS, rows_of
from loadtests.bench.gpu.report import Line, Measured
from loadtests.bench.gpu.roofline import Ceilings, TimedRun

COLOURS = {OURS: "#d62728", DETERMINISTIC: "#ff9896", CTRANSLATE2: "#1f77b4", TRANSFORMERS: "#fdae6b"}
MARKERS = {("decoder", "fast"): "o", ("decoder", "deterministic"): "s", ("encoder", "fast"): "^"}
_BEYOND = 4.0
"""The roof is drawn this much further than the points go, to both sides."""


def write_picture(measured: Measured, path: Path) -> None:
    """Draw what was measured; without ceilings there is no roofline."""
    from matplotlib.figure import Figure

    lines = measured.lines
    searches = list(dict.fromkeys(line.row.case.search.name for line in lines))
    roof = measured.ceilings if measured.runs else None
    count = max(1, len(searches) + (roof is not None))
    figure = Figure(figsize=(5.4 * count, 4.2), layout="constrained")
    panels = list(figure.subplots(1, count, squeeze=False)[0])
    for panel, search in zip(panels, searches, strict=False):
        _draw_throughput(panel, [line for line in lines if line.row.case.search.name == search])
        panel.set_title(f"{search}: tokens/s by rows", fontsize=10)
    if roof is not None:
        _draw_roofline(panels[-1], measured.runs, roof)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _draw_throughput(panel, lines: Sequence[Line]) -> None:  # type: ignore[no-untyped-def]  # matplotlib's Axes, untyped here
    for system in SYSTEMS:
        mine = [line for line in lines if line.row.system == system]
        if not mine:
            continue
        rates = [line.tokens_per_second for line in mine]
        below = [rate.median - rate.least for rate in rates]
        above = [rate.largest - rate.median for rate in rates]
        places, medians = [rows_of(line.row.case) for line in mine], [rate.median for rate in rates]
        colour = COLOURS[system]
        panel.errorbar(places, medians, yerr=[below, above], marker="o", capsize=3, color=colour, label=system)
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xlabel("rows (sentences x beams)")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)


def _draw_roofline(panel, runs: Sequence[TimedRun], ceilings: Ceilings) -> None:  # type: ignore[no-untyped-def]
    intensities = [run.work.intensity for run in runs]
    ridge = ceilings.operations_per_second / ceilings.bytes_per_second
    ends = [min(*intensities, ridge) / _BEYOND, ridge, max(*intensities, ridge) * _BEYOND]
    panel.plot(ends, [ceilings.reachable(end) for end in ends], color="black", linewidth=1)
    for (graph, mode), marker in MARKERS.items():
        mine = [run for run in runs if (run.graph, run.mode) == (graph, mode)]
        if mine:
            rates = [run.operations_per_second for run in mine]
            panel.plot([run.work.intensity for run in mine], rates, marker, label=f"{graph}, {mode}", alpha=0.8)
        for run, rate in zip(mine, rates if mine else [], strict=True):
            panel.annotate(f" {run.rows}", (run.work.intensity, rate), fontsize=7)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel("operations for each byte")
    panel.set_title("operations/s under the measured roof; numbers are rows", fontsize=10)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
