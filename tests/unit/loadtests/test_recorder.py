"""The numbers of a run: quantiles, statuses, and a warm-up that does not count."""

import json
from typing import Any

import pytest

from loadtests.recorder import Call, Latencies, Recorder


def call(intended: float, seconds: float, status: str = "OK", lag: float = 0.0) -> Call:
    """A call that ended ``seconds`` after it was meant to be sent."""
    return Call(intended=intended, sent=intended + lag, ended=intended + seconds, status=status)


def summary_of(*calls: Call, warmup_seconds: float = 0.0) -> dict[str, Any]:
    """What the recorder says of ``calls``, through JSON as it is written."""
    recorder = Recorder(warmup_seconds=warmup_seconds)
    for each in calls:
        recorder.add(each)
    found: dict[str, Any] = json.loads(json.dumps(recorder.summary()))
    return found


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


def test_nothing_measured_is_said_to_be_nothing() -> None:
    """A run in which no call was answered has no latency, rather than one of 0 ms."""
    assert summary_of(call(1.0, 0.1, status="UNAVAILABLE"))["latency_milliseconds"] is None


def test_only_answers_have_a_latency_but_every_call_a_status() -> None:
    """A quick refusal does not make the latency look better."""
    found = summary_of(call(1.0, 0.2), call(2.0, 0.001, status="RESOURCE_EXHAUSTED"))
    assert found["calls"] == 2
    assert found["statuses"] == {"OK": 1, "RESOURCE_EXHAUSTED": 1}
    assert found["latency_milliseconds"]["p50"] == pytest.approx(200, rel=2e-3)


def test_the_warm_up_is_counted_apart() -> None:
    """Calls meant for the warm-up are in no quantile and no rate."""
    found = summary_of(call(0.5, 5.0), call(2.0, 0.5), call(2.5, 0.5), warmup_seconds=1.0)
    assert found["warmup_calls"] == 1
    assert found["calls"] == 2
    assert found["latency_milliseconds"]["max"] == pytest.approx(500, rel=2e-3)
    assert found["answered_per_second"] == pytest.approx(2 / 2.0)


def test_the_generators_own_lag_is_reported() -> None:
    """A generator too slow for its rate says so."""
    assert summary_of(call(1.0, 0.5, lag=0.25))["generator_lag_milliseconds"]["p50"] == pytest.approx(250, rel=2e-3)
