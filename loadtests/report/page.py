"""A load test as one HTML page: what held, the pictures, and a table of every phase."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from loadtests.measurement import PhaseResult
from loadtests.report import charts
from loadtests.results import Results
from loadtests.scenarios.subject import ScenarioResult

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; font-size: 13px } td, th { padding: .2rem .6rem; text-align: right }
th { border-bottom: 1px solid #999 } td:first-child, th:first-child { text-align: left }
.holds { color: #207020 } .failed { color: #b00020; font-weight: bold } svg { max-width: 100%; height: auto }
"""
CURVES = ("ramp", "overload")
"""Scenarios whose phases are points of a curve."""
COLUMNS = (
    "phase",
    "offered/s",
    "answered/s",
    "goodput/s",
    "characters/s",
    "p50",
    "p95",
    "p99",
    "lag p99",
    "CPU",
    "statuses",
)


def write_report(results: Results, path: Path) -> None:
    """Write the page."""
    body = [
        "<h1>Load test</h1>",
        _facts(results),
        "<h2>What had to hold</h2>",
        _thresholds(results),
        *_pictures(results),
        *(_table(scenario) for scenario in results.scenarios),
    ]
    head = f"<meta charset=utf-8><title>Dragoman: load test of {escape(results.began)}</title><style>{STYLE}</style>"
    path.write_text(f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(body)}</body></html>\n", "utf-8")


def _facts(results: Results) -> str:
    lines = [
        f"{results.began}, {results.hardware['processor']}, {results.hardware['cores']} cores for server and generator",
        f"Server: {results.server}",
        f"Capacity {results.capacity.per_second:.1f} calls/s (closed loop); an answer is good within "
        f"{1e3 * results.limit_seconds:.0f} ms, which is also every call's deadline.",
        f"The generator's own ceiling, proved against an empty handler: {results.ceiling_per_second:g} calls/s.",
    ]
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def _thresholds(results: Results) -> str:
    items = []
    for scenario in results.scenarios:
        for each in scenario.thresholds:
            kind = "holds" if each.holds else "failed"
            items.append(f"<li class={kind}>{escape(each.describe())}</li>")
    invalid = "".join(f"<p class=failed>Invalid: {escape(reason)}</p>" for reason in results.invalid)
    return f"<ul>{''.join(items)}</ul>{invalid}"


def _pictures(results: Results) -> list[str]:
    every = [phase for scenario in results.scenarios for phase in scenario.phases]
    parts: list[str] = []
    for scenario in results.scenarios:
        if scenario.name in CURVES:
            parts.append(f"<h2>{escape(scenario.name.capitalize())}: latency over throughput</h2>")
            parts.append(charts.latency_throughput(scenario.phases))
            parts.append(f"<h2>{escape(scenario.name.capitalize())}: goodput over load</h2>")
            parts.append(charts.goodput(scenario.phases, ceiling=results.ceiling_per_second))
    parts += ["<h2>Where the time went</h2>", charts.phases_stacked(every)]
    parts += ["<h2>The generator itself</h2>", charts.generator_own(every)]
    return parts


def _table(scenario: ScenarioResult) -> str:
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    return f"<h2>{escape(scenario.name)}</h2><table><tr>{head}</tr>{''.join(map(_row, scenario.phases))}</table>"


def _row(phase: PhaseResult) -> str:
    summary = phase.summary
    latency, lag = summary.latency_milliseconds or {}, summary.generator_lag_milliseconds or {}
    cells: Sequence[str] = (
        phase.name + (" (invalid)" if phase.invalid else ""),
        f"{phase.offered_per_second:.1f}",
        f"{summary.answered_per_second:.1f}",
        f"{summary.goodput_per_second:.1f}",
        f"{summary.good_characters_per_second:.0f}",
        *(f"{latency[name]:.0f} ms" if name in latency else "" for name in ("p50", "p95", "p99")),
        f"{lag.get('p99', 0.0):.1f} ms",
        f"{phase.generator_cpu_share:.0%}",
        ", ".join(f"{status} {count}" for status, count in summary.statuses.items()),
    )
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
