"""The run as tables, for the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from statistics import mean, median

from loadtests.bench.gpu.cases import rows_of
from loadtests.bench.gpu.measuring import Latencies
from loadtests.bench.gpu.profiles import ProfileSummary
from loadtests.bench.gpu.report import Line, Measured
from loadtests.bench.gpu.roofline import Ceilings, TimedRun
from loadtests.bench.statistics import Spread

Cells = Sequence[Sequence[str]]


def aligned(cells: Cells) -> str:
    """Cells as text in columns."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def markdown(cells: Cells) -> str:
    """The same as a Markdown table."""
    rows = [cells[0], ["---"] * len(cells[0]), *cells[1:]]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def tables(measured: Measured) -> Iterable[tuple[str, Cells]]:
    """Title and cells of every table that has something in it."""
    found = (
        ("Throughput, best hypotheses", throughput_cells(measured.lines)),
        ("One sentence at a time, greedy", latency_cells(measured.latencies)),
        ("Memory of the device", memory_cells(measured.memory)),
        ("Runs of the graphs beside the card's ceilings", roofline_cells(measured.runs, measured.ceilings)),
        ("Profile of a decode step", profile_cells(measured.profiles)),
    )
    return ((title, cells) for title, cells in found if len(cells) > 1)


def throughput_cells(lines: Sequence[Line]) -> Cells:
    """Tokens a second of every system in every case."""
    header = (
        "search",
        "rows",
        "sentences",
        "system",
        "tok/s",
        "spread",
        "ours/it",
        "spread",
        "same tokens",
        "tok/sent",
    )
    cells: list[Sequence[str]] = [header]
    for line in lines:
        case, rate, ratio = line.row.case, line.tokens_per_second, line.ratio
        cells.append(
            (
                case.search.name,
                str(rows_of(case)),
                str(case.sentences),
                line.row.system,
                f"{rate.median:.0f}",
                f"{rate.least:.0f}-{rate.largest:.0f}",
                f"{ratio.median:.2f}" if ratio else "",
                f"{ratio.least:.2f}-{ratio.largest:.2f}" if ratio else "",
                "" if line.same is None else f"{line.same:.1%}",
                f"{line.tokens_per_sentence:.1f}",
            )
        )
    return cells


def latency_cells(latencies: Sequence[Latencies]) -> Cells:
    """Milliseconds of a sentence: the median of each round's medians, their spread, and the slowest of all."""
    cells: list[Sequence[str]] = [("system", "sentences", "tok/sent", "ms", "spread", "slowest ms")]
    for each in latencies:
        spread = Spread.of([1000 * median(seconds) for seconds in each.rounds])
        slowest = 1000 * max(chain.from_iterable(each.rounds))
        middle, span = f"{spread.median:.2f}", f"{spread.least:.2f}-{spread.largest:.2f}"
        cells.append((each.system, str(len(each.tokens)), f"{mean(each.tokens):.1f}", middle, span, f"{slowest:.2f}"))
    return cells


def memory_cells(memory: Sequence[tuple[str, str, int, int]]) -> Cells:
    """MiB that each system took."""
    cells: list[Sequence[str]] = [("search", "rows", "system", "MiB")]
    cells += [(search, str(rows), system, f"{size / 2**20:.0f}") for system, search, rows, size in memory]
    return cells


def roofline_cells(runs: Sequence[TimedRun], ceilings: Ceilings | None) -> Cells:
    """Time, achieved bandwidth and rate, and how much of what the card could do that is."""
    header = ("graph", "mode", "rows", "ms", "GB/s", "Gop/s", "op/byte", "least ms", "attained")
    cells: list[Sequence[str]] = [header]
    for run in runs:
        least = attained = ""
        if ceilings is not None:
            least, attained = f"{1000 * ceilings.least_seconds(run.work):.4f}", f"{run.attained(ceilings):.1%}"
        rates = (f"{run.bytes_per_second / 1e9:.1f}", f"{run.operations_per_second / 1e9:.1f}")
        place = (run.graph, run.mode, str(run.rows), f"{1000 * run.seconds:.3f}")
        cells.append((*place, *rates, f"{run.work.intensity:.1f}", least, attained))
    return cells


def profile_cells(profiles: Sequence[tuple[str, int, ProfileSummary]]) -> Cells:
    """Kernels and gaps of a step."""
    header = (
        "mode",
        "rows",
        "nodes",
        "on the CPU",
        "copies",
        "kernels",
        "ms",
        "busy ms",
        "gaps",
        "gap ms",
        "longest ms",
    )
    cells: list[Sequence[str]] = [header]
    for mode, rows, each in profiles:
        kernels = "not told" if each.kernels is None else str(each.kernels)
        counted = (str(each.nodes), str(each.nodes_by_provider.get("CPUExecutionProvider", 0)), str(each.copies))
        seconds = (each.run_seconds, each.busy_seconds, each.gap_seconds, each.longest_gap_seconds)
        spent, busy, idle, longest = (f"{1000 * value:.3f}" for value in seconds)
        cells.append((mode, str(rows), *counted, kernels, spent, busy, str(each.gaps), idle, longest))
    return cells
