"""Draws what the studies found: a replica's curve, fleets, a day."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib import pyplot

from deploy.capacity.studies import CONNECTIONS, USUAL, DayResult, FleetPoint, LoadPoint

Measured = tuple[float, float, float]
"""Load, p50 and p99, relative as those of LoadPoint."""


def draw(
    curve: Sequence[LoadPoint], fleet: Sequence[FleetPoint], day: DayResult, measured: Sequence[Measured], output: Path
) -> None:
    """Three pictures side by side, as PNG."""
    matplotlib.use("Agg")
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(15, 4.5))
    loads = [point.load for point in curve]
    for place, name, colour in ((1, "p50", "tab:blue"), (2, "p99", "tab:red")):
        left.plot(loads, [getattr(point, name) for point in curve], color=colour, label=f"{name}, simulated")
        if measured:
            values = [point[place] for point in measured]
            left.plot([point[0] for point in measured], values, "o", color=colour, label=f"{name}, measured")
    left.set(xlabel="load / capacity of the replica", ylabel="latency / median alone", title="One replica")
    sizes = [point.size for point in fleet]
    middle.plot(sizes, [point.by_call for point in fleet], "o-", label="each client round_robin over all replicas")
    label = f"{CONNECTIONS} connections a replica, balanced by connection"
    middle.plot(sizes, [point.by_connection for point in fleet], "o-", label=label)
    middle.set(xscale="log", yscale="log", xlabel="replicas", ylabel="p99 / p99 of one replica")
    middle.set_title(f"A fleet at {USUAL:.0%} load")
    right.plot(day.hours, day.replicas, color="tab:orange", label="replicas")
    right.plot(day.hours, day.load, color="tab:blue", label="work, in replicas' worth")
    right.set(xlabel="hour", title="A day with autoscaling")
    for axes in (left, middle, right):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(output, dpi=80, metadata={"Software": None})
