"""How many CPU cores this process may really use: affinity and cgroup quota, never the host's core count."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")


def available_cores(cgroup_root: Path = CGROUP_ROOT) -> int:
    """Whole cores this process may use: at least 1; a quota of 1.5 cores counts as 2."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    quota = cgroup_quota(cgroup_root)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def cgroup_quota(cgroup_root: Path = CGROUP_ROOT) -> float | None:
    """Cores granted by the cgroup's CFS quota (version 2, else version 1), None without one.

    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max), and its version 1 (cpu.cfs_quota_us).
    """
    unified = _read(cgroup_root / "cpu.max").split()
    if len(unified) == 2 and unified[0] != "max":
        return _ratio(unified[0], unified[1])
    legacy = _read(cgroup_root / "cpu" / "cpu.cfs_quota_us").strip()
    if legacy and not legacy.startswith("-"):
        return _ratio(legacy, _read(cgroup_root / "cpu" / "cpu.cfs_period_us"))
    return None


def _ratio(quota: str, period: str) -> float | None:
    try:
        granted = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return granted if granted > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
