"""Which cores the generator and the server take: one of its own for the generator where there are two."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Cores:
    """Core numbers for each side; empty means that nothing is pinned."""

    generator: frozenset[int]
    server: frozenset[int]

    @classmethod
    def apart(cls) -> Self:
        """The last core for the generator, the others for the server; nothing pinned on one core."""
        usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        if len(usable) < 2:
            return cls(frozenset(), frozenset())
        return cls(frozenset(usable[-1:]), frozenset(usable[:-1]))

    @classmethod
    def shared(cls) -> Self:
        """Both sides everywhere, as the system sees fit."""
        return cls(frozenset(), frozenset())


def pin(process_id: int, cores: frozenset[int]) -> None:
    """Keep a process (0: this one) and the threads it will start on `cores`, if there are any."""
    if cores:
        os.sched_setaffinity(process_id, cores)
