"""How a program that starts others ends: SIGTERM and SIGHUP unwind it as Ctrl-C does, so that it stops them."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from types import FrameType


def run_program(main: Callable[[], int]) -> int:
    """Runs `main`, in which SIGTERM and SIGHUP are a KeyboardInterrupt; returns its exit code.

    After a signal, that is 128 and the signal's number, whatever `main` still did. A SIGHUP that is ignored, as under
    nohup, stays so. A second signal does not wait for what the first one began.
    """
    came: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        came.append(number)
        _interrupt_loop(at_once=len(came) > 1)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        code = main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 128 + signal.SIGINT
    return 128 + came[0] if came else code


def _interrupt_loop(*, at_once: bool) -> None:
    """Interrupt the event loop between two of its callbacks: inside one, or in a `__del__`, that could get lost."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        at_once = True
    if at_once:
        raise KeyboardInterrupt
    loop.call_soon_threadsafe(_interrupt)


def _interrupt() -> None:
    raise KeyboardInterrupt
