"""Times of a worker's turns as curves over measured points."""

from pathlib import Path

import pytest

from loadtests.sleeping_server.step_times import Curve, StepTimes
from service.errors import DataError


def test_between_points_it_is_straight_and_beyond_them_in_proportion() -> None:
    """More rows than were measured cost as much each as the largest step's did; fewer than the least, the least."""
    curve = Curve.of([(8, 4.0), (2, 1.0)])
    assert [curve.at(size) for size in (1, 2, 5, 8, 16)] == [1.0, 1.0, 2.5, 4.0, 8.0]
    assert curve.scaled(0.5).at(16) == 4.0


def test_the_measured_times_grow_with_size() -> None:
    """What comes with the repository reads, and more work takes longer."""
    times = StepTimes.load()
    assert 0 < times.step.at(1) < times.step.at(32) < times.step.at(128)
    assert 0 < times.encode.at(32) < times.encode.at(2048)
    assert times.step.at(32) < 32 * times.step.at(1)


@pytest.mark.parametrize("content", ["", "[]", '{"step": [[1, 1]]}', '{"step": [], "encode": []}', '{"step": 1}'])
def test_a_file_that_is_no_step_times_is_one_clear_error(tmp_path: Path, content: str) -> None:
    """It is named."""
    path = tmp_path / "times.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"times\.json"):
        StepTimes.load(path)
