"""What a run must hold."""

import math

import pytest

from loadtests.thresholds import Threshold, ratio


@pytest.mark.parametrize(("value", "holds"), [(0.5, True), (0.4, False), (2.0, True), (2.1, False), (math.nan, False)])
def test_a_value_holds_between_its_bounds(value: float, holds: bool) -> None:
    """Both bounds belong to what is allowed; what could not be measured has failed."""
    threshold = Threshold(name="x", value=value, least=0.5, most=2.0)
    assert threshold.holds is holds
    assert threshold.describe().startswith("holds" if holds else "FAILED")


def test_a_ratio_to_nothing_is_no_number() -> None:
    """So that a phase without answers fails its thresholds rather than the run."""
    assert ratio(1.0, 2.0) == 0.5
    assert math.isnan(ratio(None, 2.0))
    assert math.isnan(ratio(1.0, None))
    assert math.isnan(ratio(1.0, 0.0))
