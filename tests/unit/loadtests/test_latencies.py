"""Quantiles of durations."""

import pytest

from loadtests.latencies import Latencies


def test_quantiles_keep_three_digits() -> None:
    """1 to 1000 ms: the median is 500 ms and p99 is 990 ms, within a thousandth."""
    latencies = Latencies()
    for milliseconds in range(1, 1001):
        latencies.add(milliseconds / 1e3)
    found = latencies.milliseconds()
    assert found is not None
    assert found["p50"] == pytest.approx(500, rel=2e-3)
    assert found["p99"] == pytest.approx(990, rel=2e-3)
    assert found["max"] == pytest.approx(1000, rel=2e-3)


def test_extremes_are_kept_not_dropped() -> None:
    """An hour counts as the ten minutes the histogram ends at, and nothing as a microsecond: neither disappears."""
    latencies = Latencies()
    latencies.add(3600.0)
    latencies.add(0.0)
    assert latencies.count == 2
