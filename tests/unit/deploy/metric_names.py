"""The sample names that the service's /metrics page can hold, and those that a query speaks of."""

import re

from prometheus_client import CollectorRegistry

from service.metrics import Metrics

METRIC_NAME = re.compile(r"\b(?:dragoman|process|python)_[a-z0-9_]+")
RECORDED_NAME = re.compile(r"\bdragoman:[a-z0-9_:]+")
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",), "info": ("_info",)}


def exposed_names() -> set[str]:
    """Every sample name that the service's page can hold."""
    registry = CollectorRegistry()
    Metrics(registry).watch_gpu(0)
    return {family.name + suffix for family in registry.collect() for suffix in SUFFIXES.get(family.type, ("",))}


def names_in(query: str) -> set[str]:
    """The metrics of the page that a PromQL expression speaks of."""
    return set(METRIC_NAME.findall(query))


def recorded_in(query: str) -> set[str]:
    """The recording rules that a PromQL expression speaks of."""
    return set(RECORDED_NAME.findall(query))
