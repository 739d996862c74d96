"""When calls are meant to be sent: decided before the run, so that a slow server cannot slow its own load."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.errors import DataError, InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch of a run at one rate, in calls per second; what is not `measured` warms up."""

    name: str
    rate: float
    seconds: float
    measured: bool = True


def poisson_arrivals(*, rate: float, duration_seconds: float, seed: int) -> tuple[float, ...]:
    """Ascending times in [0, ``duration_seconds``) of a Poisson process with ``rate`` arrivals per second.

    Gaps are independent and exponential: what many callers who do not know of each other look like. Equal seeds give
    equal times. Raises InvalidInputError.
    """
    if not rate > 0:
        raise InvalidInputError("the rate must be above 0", field="rate")
    if not duration_seconds > 0:
        raise InvalidInputError("the duration must be above 0 seconds", field="duration")
    generator = random.Random(seed)
    times = []
    now = generator.expovariate(rate)
    while now < duration_seconds:
        times.append(now)
        now += generator.expovariate(rate)
    return tuple(times)


def phased_arrivals(phases: Sequence[Phase], *, seed: int) -> tuple[float, ...]:
    """Ascending times of Poisson processes that follow each other without a pause. Raises InvalidInputError."""
    times: list[float] = []
    start = 0.0
    for number, phase in enumerate(phases):
        arrivals = poisson_arrivals(rate=phase.rate, duration_seconds=phase.seconds, seed=seed + number)
        times.extend(start + arrival for arrival in arrivals)
        start += phase.seconds
    return tuple(times)


def trace_arrivals(path: Path) -> tuple[float, ...]:
    """The times of a trace: seconds since its first call, one a line, in any order. Raises DataError."""
    try:
        times = sorted(float(line) for line in path.read_text(encoding="utf-8").split())
    except (OSError, ValueError):
        raise DataError(f"{path}: not readable as times, one a line") from None
    if not times:
        raise DataError(f"{path} holds no times")
    return tuple(time - times[0] for time in times)
