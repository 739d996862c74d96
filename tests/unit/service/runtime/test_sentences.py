"""Rows and the places of their sentences point at each other, and nothing points at a row that is not there."""

from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.graph_names import LANES
from service.runtime.sentences import SentenceMap
from tests.doubles import fake_runner

ROWS = 20


def owner_by_lane(places: SentenceMap, rows: int) -> list[int]:
    """For each row, the row that reads the place whose result the row takes: itself, if all is well."""
    narrow = places.narrow_rows[: places.narrow_count].tolist()
    wide = places.wide_rows[: places.wide_count].ravel().tolist()
    return [(narrow + wide)[lane] for lane in places.lane[:rows].tolist()]


@given(
    st.lists(st.integers(1, 8), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
    st.sets(st.integers(0, 11)),
    st.booleans(),
)
def test_every_row_gets_the_result_of_its_own_sentence(
    lanes: list[int], shuffle: Random, closed: set[int], all_places: bool
) -> None:
    """Whatever mix of greedy and beam sentences is open, in whatever order their rows lie, all places read or not."""
    places = SentenceMap(fake_runner.limits(row_slots=ROWS), all_places=all_places)
    open_slots: dict[int, int] = {}
    for slot, count in enumerate(lanes):
        if sum(open_slots.values()) + count <= ROWS:
            places.open(slot, lanes=count, length=slot + 3)
            open_slots[slot] = count
    for slot in closed & set(open_slots):
        places.close(slot)
        del open_slots[slot]
    rows = [slot for slot, count in open_slots.items() for _ in range(count)]
    shuffle.shuffle(rows)
    if not rows:
        return
    places.arrange(rows)
    if all_places:
        assert (places.narrow_count, places.wide_count) == (len(places.narrow_rows), len(places.wide_rows))
    assert owner_by_lane(places, len(rows)) == list(range(len(rows)))
    assert places.narrow_rows[: places.narrow_count].max() < len(rows)
    assert places.wide_rows[: places.wide_count].max() < len(rows)
    for row, slot in enumerate(rows):
        lane = int(places.lane[row])
        narrow = lane < places.narrow_count
        length = places.narrow_lengths[lane] if narrow else places.wide_lengths[(lane - places.narrow_count) // LANES]
        assert length == slot + 3


def test_no_row_of_an_earlier_step_is_read_after_the_wide_ones_left() -> None:
    """A step without beams reads row 0 in the one wide block that every step has, not a row that is gone."""
    places = SentenceMap(fake_runner.limits(row_slots=ROWS))
    places.open(0, lanes=1, length=3)
    places.open(1, lanes=4, length=3)
    places.arrange([0, 1, 1, 1, 1])
    places.close(1)
    places.arrange([0])
    assert places.wide_count == 1
    np.testing.assert_array_equal(places.wide_rows[:1], np.zeros((1, LANES)))


def test_an_unused_place_is_one_position_long() -> None:
    """What nobody reads costs next to nothing, and is never empty."""
    places = SentenceMap(fake_runner.limits(row_slots=ROWS))
    places.open(0, lanes=1, length=9)
    places.open(1, lanes=5, length=9)
    places.close(0)
    places.close(1)
    assert set(places.narrow_lengths.tolist()) == {1}
    assert set(places.wide_lengths.tolist()) == {1}


def test_places_are_arranged_anew_when_a_slot_gets_another_sentence() -> None:
    """The same slots in the same rows are not the same sentences: one that has left gave its place away."""
    places = SentenceMap(fake_runner.limits(row_slots=ROWS))
    for slot in (0, 1):
        places.open(slot, lanes=1, length=3)
    places.arrange([0, 1])
    places.close(0)
    places.open(2, lanes=1, length=4)
    places.open(0, lanes=1, length=5)
    places.arrange([0, 1])
    assert owner_by_lane(places, 2) == [0, 1]
    assert places.narrow_lengths[places.lane[0]] == 5


def test_few_beams_read_few_blocks() -> None:
    """One sentence with four beams reads one block, whatever there is room for; many read a multiple of eight."""
    places = SentenceMap(fake_runner.limits(row_slots=64))
    counts = []
    for slot in range(10):
        places.open(slot, lanes=4, length=3)
        places.arrange([each for each in range(slot + 1) for _ in range(4)])
        counts.append(places.wide_count)
    assert counts == [1, 2, 4, 4, 8, 8, 8, 8, 16, 16]
