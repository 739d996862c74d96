"""Which state files are in, so that certificates and tokens can be replaced while the server runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

FileState = tuple[tuple[int, int, int], ...]
"""Inode, size and time of change (ns) of each file; empty where one cannot be seen."""


def file_state(paths: Sequence[Path]) -> FileState:
    """The state of all `paths`, links followed: mounted secrets are swapped by a link."""
    try:
        seen = [path.stat() for path in paths]
    except OSError:
        return ()
    return tuple((each.st_ino, each.st_size, each.st_mtime_ns) for each in seen)
