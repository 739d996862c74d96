"""The Grafana dashboard is what its generator writes, and shows metrics that exist."""

import json
from pathlib import Path
from typing import Any

import promql_parser
import pytest

from deploy.grafana.generate_dashboard import main
from deploy.prometheus.generate_rules import rules
from tests.unit.deploy.metric_names import exposed_names, names_in, recorded_in

# What Grafana puts in the place of its own variables.
VARIABLES = {"$__rate_interval": "1m", "$model": ".*"}


@pytest.fixture
def dashboard(repository: Path) -> dict[str, Any]:
    """The committed dashboard."""
    found: dict[str, Any] = json.loads((repository / "deploy/grafana/dashboards/dragoman.json").read_text())
    return found


@pytest.fixture
def queries(dashboard: dict[str, Any]) -> list[str]:
    """Every expression of every panel, as Prometheus gets it."""
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    for variable, value in VARIABLES.items():
        found = [query.replace(variable, value) for query in found]
    return found


def test_the_committed_dashboard_is_the_generated_one(dashboard: dict[str, Any], tmp_path: Path) -> None:
    """Nobody edited the file by hand, and nobody forgot to generate it again."""
    output = tmp_path / "dashboard.json"
    main(["--output", str(output)])
    assert json.loads(output.read_text()) == dashboard, "run: python -m deploy.grafana.generate_dashboard"


def test_every_expression_is_promql(queries: list[str]) -> None:
    """Parsed by Prometheus's own grammar; a variable that nobody replaces would not parse."""
    for query in queries:
        promql_parser.parse(query)
    with pytest.raises(ValueError, match="\\$"):
        promql_parser.parse("rate(x[$__rate_interval])")


def test_every_metric_of_the_dashboard_exists(queries: list[str]) -> None:
    """A renamed metric or recording rule would leave an empty graph."""
    used = set[str]().union(*map(names_in, queries))
    assert used - exposed_names() == set()
    groups: list[dict[str, Any]] = rules()["groups"]  # type: ignore[assignment]
    recorded = {rule.get("record") for group in groups for rule in group["rules"]}
    shown = set[str]().union(*map(recorded_in, queries))
    assert shown
    assert shown - recorded == set()


def test_every_metric_of_the_page_is_on_the_dashboard(queries: list[str]) -> None:
    """All that the service counts is shown somewhere, itself or by a recording rule."""
    groups: list[dict[str, Any]] = rules()["groups"]  # type: ignore[assignment]
    recorded = {rule["record"]: rule["expr"] for group in groups for rule in group["rules"] if "record" in rule}
    texts = [*queries, *(recorded[name] for query in queries for name in recorded_in(query))]
    shown = set[str]().union(*map(names_in, texts))
    ours = {name for name in exposed_names() if name.startswith("dragoman_")}
    families = {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in ours}
    assert {name for name in families if not any(used.startswith(name) for used in shown)} == set()


def test_the_rows_are_those_that_people_look_for(dashboard: dict[str, Any]) -> None:
    """In this order, and no two panels overlap."""
    rows = [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"]
    assert rows == ["Traffic and objectives", "Latency by phase", "Batching efficiency", "Capacity", "Models", "GPU"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)
