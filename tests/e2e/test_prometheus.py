"""A real Prometheus scrapes a real server under load: rules have values, exemplars are kept, alerts fire."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from deploy.check.tools import ToolError, find
from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc as pb_grpc
from tests.e2e.test_service_process import Service

pytestmark = pytest.mark.full

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PATIENCE_SECONDS = 120.0


class Prometheus:
    """A Prometheus with our rules, whose alerts need not last, on a server's metrics page."""

    def __init__(self, program: str, folder: Path, rules: Path, target: str) -> None:
        hurried = re.sub(r"for: \w+", "for: 1s", rules.read_text(encoding="utf-8"))
        (folder / "rules.yml").write_text(hurried, encoding="utf-8")
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [{"job_name": "dragoman", "static_configs": [{"targets": [target]}]}],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        command += [f"--web.listen-address={self.address}", "--enable-feature=exemplar-storage"]
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def ask(self, path: str, **query: str) -> Any:
        """The data of an answer of its HTTP API; None while it does not answer."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None

    def value(self, query: str) -> float | None:
        """The value of a query's one series; None while there is none."""
        data = self.ask("query", query=query)
        return float(data["result"][0]["value"][1]) if data and data["result"] else None

    def alerts(self) -> set[str]:
        """The alerts that fire."""
        data = self.ask("alerts") or {"alerts": []}
        return {alert["labels"]["alertname"] for alert in data["alerts"] if alert["state"] == "firing"}


@pytest.fixture
def service(tiny_bundle: Path) -> Iterator[Service]:
    """A server of the tiny model."""
    running = Service(tiny_bundle)
    yield running
    running.process.kill()
    running.finish()


@pytest.fixture
def prometheus(service: Service, repository: Path, tmp_path: Path) -> Iterator[Prometheus]:
    """A Prometheus that scrapes it; the test is skipped where Prometheus cannot be installed."""
    try:
        program = find("prometheus", package="prometheus")
    except ToolError as error:
        pytest.skip(str(error))
    target = service.metrics_url.removeprefix("http://").removesuffix("/metrics")
    running = Prometheus(program, tmp_path, repository / "deploy/prometheus/rules.yml", target)
    yield running
    running.process.kill()
    running.process.wait(30)


def until(holds: Callable[[], object], log: Path) -> None:
    """Returns when the condition holds; fails the test when it never does."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        if time.monotonic() > end:
            pytest.fail(log.read_text()[-2000:])
        time.sleep(0.2)


def test_rules_exemplars_and_alerts_of_a_server_under_load(
    service: Service, prometheus: Prometheus, tmp_path: Path, results: dict[str, object]
) -> None:
    """Under load every recording rule has values and nothing fires; when the server has gone, somebody is woken."""
    stop, log = threading.Event(), tmp_path / "log"

    def load() -> None:
        request = pb.TranslateRequest(
            contents=["I see the book."], source_language_code="en", target_language_code="de"
        )
        with grpc.insecure_channel(service.address) as channel:
            stub = pb_grpc.TranslationServiceStub(channel)
            while not stop.is_set():
                stub.Translate(request, metadata=(("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"),))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: (prometheus.value("sum(rate(dragoman_requests_total[1m]))") or 0.0) > 0, log)
        until(lambda: (prometheus.value('dragoman:request_seconds:p95_5m{length_class="short"}') or 0.0) > 0, log)
        until(lambda: prometheus.value('dragoman:slow_calls:ratio_5m{length_class="short"}') is not None, log)
        until(lambda: prometheus.value("dragoman:queue_tokens:per_replica") is not None, log)
        until(lambda: (prometheus.value("dragoman:target_tokens:rate_5m") or 0.0) > 0, log)
        bounds = {"start": str(time.time() - 300), "end": str(time.time() + 300)}
        exemplars = prometheus.ask("query_exemplars", query="dragoman_request_seconds_bucket", **bounds)
        traces = {each["labels"]["trace_id"] for series in exemplars for each in series["exemplars"]}
        assert traces == {TRACE}
        assert prometheus.alerts() == set()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    service.process.kill()
    until(lambda: {"DragomanDown", "DragomanReplicaDown"} <= prometheus.alerts(), log)
    rules = prometheus.ask("rules")
    states = [rule["health"] for group in rules["groups"] for rule in group["rules"]]
    assert set(states) == {"ok"}
    results["prometheus"] = {"rules_evaluated": len(states), "fired": sorted(prometheus.alerts())}
