"""The Grafana dashboard is what its generator writes, and shows metrics that exist."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.deploy.metric_names import exposed_names, names_in


@pytest.fixture
def dashboard(repository: Path) -> dict[str, Any]:
    """The committed dashboard."""
    found: dict[str, Any] = json.loads((repository / "deploy/grafana/dashboards/dragoman.json").read_text())
    return found


def test_the_committed_dashboard_is_the_generated_one(
    dashboard: dict[str, Any], repository: Path, tmp_path: Path
) -> None:
    """Nobody edited the file by hand, and nobody forgot to generate it again."""
    output = tmp_path / "dashboard.json"
    generator = repository / "deploy" / "grafana" / "generate_dashboard.py"
    subprocess.run([sys.executable, str(generator), "--output", str(output)], check=True, timeout=60)
    assert json.loads(output.read_text()) == dashboard, "run: python deploy/grafana/generate_dashboard.py"


def test_every_metric_of_the_dashboard_exists(dashboard: dict[str, Any]) -> None:
    """A renamed metric would leave an empty graph."""
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    used = set[str]().union(*map(names_in, queries))
    assert used
    assert used - exposed_names() == set()
