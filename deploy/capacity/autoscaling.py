"""A day of load and the replicas that the chart's two triggers ask for, in steps of the autoscaler's interval.

The square root: slots in use grow with about the square of the load, as steps grow longer with their rows. Kubernetes
takes what it scales on for proportional to the load; on the share in use itself it overshoots for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_TOLERANCE = 0.1
"""Kubernetes' autoscaler leaves a number of replicas alone that is so near to the one it would like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """The chart's autoscaling values, and how long a new replica takes until it serves."""

    slots: int
    target_slot_use: float = 0.35
    queue_tokens: float = 500.0
    least: int = 2
    interval_seconds: float = 15.0
    start_seconds: float = 60.0
    scale_in_seconds: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """Replicas that run, and calls that found the queue full, at each interval."""

    replicas: FloatArray
    refused: FloatArray
    offered: FloatArray


def day_of_load(scaling: Scaling, *, peak: float) -> FloatArray:
    """Load in replicas' worth of work: a quiet night, a day's hill, and a burst of twice the load for ten minutes."""
    hours = np.arange(0.0, 24.0, scaling.interval_seconds / 3600.0)
    load = 0.1 + 0.9 * np.clip(np.sin((hours - 6.0) / 14.0 * np.pi), 0.0, None) ** 1.5
    load = peak * load / load.max()
    burst = (hours > 9.0) & (hours < 9.0 + 1.0 / 6.0)
    doubled: FloatArray = np.where(burst, 2.0 * load, load)
    return doubled


def follow(
    load: FloatArray, scaling: Scaling, *, rows_at: FloatArray, tokens_per_second: float, queue_limit: float
) -> Day:
    """Replicas over time. `rows_at` (2, n) are loads of one replica and the rows in use there, simulated or measured;
    `tokens_per_second` is what one replica ends at most, `queue_limit` the tokens that may wait at each."""
    running, ready_at = float(scaling.least), list[tuple[int, float]]()
    asked: list[float] = []
    queue = 0.0
    replicas, refused = np.zeros(len(load)), np.zeros(len(load))
    for step, now in enumerate(load):
        running = max([running, *(count for when, count in ready_at if when <= step)])
        ready_at = [(when, count) for when, count in ready_at if when > step]
        queue += (now - running) * tokens_per_second * scaling.interval_seconds
        refused[step] = max(0.0, queue - queue_limit * running)
        queue = min(max(queue, 0.0), queue_limit * running)
        use = float(np.interp(now / running, rows_at[0], rows_at[1])) / scaling.slots
        by_slots = running * np.sqrt(use / scaling.target_slot_use)
        wanted = np.ceil(max(by_slots, queue / scaling.queue_tokens, scaling.least))
        if abs(wanted / running - 1.0) <= _TOLERANCE:
            wanted = running
        asked.append(float(wanted))
        if wanted > running:
            delay = int(scaling.start_seconds / scaling.interval_seconds)
            ready_at.append((step + delay, min(float(wanted), 2 * running)))
        else:
            window = int(scaling.scale_in_seconds / scaling.interval_seconds)
            running = min(running, max(asked[-window:]))
        replicas[step] = running
    return Day(replicas=replicas, refused=refused, offered=load)
