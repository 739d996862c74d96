"""Commands tied to the process that starts them: on Linux they end with it even where it is killed."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

SET_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of prctl."""


def tied(command: Sequence[str | Path]) -> list[str]:
    """The words that run `command` so that it is killed when its parent dies; elsewhere than on Linux, just `command`.

    To the kernel the parent is the thread that starts it.
    """
    words = [str(word) for word in command]
    if sys.platform != "linux":
        return words
    # A program that becomes the command: code between fork and exec is not safe beside gRPC's threads.
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *words]


def become(parent: int, command: list[str]) -> None:
    """Turn this process into `command`, tied to the process `parent` that started it."""
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, ctypes.c_ulong(signal.SIGKILL))
    if os.getppid() != parent:
        sys.exit("the process that wanted this one has ended")
    # Python ignores these two, and what is ignored stays so in the command.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.execvp(command[0], command)


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2:])
