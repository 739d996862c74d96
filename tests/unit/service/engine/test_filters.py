"""Bans reach the runner row by row, equally many for each: that is what lets the graph write them in place."""

import numpy as np

from service.engine import DecodingOptions, Priority
from service.engine.filters import LogitFilter
from service.engine.rows import RowTable
from service.engine.sequence import Sequence
from tests.doubles.fake_runner import EOS, PAD, limits


def sequence(row: int, options: DecodingOptions) -> Sequence:
    """A sequence on `row`."""
    made = Sequence(
        source_ids=np.array([5, EOS], np.int32),
        options=options,
        max_output_tokens=9,
        priority=Priority.BULK,
        deadline=None,
        seed=0,
        submitted=0.0,
    )
    made.rows = np.array([row])
    return made


def test_rows_have_equally_many_bans_in_their_order() -> None:
    """A row with fewer bans than another has <pad> again; without options each row has it once."""
    model = limits(row_slots=4)
    table = RowTable(model)
    table.tokens[1, :5], table.lengths[1] = [7, 8, 7, 9, 7], 5
    running = [
        sequence(0, DecodingOptions(min_output_tokens=3)),
        sequence(1, DecodingOptions(no_repeat_ngram_size=2)),
        sequence(2, DecodingOptions()),
    ]
    bans = LogitFilter(model).bans(table, running, 3)
    assert bans[:, 0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert {token for row, token in bans.tolist() if row == 1} == {8, 9, PAD}
    assert {token for row, token in bans.tolist() if row == 0} == {EOS, PAD}
    assert LogitFilter(model).bans(table, running[2:], 3).tolist() == [[0, PAD], [1, PAD], [2, PAD]]
