"""Rounds take turns, and a ratio is taken within a round."""

from loadtests.bench.statistics import Spread, interleaved, round_ratios


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
