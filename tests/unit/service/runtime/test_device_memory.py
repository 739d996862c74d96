"""Copies between rows keep their order where it matters, and padding finds the shapes it should."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine import RowCopy
from service.errors import ConfigError
from service.runtime.device_memory import Device, copy_groups, zeroed
from service.runtime.staged_inputs import StagedInputs
from service.runtime.step_shapes import ENCODER_SENTENCES, StepShapes
from tests.doubles import fake_runner

ROWS = 6
CPU = Device(kind="cpu")


@given(st.lists(st.tuples(st.integers(0, ROWS - 1), st.integers(0, ROWS - 1)), max_size=10))
def test_groups_done_at_once_are_the_copies_done_in_order(pairs: list[tuple[int, int]]) -> None:
    """Reading a whole group before writing it leaves the same memory as one copy after the other."""
    copies = [RowCopy(source=source, target=target, begin=0, end=1) for source, target in pairs]
    in_order = list(range(ROWS))
    for copy in copies:
        in_order[copy.target] = in_order[copy.source]
    at_once = list(range(ROWS))
    groups = copy_groups(copies)
    for group in groups:
        assert len({copy.target for copy in group}) == len(group)
        for copy, value in zip(group, [at_once[copy.source] for copy in group], strict=True):
            at_once[copy.target] = value
    assert at_once == in_order
    assert [copy for group in groups for copy in group] == copies


def test_copies_that_do_not_touch_each_other_are_one_group() -> None:
    """A chain of moves down the rows needs one run of the graph, a read of what was just written a second one."""
    chain = [RowCopy(source=row + 1, target=row, begin=0, end=3) for row in range(4)]
    assert len(copy_groups(chain)) == 1
    assert len(copy_groups([*chain, RowCopy(source=0, target=5, begin=0, end=3)])) == 2


def test_a_position_is_found_in_every_plane() -> None:
    """A vector of the first plane plus a plane's offset is the same position of that layer and head."""
    memory = zeroed(CPU, (4, 3, 2, 5, 8), np.float32)
    vectors = memory.value.numpy().reshape(-1, 8)
    assert memory.vectors == len(vectors)
    content = np.arange(4 * 3 * 2 * 5).reshape(4, 3, 2, 5)
    expected = content[:, 1, :, 2:4].reshape(8, 2).T
    planes = memory.every_plane.numpy()
    np.testing.assert_array_equal(memory.vectors_of(1, 2, 4)[:, None] + planes, expected)
    np.testing.assert_array_equal(memory.vectors_of(1, 2, 4, index=3, head=1), content[3, 1, 1, 2:4])
    assert memory.pointer(2) - memory.pointer(0) == 2 * 3 * 2 * 5 * 8 * 4


def test_heads_that_are_no_whole_words_are_refused() -> None:
    """Three half floats are six bytes, and the graph moves eight at a time."""
    with pytest.raises(ConfigError, match="heads of 6 bytes"):
        zeroed(CPU, (2, 1, 1, 4, 3), np.float16)


def test_staged_inputs_arrive_together() -> None:
    """What is written to the arrays is on the device after send, each at its address, and not before."""
    staged = StagedInputs({"ids": (np.int64, (5,)), "lengths": (np.int32, (3,)), "pairs": (np.int64, (2, 2))}, CPU)
    staged.arrays["ids"][:] = np.arange(5)
    staged.arrays["pairs"][:] = [[1, 2], [3, 4]]
    ids = (ctypes.c_int64 * 5).from_address(staged.pointer("ids"))
    pairs = (ctypes.c_int64 * 4).from_address(staged.pointer("pairs"))
    assert not any([*ids, *pairs])
    staged.send()
    assert [*ids] == [0, 1, 2, 3, 4]
    assert [*pairs] == [1, 2, 3, 4]


def test_fast_mode_has_few_shapes_and_deterministic_mode_one() -> None:
    """Rows are padded to a list that ends at the row slots, or all to the same; so is what the encoder runs over."""
    limits = fake_runner.limits(row_slots=60)
    fast, deterministic = StepShapes("fast", limits), StepShapes("deterministic", limits)
    assert sorted({fast.rows(count) for count in range(1, 61)}) == [1, 2, 4, 8, 16, 32, 48, 60]
    assert all(fast.rows(count) >= count for count in range(1, 61))
    assert {deterministic.rows(count) for count in range(1, 61)} == {60}
    assert (fast.encoder_sentences(3), fast.encoder_width(7)) == (3, 7)
    assert (deterministic.encoder_sentences(3), deterministic.encoder_width(7)) == (ENCODER_SENTENCES, 12)
