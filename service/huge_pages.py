"""Memory that is read at every step, moved to huge pages.

A step reads all weights once; with pages of 4 KiB a processor spends a part of that time on looking up where they lie.
Linux from 6.1 on moves memory that is in use to huge pages when asked (`MADV_COLLAPSE`, see `man 2 madvise`), whatever
the machine's setting for them is; elsewhere nothing is done.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path

_COLLAPSE = 25  # linux/mman.h
_SIZE = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
_MAPPINGS = Path("/proc/self/maps")


def use_huge_pages() -> int:
    """Move what this process has written, where it fills whole huge pages, to such pages; returns their bytes.

    The process does not grow: a huge page of which any part was never used is left as it is.
    """
    if not _SIZE.exists():
        return 0
    library = ctypes.CDLL(None)
    size = int(_SIZE.read_text(encoding="ascii"))
    resident = (ctypes.c_ubyte * (size // mmap.PAGESIZE))()
    moved = 0
    for address in _huge_pages(_MAPPINGS.read_text(encoding="utf-8").splitlines(), size):
        block = ctypes.c_void_p(address), ctypes.c_size_t(size)
        if library.mincore(*block, resident) == 0 and all(resident) and library.madvise(*block, _COLLAPSE) == 0:
            moved += size
    return moved


def _huge_pages(mappings: Iterable[str], size: int) -> Iterator[int]:
    """Addresses of whole huge pages in private, writable memory without a file (lines as in `man 5 proc_pid_maps`)."""
    for line in mappings:
        addresses, permissions, _, _, inode, *_ = line.split()
        if permissions != "rw-p" or inode != "0":
            continue
        begin, end = (int(address, 16) for address in addresses.split("-"))
        yield from range(-(-begin // size) * size, end - size + 1, size)
