"""What the capacity guide asks a simulated fleet: one replica's curve, growing fleets, a day with autoscaling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deploy.capacity.autoscaling import Scaling, day_of_load, follow
from deploy.capacity.fleet import MEAN_TOKENS, FloatArray, capacity, serve
from loadtests.sleeping_server.step_times import StepTimes

SLOTS = 32
QUEUE_TOKENS = 131_072
LOADS = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
SIZES = (1, 3, 10, 30, 100, 300, 1000)
CONNECTIONS = 8
USUAL = 0.7
_ALONE = 0.01
_REPLICAS = 120
"""Small fleets are simulated as often as it takes to have so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPoint:
    """At `load` of the capacity: latencies over the median of a call that is alone, and row slots in use."""

    load: float
    p50: float
    p99: float
    rows: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPoint:
    """p99 of `size` replicas over that of one, where clients spread their calls and where connections are spread."""

    size: int
    by_call: float
    by_connection: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DayResult:
    """Load and replicas over the hours; `always` is the fixed fleet that the day's busiest moment would need."""

    hours: FloatArray
    load: FloatArray
    replicas: FloatArray
    always: int
    refused_share: float

    @property
    def cost_share(self) -> float:
        """Replica-hours over those of the fixed fleet."""
        return float(self.replicas.mean()) / self.always


def one_replica(times: StepTimes, *, seconds: float) -> list[LoadPoint]:
    """The curve; 32 replicas at each load, as if one had run for 32 times as long."""
    most, points, alone = capacity(times, SLOTS), list[LoadPoint](), 0.0
    for load in (_ALONE, *LOADS):
        rates = np.full(32, load * most)
        served = serve(rates, seconds=seconds, times=times, slots=SLOTS, rng=np.random.default_rng(1))
        alone = alone or served.quantile(0.5)
        p50, p99 = (served.quantile(share) / alone for share in (0.5, 0.99))
        points.append(LoadPoint(load=load, p50=p50, p99=p99, rows=served.rows))
    return points


def fleets(times: StepTimes, *, seconds: float) -> list[FleetPoint]:
    """Fleets at their usual load; by connection, each of eight connections a replica goes to any replica."""
    most, points, first = capacity(times, SLOTS), list[FleetPoint](), 0.0
    for size in SIZES:
        rng = np.random.default_rng(size)
        fleet_count = max(1, _REPLICAS // size)
        even = np.full(fleet_count * size, USUAL * most)
        drawn = [np.bincount(rng.integers(0, size, CONNECTIONS * size), minlength=size) for _ in range(fleet_count)]
        uneven = np.maximum(even * np.concatenate(drawn) / CONNECTIONS, 1e-6)
        by_call, by_connection = (
            serve(rates, seconds=seconds, times=times, slots=SLOTS, rng=rng).quantile(0.99) for rates in (even, uneven)
        )
        first = first or by_call
        points.append(FleetPoint(size=size, by_call=by_call / first, by_connection=by_connection / first))
    return points


def a_day(curve: list[LoadPoint], times: StepTimes, *, peak: float) -> DayResult:
    """Replicas that the autoscaler runs over a day whose noon is worth the work of `peak` replicas."""
    scaling = Scaling(slots=SLOTS)
    load = day_of_load(scaling, peak=peak)
    tokens = capacity(times, SLOTS) * MEAN_TOKENS
    rows_at = np.array([[0.0, *(point.load for point in curve), 1.01], [0.0, *(point.rows for point in curve), SLOTS]])
    day = follow(load, scaling, rows_at=rows_at, tokens_per_second=tokens, queue_limit=QUEUE_TOKENS)
    offered = float(load.sum()) * tokens * scaling.interval_seconds
    return DayResult(
        hours=np.arange(len(load), dtype=np.float64) * (scaling.interval_seconds / 3600.0),
        load=load,
        replicas=day.replicas,
        always=int(np.ceil(load.max() / USUAL)),
        refused_share=float(day.refused.sum()) / offered,
    )
