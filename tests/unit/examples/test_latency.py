"""Quantiles read back from a Prometheus page are those PromQL would give."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as PrometheusHistogram

from examples.latency import Histogram, read_histogram


def page_of(*values: tuple[str, float]) -> str:
    """A page with one histogram of the (method, value) pairs."""
    registry = CollectorRegistry()
    histogram = PrometheusHistogram("x_seconds", "x", ["method"], buckets=(0.1, 0.2, 0.4), registry=registry)
    for method, value in values:
        histogram.labels(method).observe(value)
    return generate_latest(registry).decode()


def test_labels_are_added_up() -> None:
    """A quantile is over all calls, whatever their labels."""
    found = read_histogram(page_of(("a", 0.05), ("b", 0.15), ("b", 0.15), ("a", 0.3)), "x_seconds")
    assert found.bounds == (0.1, 0.2, 0.4, float("inf"))
    assert found.counts == (1, 3, 4, 4)


def test_quantiles_are_linear_inside_a_bucket() -> None:
    """Half of four observations: half-way into the bucket that holds the second and third."""
    found = Histogram(bounds=(0.1, 0.2, 0.4, float("inf")), counts=(1, 3, 4, 4))
    assert found.quantile(0.5) == pytest.approx(0.15)
    assert found.quantile(1.0) == pytest.approx(0.4)
    assert found.quantile(0.25) == pytest.approx(0.1)


def test_what_lies_above_the_last_bound_is_that_bound() -> None:
    """An overflowing histogram says its largest finite bound, as PromQL does."""
    assert read_histogram(page_of(("a", 9.0)), "x_seconds").quantile(0.5) == pytest.approx(0.4)


def test_an_absent_histogram_is_empty() -> None:
    """A name that is not on the page gives no quantile rather than a made-up one."""
    assert read_histogram(page_of(("a", 0.1)), "y_seconds").quantile(0.5) is None
