"""Memory that was freed goes back to the system at once, where the C library would keep it for later."""

from __future__ import annotations

import ctypes


def return_free_memory() -> None:
    """glibc's malloc_trim (see `man malloc_trim`); does nothing where there is none."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
