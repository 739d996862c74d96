"""The ratios as a picture: a bar for each peer and level with its spread, a panel for each search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loadtests.bench.cases import FLOAT32, INT8, TRANSFORMERS
from loadtests.bench.report import Line

COLOURS = {INT8: "#1f77b4", FLOAT32: "#9ecae1", TRANSFORMERS: "#fdae6b"}
TICKS = (0.5, 1, 1.5, 2, 3, 5, 10, 20, 50)


def write_picture(lines: Sequence[Line], path: Path) -> None:
    """Draw `lines` that have a ratio; one that does not count is hatched."""
    from matplotlib.figure import Figure

    compared = [line for line in lines if line.ratio]
    searches = list(dict.fromkeys(line.row.case.search.name for line in compared))
    figure = Figure(figsize=(11, 3.1 * max(1, len(searches))), layout="constrained")
    panels = figure.subplots(max(1, len(searches)), 1, squeeze=False)[:, 0]
    for panel, search in zip(panels, searches, strict=False):
        _draw(panel, [line for line in compared if line.row.case.search.name == search])
        panel.set_title(search, loc="left", fontsize=10)
    figure.suptitle("Dragoman's sentences/s over each library's, same run (above 1: Dragoman is faster)", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _draw(panel, lines: Sequence[Line]) -> None:  # type: ignore[no-untyped-def]  # matplotlib's Axes, untyped here
    for place, line in enumerate(lines):
        ratio = line.ratio
        if ratio is None:
            continue
        spread = [[ratio.median - ratio.least], [ratio.largest - ratio.median]]
        colour, hatch = COLOURS.get(line.row.system, "#bbbbbb"), "" if line.counted else "///"
        panel.bar(place, ratio.median, 0.7, color=colour, hatch=hatch, edgecolor="white", yerr=spread, capsize=4)
        panel.text(place, ratio.largest * 1.04, f"{ratio.median:.2f}", ha="center", va="bottom", fontsize=8)
    labels = [
        f"{line.row.system}\n{line.row.case.label}" + ("" if line.counted else "\n(not counted)") for line in lines
    ]
    panel.set_xticks(range(len(lines)), labels, fontsize=7)
    panel.set_yscale("log")
    panel.axhline(1.0, color="black", linewidth=1)
    highest = max(line.ratio.largest for line in lines if line.ratio)
    lowest = min(line.ratio.least for line in lines if line.ratio)
    panel.set_ylim(min(0.5, lowest * 0.9), highest * 1.5)
    shown = [tick for tick in TICKS if min(0.5, lowest * 0.9) <= tick <= highest * 1.5]
    panel.set_yticks(shown, [f"{tick:g}x" for tick in shown])
    panel.minorticks_off()
    panel.grid(axis="y", alpha=0.3)
