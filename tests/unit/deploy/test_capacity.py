"""The simulation behind the capacity guide: replicas that agree with arithmetic, an autoscaler that comes to rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deploy.capacity.autoscaling import Scaling, follow
from deploy.capacity.fleet import MEAN_TOKENS, capacity, serve
from loadtests.sleeping_server.step_times import Curve, StepTimes

SLOTS = 8
# A step takes 10 ms and 1 ms for each row; encoding 0.1 ms a token.
TIMES = StepTimes(
    step=Curve(sizes=(1.0, 8.0), seconds=(0.011, 0.018)), encode=Curve(sizes=(1.0, 512.0), seconds=(0.0001, 0.0512))
)


def test_a_call_alone_takes_its_steps() -> None:
    """Its tokens times a step of one row, and its encoding."""
    served = serve(np.full(50, 0.05), seconds=200.0, times=TIMES, slots=SLOTS, rng=np.random.default_rng(1))
    assert served.latencies.mean() == pytest.approx(MEAN_TOKENS * 0.0111, rel=0.1)
    assert served.rows < 0.1


def test_more_than_it_can_do_is_done_at_its_capacity() -> None:
    """All slots are in use, and the calls that end are as many as the arithmetic says."""
    most = capacity(TIMES, SLOTS)
    seconds, replicas = 60.0, 20
    served = serve(
        np.full(replicas, 3 * most),
        seconds=seconds,
        times=TIMES,
        slots=SLOTS,
        rng=np.random.default_rng(1),
        warm_up=0.0,
    )
    assert len(served.latencies) / seconds / replicas == pytest.approx(most, rel=0.1)
    assert served.rows == pytest.approx(SLOTS, rel=0.1)


def test_latency_and_slots_grow_with_the_load() -> None:
    """Slots faster than in proportion, which is why the autoscaler goes by their root."""
    most = capacity(TIMES, SLOTS)
    light, heavy = (
        serve(np.full(40, load * most), seconds=60.0, times=TIMES, slots=SLOTS, rng=np.random.default_rng(1))
        for load in (0.4, 0.8)
    )
    assert heavy.quantile(0.5) > light.quantile(0.5)
    assert heavy.rows > 2 * light.rows


ROWS_AT = np.array([[0.0, 0.35, 0.7, 1.0], [0.0, 2.8, 11.2, 32.0]])
SCALING = Scaling(slots=32)


@pytest.mark.parametrize("load", [10.0, 100.0])
def test_the_autoscaler_comes_to_rest_at_the_load_it_aims_at(load: float) -> None:
    """70% of each replica, no more changes after the first hour, nothing refused by then."""
    day = follow(np.full(480, load), SCALING, rows_at=ROWS_AT, tokens_per_second=500.0, queue_limit=131_072)
    assert len(set(day.replicas[240:])) == 1
    assert load / day.replicas[-1] == pytest.approx(0.7, abs=0.1)
    assert not day.refused[240:].any()


def test_a_load_that_goes_away_takes_its_replicas_along() -> None:
    """Down to the least, and not before the time to scale in has passed."""
    load = np.concatenate([np.full(240, 50.0), np.full(240, 0.5)])
    day = follow(load, replace(SCALING, least=3), rows_at=ROWS_AT, tokens_per_second=500.0, queue_limit=131_072)
    patient = int(SCALING.scale_in_seconds / SCALING.interval_seconds)
    assert day.replicas[240 + patient // 2] == day.replicas[239]
    assert day.replicas[-1] == 3
