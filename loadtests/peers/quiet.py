"""Waits until servers compute nothing any more: what one began for calls that were given up slows the next one down."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from loadtests.bench.processor import process_cpu_seconds

LOOK_SECONDS = 0.5
QUIET_SHARE = 0.1
"""Of a core, all servers together: what they take while they only wait."""
MOST_LOOKS = 120


async def until_quiet(process_ids: Sequence[int], *, look_seconds: float = LOOK_SECONDS) -> bool:
    """Return True once the processes have used hardly any time for `look_seconds`, False when they never stop."""
    before = sum(map(process_cpu_seconds, process_ids))
    for _ in range(MOST_LOOKS):
        await asyncio.sleep(look_seconds)
        now = sum(map(process_cpu_seconds, process_ids))
        if now - before <= QUIET_SHARE * look_seconds:
            return True
        before = now
    return False
