"""The memory a process may use is what its cgroup says, in either version, and never more than the machine has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.available_memory import available_memory

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("memory.max", "1048576\n", 1048576),
        ("memory.max", "max\n", MACHINE),
        ("memory/memory.limit_in_bytes", "2097152\n", 2097152),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", MACHINE),
        ("nothing", "", MACHINE),
    ],
)
def test_the_limit_of_the_cgroup_counts(tmp_path: Path, file: str, text: str, expected: int) -> None:
    """A limit is taken, "max" and the old way to say it are none."""
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert available_memory(tmp_path) == expected
