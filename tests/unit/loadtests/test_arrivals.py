"""The schedule of an open-loop run is a Poisson process, fixed before the run."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.arrivals import poisson_arrivals
from service.errors import InvalidInputError


@given(rate=st.floats(0.5, 500.0), duration=st.floats(0.1, 5.0), seed=st.integers(0, 2**32))
def test_times_ascend_inside_the_run(rate: float, duration: float, seed: int) -> None:
    """Every arrival lies in [0, duration), later ones later."""
    times = poisson_arrivals(rate=rate, duration_seconds=duration, seed=seed)
    assert all(earlier < later for earlier, later in pairwise(times))
    assert all(0 <= time < duration for time in times)


def test_equal_seeds_give_equal_schedules() -> None:
    """A run can be repeated arrival by arrival; another seed is another run."""
    first = poisson_arrivals(rate=50, duration_seconds=10, seed=1)
    assert first == poisson_arrivals(rate=50, duration_seconds=10, seed=1)
    assert first != poisson_arrivals(rate=50, duration_seconds=10, seed=2)


def test_count_and_gaps_are_those_of_a_poisson_process() -> None:
    """At rate r over t seconds: r*t arrivals within 5 standard deviations; gaps with mean 1/r and deviation 1/r."""
    rate, duration = 100.0, 200.0
    times = poisson_arrivals(rate=rate, duration_seconds=duration, seed=7)
    assert abs(len(times) - rate * duration) < 5 * math.sqrt(rate * duration)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert mean == pytest.approx(1 / rate, rel=0.05)
    assert deviation == pytest.approx(1 / rate, rel=0.05)


@pytest.mark.parametrize(("rate", "duration"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (float("nan"), 1.0)])
def test_a_rate_or_duration_that_means_nothing_is_refused(rate: float, duration: float) -> None:
    """A run without arrivals by mistake must not look like a run without failures."""
    with pytest.raises(InvalidInputError):
        poisson_arrivals(rate=rate, duration_seconds=duration, seed=0)
