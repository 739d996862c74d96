"""Rows are dense before every step, in two parts, with as few moves as there can be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.engine.sharing import TimeShare
from service.engine.slots import RowPool


@given(st.permutations(range(12)), st.integers(0, 12), st.integers(0, 12))
def test_arranged_rows_are_dense_and_nothing_is_overwritten(order: list[int], one: int, other: int) -> None:
    """Following the moves in order brings each row's content to its part; a row on its side never moves."""
    low, high = sorted((one, other))
    first, rest = order[:low], order[low:high]
    pool = RowPool(12)
    content = {row: row for row in first + rest}
    for source, target in pool.arrange(first, rest):
        assert target not in content
        assert source == pool.spare or content[source] == source
        content[target] = content.pop(source)
    assert sorted(content) == list(range(high))
    assert {content[row] for row in range(low)} == set(first)
    assert all(content[row] == row for row in first if row < low)
    assert all(content[row] == row for row in rest if low <= row < high)
    assert pool.end == high


def test_rows_are_given_out_from_the_holes_first() -> None:
    """A newcomer fills the hole that another left."""
    pool = RowPool(4)
    assert [pool.take() for _ in range(3)] == [0, 1, 2]
    pool.give_back(1)
    assert pool.take() == 1
    assert pool.take() == 3


def test_bulk_work_gets_its_share_of_time_and_no_more() -> None:
    """With interactive turns of 1 and 9 more for bulk, a share of 0.4 slows interactive turns by less than 1 / 0.6."""
    share = TimeShare(0.4)
    interactive_turns = spent = 0.0
    for _ in range(4000):
        joins = share.bulk_joins(interactive=True)
        seconds = 10.0 if joins else 1.0
        share.spent(seconds, interactive=True, bulk=joins)
        interactive_turns += 1
        spent += seconds
    slowdown = spent / interactive_turns
    assert 1.5 < slowdown < 1.0 / 0.6 + 0.05


def test_bulk_work_alone_runs_in_every_turn() -> None:
    """Nothing is held back for nobody."""
    share = TimeShare(0.4)
    for _ in range(5):
        assert share.bulk_joins(interactive=False)
        share.spent(1.0, interactive=False, bulk=True)
