"""The schedule of an open-loop run is a Poisson process, fixed before the run."""

import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.arrivals import Phase, phased_arrivals, poisson_arrivals, trace_arrivals
from service.errors import DataError, InvalidInputError


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


def test_phases_follow_each_other_without_a_pause_each_at_its_rate() -> None:
    """A burst amid a light load: every phase has its own number of arrivals in its own stretch of time."""
    phases = [Phase(name=name, rate=rate, seconds=50) for name, rate in (("light", 4.0), ("burst", 100.0))]
    times = phased_arrivals(phases, seed=2)
    assert all(earlier < later for earlier, later in pairwise(times))
    light = [time for time in times if time < 50]
    assert len(light) == pytest.approx(200, abs=5 * math.sqrt(200))
    assert len(times) - len(light) == pytest.approx(5000, abs=5 * math.sqrt(5000))


def test_a_trace_begins_with_its_first_call(tmp_path: Path) -> None:
    """Times of any clock, in any order, become seconds since the first."""
    path = tmp_path / "trace"
    path.write_text("1003.5\n1001.0\n1001.25\n", encoding="utf-8")
    assert trace_arrivals(path) == (0.0, 0.25, 2.5)


@pytest.mark.parametrize("content", ["", "now\n"])
def test_a_trace_without_times_is_refused(tmp_path: Path, content: str) -> None:
    """An empty or unreadable trace is one clear error."""
    path = tmp_path / "trace"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="trace"):
        trace_arrivals(path)
