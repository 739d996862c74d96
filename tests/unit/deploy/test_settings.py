"""What the image, the compose file and the chart set is what the service reads."""

import re
from pathlib import Path

import yaml

from service.config import Settings

VARIABLE = re.compile(r"\bDRAGOMAN_([A-Z][A-Z_]*[A-Z])\b")


def test_every_variable_that_is_set_is_a_setting(repository: Path) -> None:
    """A misspelt DRAGOMAN_ variable would be ignored in silence."""
    files = [repository / "Dockerfile", *(repository / "deploy").rglob("*.yaml")]
    used = {name.lower() for path in files for name in VARIABLE.findall(path.read_text(encoding="utf-8"))}
    assert {"bundle", "drain_seconds"} <= used
    assert used - set(Settings.model_fields) == set()


def test_the_ports_of_the_chart_are_the_services_own(repository: Path) -> None:
    """The chart and the image expose the ports that the service listens on by default."""
    ports = {Settings.model_fields[name].default for name in ("port", "health_port", "metrics_port")}
    image = (repository / "Dockerfile").read_text(encoding="utf-8")
    exposed = re.findall(r"^EXPOSE (.+)$", image, re.MULTILINE)
    assert exposed
    assert all({int(port) for port in line.split()} == ports for line in exposed)
    probed = set(re.findall(r"service\.health_probe\", \"127\.0\.0\.1:(\d+)", image))
    assert probed == {str(Settings.model_fields["health_port"].default)}
    chart = (repository / "deploy/helm/dragoman/templates/deployment.yaml").read_text(encoding="utf-8")
    assert {int(port) for port in re.findall(r"containerPort: (\d+)", chart)} == ports


def test_the_chart_gives_the_drain_its_time(repository: Path) -> None:
    """The chart's drain is no shorter than the service's own."""
    values = yaml.safe_load((repository / "deploy/helm/dragoman/values.yaml").read_text(encoding="utf-8"))
    assert values["drainSeconds"] >= Settings.model_fields["drain_seconds"].default
    assert values["readinessGraceSeconds"] >= Settings.model_fields["readiness_grace_seconds"].default


def test_the_settings_of_every_values_file_are_the_services_own(repository: Path) -> None:
    """The chart prefixes them with DRAGOMAN_; a misspelt one would be ignored in silence."""
    files = [repository / "deploy/helm/dragoman/values.yaml", *(repository / "deploy/helm/values").glob("*.yaml")]
    used = {name.lower() for file in files for name in yaml.safe_load(file.read_text()).get("settings", {})}
    assert used
    assert used - set(Settings.model_fields) == set()
