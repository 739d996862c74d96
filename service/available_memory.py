"""How much memory this process may really use: the cgroup's limit where there is one, else the machine's."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")


def available_memory(cgroup_root: Path = CGROUP_ROOT) -> int:
    """Bytes this process may use.

    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html (memory.max), and its version 1 (limit_in_bytes).
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [_limit(cgroup_root / "memory.max"), _limit(cgroup_root / "memory" / "memory.limit_in_bytes")]
    return min([machine, *(limit for limit in limits if limit is not None)])


def _limit(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
