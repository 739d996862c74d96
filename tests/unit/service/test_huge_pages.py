"""Memory in use moves to huge pages where the system can; what is not in use is left alone, so nothing grows."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import huge_pages
from service.huge_pages import use_huge_pages

MIB = 1 << 20


@pytest.fixture
def block() -> Iterator[mmap.mmap]:
    """64 MiB that nothing has been written to."""
    if sys.platform == "win32":
        raise AssertionError("not a system of ours")
    with mmap.mmap(-1, 64 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        yield memory


def resident_kib() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE // 1024


def can_collapse(memory: mmap.mmap) -> bool:
    """Whether this system moves one huge page of `memory` that is in use when asked (Linux 6.1, not forbidden)."""
    memory[: 4 * MIB] = b"\x01" * (4 * MIB)
    try:
        memory.madvise(huge_pages._COLLAPSE, 0, 4 * MIB)
    except OSError:
        return False
    return True


def test_what_was_written_moves_and_what_was_not_stays(block: mmap.mmap) -> None:
    """Of half a block that is in use, huge pages hold at least all but its ends; the process does not grow."""
    possible = can_collapse(block)
    use_huge_pages()
    block[: 32 * MIB] = b"\x01" * (32 * MIB)
    before = resident_kib()
    moved = use_huge_pages()
    assert moved >= 28 * MIB if possible else moved == 0
    assert resident_kib() - before < 2 * 1024
    assert block[: 32 * MIB] == b"\x01" * (32 * MIB)
    assert block[32 * MIB :] == bytes(32 * MIB)


def test_a_system_without_them_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting for huge pages: nothing is asked of the kernel."""
    monkeypatch.setattr(huge_pages, "_SIZE", tmp_path / "nothing")
    assert use_huge_pages() == 0


def test_only_memory_of_this_process_is_looked_at() -> None:
    """Files, shared and read-only memory are none of it, nor are the ends that fill no huge page."""
    mappings = [
        "00200000-00a00000 r--p 00000000 00:00 0",
        "00a00000-00e00000 rw-s 00000000 00:00 0",
        "00e00000-01200000 rw-p 00000000 08:01 42 /usr/lib/libc.so",
        "013ff000-01a01000 rw-p 00000000 00:00 0 [heap]",
    ]
    assert list(huge_pages._huge_pages(mappings, 2 * MIB)) == [0x1400000, 0x1600000, 0x1800000]
