"""The C library's allocator, told what it cannot guess of a process that holds a few large blocks for long.

glibc only (see `man mallopt`, `man malloc_trim`); elsewhere nothing is done.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGE_BYTES = 1 << 20
_KEPT_BYTES = 64 << 20


def keep_large_blocks_apart() -> None:
    """Blocks of 1 MiB and more are mappings of their own, which go back to the system when freed.

    By default the bound rises with each one that is freed, weights and caches come to lie in the heap among what lives
    on, and every model that is loaded and unloaded leaves holes there.
    """
    _call("mallopt", _MMAP_THRESHOLD, _LARGE_BYTES)
    _call("mallopt", _TRIM_THRESHOLD, _KEPT_BYTES)


def return_free_memory() -> None:
    """Freed memory goes back to the system at once, where the allocator would keep it for later."""
    _call("malloc_trim", 0)


def _call(function: str, *arguments: int) -> None:
    found = getattr(ctypes.CDLL(None), function, None)
    if found is not None:
        found(*arguments)
