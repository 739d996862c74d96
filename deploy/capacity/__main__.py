"""`python -m deploy.capacity`: what the capacity guide says of one replica to a thousand, as a table and a picture."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from deploy.capacity.picture import Measured, draw
from deploy.capacity.studies import a_day, fleets, one_replica
from loadtests.sleeping_server.step_times import StepTimes


def measured_points(file: Path) -> list[Measured]:
    """The phases of `python -m loadtests ramp` in its JSON, relative to its capacity and its median alone."""
    results = json.loads(file.read_text(encoding="utf-8"))
    most, alone = results["capacity"]["per_second"], results["capacity"]["alone_seconds"] * 1000.0
    points = []
    for phase in results["scenarios"][0]["phases"]:
        latency = phase["summary"]["latency_milliseconds"]
        points.append((phase["offered_per_second"] / most, latency["p50"] / alone, latency["p99"] / alone))
    return points


def main() -> int:
    """Print the tables; draw the picture where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m deploy.capacity", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="simulated for each point (default: %(default)s)")
    parser.add_argument(
        "--step-times", type=Path, help="of python -m loadtests.sleeping_server.measure (default: ours)"
    )
    parser.add_argument("--measured", type=Path, help="JSON of python -m loadtests ramp, drawn beside the simulation")
    parser.add_argument("--peak", type=float, default=100.0, help="replicas' worth of work at noon (%(default)s)")
    parser.add_argument("--picture", type=Path, metavar="FILE.png")
    arguments = parser.parse_args()
    times = StepTimes.load(arguments.step_times) if arguments.step_times else StepTimes.load()
    curve = one_replica(times, seconds=arguments.seconds)
    fleet = fleets(times, seconds=arguments.seconds)
    day = a_day(curve, times, peak=arguments.peak)
    measured = measured_points(arguments.measured) if arguments.measured else []
    print("load    p50    p99   rows in use")
    for point in curve:
        print(f"{point.load:4.2f} {point.p50:6.2f} {point.p99:6.2f} {point.rows:6.1f}")
    for load, p50, p99 in measured:
        print(f"{load:4.2f} {p50:6.2f} {p99:6.2f} measured")
    print("replicas  p99 by call  by connection")
    for found in fleet:
        print(f"{found.size:8} {found.by_call:12.2f} {found.by_connection:14.2f}")
    print(f"a day: {day.cost_share:.0%} of {day.always} replicas all day; refused {day.refused_share:.2%}")
    if arguments.picture:
        draw(curve, fleet, day, measured, arguments.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
