"""Slots: numbered places for sentences, and a dense pool of rows that a decode step runs over."""

from __future__ import annotations

import heapq


class SlotPool:
    """Numbered places 0 to capacity-1; the lowest free one is given first, so used memory stays compact."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._free = list(range(capacity))

    @property
    def used(self) -> int:
        """Slots given out."""
        return self.capacity - len(self._free)

    def take(self) -> int:
        """The lowest free slot; the caller has checked that there is one."""
        if not self._free:
            raise RuntimeError("no free slot: this is a bug")
        return heapq.heappop(self._free)

    def give_back(self, slot: int) -> None:
        """Return a slot that `take` gave."""
        heapq.heappush(self._free, slot)


class RowPool:
    """Rows 0 to `end`-1 of which some may be holes; a step wants none, so holes are filled or closed.

    `reserve` counts rows promised to sequences (a beam search starts on one row and spreads to all of its own).
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.end = 0
        self.reserved = 0
        self._holes: list[int] = []

    @property
    def unreserved(self) -> int:
        """Rows that can still be promised."""
        return self.capacity - self.reserved

    def reserve(self, rows: int) -> None:
        """Promise `rows` rows."""
        if rows > self.unreserved:
            raise RuntimeError("more rows promised than there are: this is a bug")
        self.reserved += rows

    def unreserve(self, rows: int) -> None:
        """Take a promise back."""
        self.reserved -= rows

    def take(self) -> int:
        """A row: the lowest hole, or the next at the end."""
        if self._holes:
            return heapq.heappop(self._holes)
        if self.end == self.capacity:
            raise RuntimeError("rows used beyond the promise: this is a bug")
        self.end += 1
        return self.end - 1

    def give_back(self, row: int) -> None:
        """Leave a hole where `row` was."""
        heapq.heappush(self._holes, row)

    def close_holes(self) -> list[tuple[int, int]]:
        """Moves (source, target) that make rows 0 to `end`-1 dense again; the fewest there can be."""
        holes = set(self._holes)
        moves: list[tuple[int, int]] = []
        while holes:
            last = self.end - 1
            if last in holes:
                holes.remove(last)
            else:
                target = min(holes)
                holes.remove(target)
                moves.append((last, target))
            self.end = last
        self._holes = []
        return moves
