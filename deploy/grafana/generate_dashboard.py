"""Writes the Grafana dashboard: `python -m deploy.grafana.generate_dashboard [--output FILE]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.grafana.queries import Panel
from deploy.grafana.rows.calls import LATENCY_BY_PHASE, TRAFFIC
from deploy.grafana.rows.engine import BATCHING, CAPACITY
from deploy.grafana.rows.models import GPU, MODELS

OUTPUT = Path(__file__).parent / "dashboards" / "dragoman.json"
COLUMNS, PANEL_WIDTH, PANEL_HEIGHT = 24, 8, 8
ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    ("Traffic and objectives", TRAFFIC),
    ("Latency by phase", LATENCY_BY_PHASE),
    ("Batching efficiency", BATCHING),
    ("Capacity", CAPACITY),
    ("Models", MODELS),
    ("GPU", GPU),
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
            {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend, "exemplar": panel.exemplars}
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
        for index, panel in enumerate(row):
            line, column = divmod(index, COLUMNS // PANEL_WIDTH)
            place_y = y + 1 + line * PANEL_HEIGHT
            panels.append(panel_json(panel, number=len(panels) + 1, x=column * PANEL_WIDTH, y=place_y))
        y = place_y + PANEL_HEIGHT
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
