"""Prometheus's rules speak of metrics that the service really has."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.deploy.metric_names import exposed_names, names_in


@pytest.fixture
def groups(repository: Path) -> list[dict[str, Any]]:
    """The rule groups of deploy/prometheus/rules.yml."""
    found: list[dict[str, Any]] = yaml.safe_load((repository / "deploy/prometheus/rules.yml").read_text())["groups"]
    return found


def test_every_metric_of_the_rules_exists(groups: list[dict[str, Any]]) -> None:
    """A renamed metric would leave an alert that can never fire."""
    used = set[str]().union(*(names_in(rule["expr"]) for group in groups for rule in group["rules"]))
    assert used
    assert used - exposed_names() == set()


def test_every_alert_says_whom_it_wakes_and_why(groups: list[dict[str, Any]]) -> None:
    """An alert has a severity, a summary and a time for which it must hold."""
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    assert alerts
    for alert in alerts:
        assert alert["labels"]["severity"] in {"page", "ticket"}, alert["alert"]
        assert alert["annotations"]["summary"], alert["alert"]
        assert alert["for"], alert["alert"]


def test_every_alert_is_tested(groups: list[dict[str, Any]], repository: Path) -> None:
    """rules.test.yml (for promtool) holds a firing case of each alert."""
    tests = yaml.safe_load((repository / "deploy/prometheus/rules.test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule} == fired
