"""Which sequence sits on which row: dense, interactive work first, so that a step can run over a prefix of the rows."""

from __future__ import annotations

from collections.abc import Sequence as Many

import numpy as np

from service.engine.options import Priority
from service.engine.rows import RowTable
from service.engine.runner import RowCopy
from service.engine.sequence import Sequence
from service.engine.slots import RowPool


class RowLayout:
    """Moves rows between steps so that no step runs over a hole, and interactive rows come before bulk rows."""

    def __init__(self, pool: RowPool, table: RowTable) -> None:
        self._pool = pool
        self._table = table

    def arrange(self, running: Many[Sequence]) -> list[RowCopy]:
        """Put every row of `running` in its place; returns the key/value copies that this takes, in order."""
        if not self._pool.changed:
            return []
        first = [row for each in running if each.priority is Priority.INTERACTIVE for row in each.rows.tolist()]
        rest = [row for each in running if each.priority is Priority.BULK for row in each.rows.tolist()]
        moves = self._pool.arrange(first, rest)
        if not moves:
            return []
        owners = {row: (each, lane) for each in running for lane, row in enumerate(each.rows.tolist())}
        copies: list[RowCopy] = []
        for source, target in moves:
            sequence, lane = owners.pop(source)
            owners[target] = sequence, lane
            sequence.rows[lane] = target
            length = int(self._table.lengths[source])
            self._table.copy(np.array([source]), np.array([target]))
            if length:
                copies.append(RowCopy(source=source, target=target, begin=0, end=length))
        return copies
