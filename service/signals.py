"""Signals as calls on the event loop, none of which is ever lost."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from types import FrameType


def call_on_signal(loop: asyncio.AbstractEventLoop, number: signal.Signals, callback: Callable[[], object]) -> None:
    """Calls `callback` on `loop` for each signal `number` from now on; for the main thread, with or without a loop.

    `loop.add_signal_handler` would lose signals under load: it has C write a byte to the very socket that every
    `call_soon_threadsafe` writes one to, and a byte that finds the socket full is dropped, with the signal that it is.
    """

    def handle(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(callback)

    signal.signal(number, handle)
