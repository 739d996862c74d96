"""A signal reaches the event loop, however many calls from other threads wait there."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from service.signals import call_on_signal

NUMBER = signal.SIGUSR1


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """What was done at the signal before is done again afterwards."""
    before = signal.getsignal(NUMBER)
    yield
    signal.signal(NUMBER, before)


@pytest.mark.parametrize("waiting", [0, 10_000])
async def test_no_signal_is_lost(waiting: int) -> None:
    """Each token of a stream is a call from a worker's thread: SIGTERM once came while so many waited, and was lost."""
    came, loop = asyncio.Event(), asyncio.get_running_loop()
    call_on_signal(loop, NUMBER, came.set)
    for _ in range(waiting):
        loop.call_soon_threadsafe(lambda: None)
    os.kill(os.getpid(), NUMBER)
    async with asyncio.timeout(20):
        await came.wait()
