"""Where the cross-attention keys and values of each sentence lie, and which rows read them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from service.engine import ModelLimits
from service.engine.slots import SlotPool
from service.graph_names import LANES
from service.runtime.memory import wide_blocks

_GRAIN = 8
"""The number of places a step reads is rounded up to this, so that few shapes occur; an unused place costs little."""
_FEW_BLOCKS = (1, 2, 4)
"""An unused wide block costs as much as its four rows would, so fewer are read where few are in use."""


class SentenceMap:
    """Sentences with one row have a narrow place, those with several one or two wide blocks of LANES rows.

    `narrow_rows` int64 (narrow) and `wide_rows` int64 (blocks, LANES) say which row reads which place; `lane` int64
    (rows) is the way back, an index into all narrow results followed by all wide ones. `narrow_lengths` and
    `wide_lengths` int32 are source lengths; an unused place has length 1 and reads row 0, and nobody reads its result.
    A step reads the first `narrow_count` places and `wide_count` blocks; with `all_places` it reads them all.
    """

    def __init__(self, limits: ModelLimits, *, all_places: bool = False) -> None:
        blocks = wide_blocks(limits.row_slots)
        self.narrow_rows: npt.NDArray[np.int64] = np.zeros(limits.row_slots, np.int64)
        self.narrow_lengths: npt.NDArray[np.int32] = np.ones(limits.row_slots, np.int32)
        self.wide_rows: npt.NDArray[np.int64] = np.zeros((blocks, LANES), np.int64)
        self.wide_lengths: npt.NDArray[np.int32] = np.ones(blocks, np.int32)
        self.lane: npt.NDArray[np.int64] = np.zeros(limits.row_slots, np.int64)
        self._all_places = all_places
        self.narrow_count = limits.row_slots if all_places else 1
        self.wide_count = blocks if all_places else 1
        self._narrow = SlotPool(limits.row_slots)
        self._wide = SlotPool(blocks)
        self._narrow_of: npt.NDArray[np.int64] = np.full(limits.sentence_slots, -1, np.int64)
        self._blocks_of: npt.NDArray[np.int64] = np.full((limits.sentence_slots, 2), -1, np.int64)
        self._arranged: npt.NDArray[np.integer] | None = None

    def open(self, slot: int, *, lanes: int, length: int) -> tuple[list[int], list[int]]:
        """Give sentence `slot` its places; returns (narrow places, wide blocks) that hold its keys and values."""
        self._arranged = None
        if lanes == 1:
            place = self._narrow.take()
            self._narrow_of[slot] = place
            self.narrow_lengths[place] = length
            return [place], []
        blocks = [self._wide.take() for _ in range(-(-lanes // LANES))]
        self._blocks_of[slot, : len(blocks)] = blocks
        self.wide_lengths[blocks] = length
        return [], blocks

    def close(self, slot: int) -> None:
        """Free the places of `slot`; harmless when it has none."""
        self._arranged = None
        if self._narrow_of[slot] >= 0:
            place = int(self._narrow_of[slot])
            self._narrow.give_back(place)
            self.narrow_lengths[place] = 1
        for block in self._blocks_of[slot][self._blocks_of[slot] >= 0].tolist():
            self._wide.give_back(block)
            self.wide_lengths[block] = 1
        self._narrow_of[slot] = -1
        self._blocks_of[slot] = -1

    def place_of(self, slot: int) -> tuple[int | None, int | None]:
        """(narrow place, first wide block) of an open sentence; one of them is None."""
        if self._narrow_of[slot] >= 0:
            return int(self._narrow_of[slot]), None
        return None, int(self._blocks_of[slot, 0])

    def arrange(self, slots: Sequence[int] | npt.NDArray[np.integer]) -> None:
        """Point places and rows at each other for a step whose row r belongs to sentence `slots[r]`.

        From one step to the next this seldom changes, and then nothing is done.
        """
        slots = np.asarray(slots)
        if self._arranged is not None and np.array_equal(slots, self._arranged):
            return
        self._arranged = slots.copy()
        places = self._narrow_of[slots]
        narrow = np.flatnonzero(places >= 0)
        places = places[narrow]
        self.narrow_count = self._count(places, most=len(self.narrow_rows))
        self.narrow_rows[: self.narrow_count] = 0
        self.narrow_rows[places] = narrow
        self.lane[narrow] = places
        self.wide_count = self._count(self._blocks_of[:0], most=len(self.wide_rows))
        self.wide_rows[: self.wide_count] = 0
        if len(narrow) < len(slots):
            self._arrange_wide(slots, np.flatnonzero(self._narrow_of[slots] < 0))

    def _arrange_wide(self, slots: npt.NDArray[np.integer], rows: npt.NDArray[np.intp]) -> None:
        rows = rows[np.argsort(slots[rows], kind="stable")]
        owners = slots[rows]
        first_of_owner = np.searchsorted(owners, owners, side="left")
        rank = np.arange(len(rows)) - first_of_owner
        blocks = self._blocks_of[owners, rank // LANES]
        used = self._blocks_of[np.unique(owners)]
        self.wide_count = self._count(used, most=len(self.wide_rows), few=_FEW_BLOCKS)
        self.wide_rows[: self.wide_count] = 0
        self.wide_rows[blocks, rank % LANES] = rows
        self.lane[rows] = self.narrow_count + blocks * LANES + rank % LANES

    def _count(self, used: npt.NDArray[np.int64], *, most: int, few: tuple[int, ...] = ()) -> int:
        """How many places a step reads when it needs those in `used`: at least one, as the graph wants."""
        if self._all_places:
            return most
        if not used.size:
            return 1
        needed = int(used.max()) + 1
        return min(next((count for count in few if count >= needed), -(-needed // _GRAIN) * _GRAIN), most)
