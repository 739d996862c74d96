"""Prometheus's rules are the generated ones, speak of metrics that exist, and lead whoever is woken to a runbook."""

from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from deploy.prometheus.generate_rules import main
from deploy.prometheus.objectives import LATENCY
from service.metrics import LENGTH_CLASSES, REQUEST_BUCKETS
from tests.unit.deploy.metric_names import exposed_names, names_in, recorded_in


@pytest.fixture
def rules(repository: Path) -> list[dict[str, Any]]:
    """The rules of deploy/prometheus/rules.yml."""
    groups = yaml.safe_load((repository / "deploy/prometheus/rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture
def alerts(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that wake somebody."""
    return [rule for rule in rules if "alert" in rule]


def test_the_committed_rules_are_the_generated_ones(repository: Path, tmp_path: Path) -> None:
    """Nobody edited the file by hand, and nobody forgot to generate it again."""
    output = tmp_path / "rules.yml"
    main(["--output", str(output)])
    committed = (repository / "deploy/prometheus/rules.yml").read_text()
    assert output.read_text() == committed, "run: python -m deploy.prometheus.generate_rules"


def test_every_expression_speaks_of_what_exists(rules: list[dict[str, Any]]) -> None:
    """A renamed metric or recording rule would leave an alert that can never fire."""
    for rule in rules:
        promql_parser.parse(rule["expr"])
    used = set[str]().union(*(names_in(rule["expr"]) for rule in rules))
    assert used
    assert used - exposed_names() == set()
    recorded = {rule.get("record") for rule in rules}
    assert set[str]().union(*(recorded_in(rule["expr"]) for rule in rules)) - recorded == set()


def test_latency_objectives_are_buckets_of_the_length_classes() -> None:
    """A threshold between two buckets would count nothing, and a class without calls would promise nothing."""
    assert {each.length_class for each in LATENCY} == {*LENGTH_CLASSES, "long"}
    assert {each.seconds for each in LATENCY} <= set(REQUEST_BUCKETS)
    assert [each.length_class for each in LATENCY if not each.pages] == ["long"]


def test_every_alert_says_whom_it_wakes_and_why(alerts: list[dict[str, Any]]) -> None:
    """An alert has a severity, a summary and a time for which it must hold."""
    for alert in alerts:
        assert alert["labels"]["severity"] in {"page", "ticket"}, alert["alert"]
        assert alert["annotations"]["summary"], alert["alert"]
        assert alert["for"], alert["alert"]


def test_every_alert_has_a_section_in_the_runbooks(alerts: list[dict[str, Any]], repository: Path) -> None:
    """Its `runbook_url` leads to a heading with its name, and no section speaks of an alert that is gone."""
    text = (repository / "docs/runbooks.md").read_text(encoding="utf-8")
    headings = {line.removeprefix("## ").strip() for line in text.splitlines() if line.startswith("## Dragoman")}
    assert headings == {alert["alert"] for alert in alerts}
    for alert in alerts:
        assert alert["annotations"]["runbook_url"] == f"docs/runbooks.md#{alert['alert'].lower()}"


def test_every_alert_is_tested_both_ways(alerts: list[dict[str, Any]], repository: Path) -> None:
    """rules.test.yml (for promtool) holds a case in which each alert fires, and one in which it does not."""
    tests = yaml.safe_load((repository / "deploy/prometheus/rules.test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    names = {alert["alert"] for alert in alerts}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == names
