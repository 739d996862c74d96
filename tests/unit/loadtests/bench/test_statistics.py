"""Rounds take turns, and a ratio is taken within a round."""

import math
import random
from statistics import median

import pytest

from loadtests.bench.statistics import Spread, interleaved, round_ratios, second_run


def test_systems_take_turns() -> None:
    """A B A B, so that a machine that slows down slows both."""
    assert list(interleaved(["a", "b"], rounds=2)) == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]


def test_a_drift_that_touches_a_round_leaves_its_ratio() -> None:
    """A machine half as fast in the second round changes both throughputs and no ratio."""
    assert round_ratios([20.0, 10.0, 21.0], [10.0, 5.0, 10.0]) == [2.0, 2.0, 2.1]


def test_the_spread_is_median_least_and_largest() -> None:
    """One odd round moves the spread and not the median."""
    assert Spread.of([1.5, 9.0, 1.4]) == Spread(1.5, 1.4, 9.0)
    assert Spread.of([1.0, 2.0]) == Spread(1.5, 1.0, 2.0)


@pytest.mark.parametrize("rounds", [2, 3, 5, 12])
def test_a_second_run_lies_where_the_first_expects_it(rounds: int) -> None:
    """Of 2,000 pairs of runs whose rounds scatter alike, 19 of 20 second medians or somewhat more lie in the range; in
    that of least and largest, fewer."""
    generator = random.Random(rounds)

    def run() -> list[float]:
        return [math.exp(generator.gauss(0.5, 0.1)) for _ in range(rounds)]

    held = within_spread = 0
    for _ in range(2000):
        first, second = run(), median(run())
        expected = second_run(first)
        assert expected is not None
        held += expected[0] <= second <= expected[1]
        within_spread += min(first) <= second <= max(first)
    assert 0.94 <= held / 2000 <= 0.99
    if rounds <= 3:
        assert within_spread / 2000 < 0.7


@pytest.mark.parametrize("ratios", [[1.5], [1.0, 0.0], [1.0, math.nan], [1.0, math.inf]])
def test_nothing_is_said_of_a_second_run_where_nothing_can_be(ratios: list[float]) -> None:
    """One round has no scatter, and what is not a positive number no logarithm."""
    assert second_run(ratios) is None
