"""When calls are meant to be sent: decided before the run, so that a slow server cannot slow its own load."""

import random

from service.errors import InvalidInputError


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
