"""Writes the Grafana dashboard: `python deploy/grafana/generate_dashboard.py [--output FILE]`."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

OUTPUT = Path(__file__).parent / "dashboards" / "dragoman.json"
COLUMNS, PANEL_WIDTH, PANEL_HEIGHT = 24, 8, 8
SELECTOR = '{model=~"$model"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One graph over time: (PromQL, legend) pairs and the unit of their values."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    description: str = ""


def quantiles(metric: str, *shares: float) -> tuple[tuple[str, str], ...]:
    """Queries for quantiles of the histogram ``metric`` over all replicas."""
    rate = f"sum by (le) (rate({metric}_bucket{SELECTOR}[$__rate_interval]))"
    return tuple((f"histogram_quantile({share:g}, {rate})", f"p{100 * share:g}") for share in shares)


def mean(metric: str) -> str:
    """Query for the mean of the histogram ``metric``."""
    total = f"sum(rate({metric}_sum{SELECTOR}[$__rate_interval]))"
    return f"{total} / sum(rate({metric}_count{SELECTOR}[$__rate_interval]))"


def rate_by(label: str, metric: str) -> tuple[tuple[str, str], ...]:
    """The rate of a counter, one line per value of ``label``."""
    return ((f"sum by ({label}) (rate({metric}{SELECTOR}[$__rate_interval]))", f"{{{{{label}}}}}"),)


def share_of(used: str, there: str) -> str:
    """Query for the share of a gauge in another."""
    return f"sum({used}{SELECTOR}) / sum({there}{SELECTOR})"


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Traffic",
        (
            Panel(title="Calls by code", unit="reqps", queries=rate_by("code", "dragoman_requests_total")),
            Panel(title="Latency", unit="s", queries=quantiles("dragoman_request_seconds", 0.5, 0.95, 0.99)),
            Panel(title="Refusals by reason", unit="reqps", queries=rate_by("reason", "dragoman_refusals_total")),
        ),
    ),
    (
        "Where the time goes",
        (
            Panel(
                title="Mean of each phase",
                unit="s",
                queries=tuple(
                    (mean(f"dragoman_{phase}_seconds"), phase)
                    for phase in ("queue", "tokenize", "encode", "decode", "detokenize")
                ),
            ),
            Panel(title="Queue", unit="s", queries=quantiles("dragoman_queue_seconds", 0.5, 0.95, 0.99)),
            Panel(title="First token", unit="s", queries=quantiles("dragoman_first_token_seconds", 0.5, 0.95, 0.99)),
        ),
    ),
    (
        "Batching and capacity",
        (
            Panel(
                title="Rows per step",
                unit="short",
                queries=((mean("dragoman_step_rows"), "mean"), *quantiles("dragoman_step_rows", 0.95)),
                description="How many hypotheses share one decode step.",
            ),
            Panel(
                title="Slots in use",
                unit="percentunit",
                queries=(
                    (share_of("dragoman_row_slots_used", "dragoman_row_slots"), "rows"),
                    (share_of("dragoman_sentence_slots_used", "dragoman_sentence_slots"), "sentences"),
                ),
            ),
            Panel(
                title="Tokens",
                unit="short",
                queries=(
                    (f"sum(rate(dragoman_source_tokens_total{SELECTOR}[$__rate_interval]))", "source/s"),
                    (f"sum(rate(dragoman_target_tokens_total{SELECTOR}[$__rate_interval]))", "target/s"),
                    (f"sum(dragoman_queue_tokens{SELECTOR})", "waiting"),
                ),
            ),
        ),
    ),
)


def panel_json(panel: Panel, *, number: int, x: int, y: int) -> dict[str, object]:
    """A Grafana time-series panel at grid position (``x``, ``y``)."""
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": {"type": "prometheus", "uid": "prometheus"},
        "gridPos": {"x": x, "y": y, "w": PANEL_WIDTH, "h": PANEL_HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend}
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }


def dashboard() -> dict[str, object]:
    """The whole dashboard as Grafana reads it."""
    panels: list[dict[str, object]] = []
    y = 0
    for title, row in ROWS:
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": title, "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}}
        )
        for column, panel in enumerate(row):
            panels.append(panel_json(panel, number=len(panels) + 1, x=column * PANEL_WIDTH, y=y + 1))
        y += 1 + PANEL_HEIGHT
    model = {
        "name": "model",
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "prometheus"},
        "query": {"query": "label_values(dragoman_model_info, model)", "refId": "models"},
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
    }
    return {
        "uid": "dragoman",
        "title": "Dragoman",
        "schemaVersion": 41,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [model]},
        "panels": panels,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    output: Path = parser.parse_args(arguments).output
    output.write_text(json.dumps(dashboard(), indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
