"""Slots: numbered places for sentences, and a dense pool of rows that a decode step runs over."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


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
    """Rows 0 to `end`-1 of which some may be holes, until `arrange` makes them dense.

    `reserve` counts rows promised to sequences (a beam search starts on one row and spreads to all of its own).
    There is one row more than can be promised, `spare`, through which two rows can change places.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.spare = capacity
        self.end = 0
        self.reserved = 0
        self.changed = False
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
        self.changed = True
        if self._holes:
            return heapq.heappop(self._holes)
        if self.end == self.capacity:
            raise RuntimeError("rows used beyond the promise: this is a bug")
        self.end += 1
        return self.end - 1

    def give_back(self, row: int) -> None:
        """Leave a hole where `row` was."""
        self.changed = True
        heapq.heappush(self._holes, row)

    def arrange(self, first: Sequence[int], rest: Sequence[int]) -> list[tuple[int, int]]:
        """Moves (source, target), in order, that bring rows `first` to the front and `rest` right behind them.

        Whoever already is on its side stays where it is. `first` and `rest` are all the rows in use.
        """
        boundary, self.end = len(first), len(first) + len(rest)
        self.changed = False
        self._holes = []
        pending = _sides(first, range(boundary)) | _sides(rest, range(boundary, self.end))
        occupied = {*first, *rest}
        moves: list[tuple[int, int]] = []
        while pending:
            source = next((each for each, target in pending.items() if target not in occupied), None)
            if source is None:  # a circle: one of it steps aside
                source, target = next(iter(pending.items()))
                del pending[source]
                pending[self.spare] = target
                target = self.spare
            else:
                target = pending.pop(source)
            moves.append((source, target))
            occupied.remove(source)
            occupied.add(target)
        return moves


def _sides(rows: Sequence[int], places: range) -> dict[int, int]:
    """Where each of `rows` that lies outside `places` goes: the places that none of `rows` holds."""
    held = set(rows)
    free = (place for place in places if place not in held)
    return {row: next(free) for row in rows if row not in places}
