"""The processor: what it is, how many cores we may use, and how much of it others use meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

_USER_AND_SYSTEM = slice(11, 13)
"""Fields 14 and 15 of /proc/PID/stat, counted after the command's closing bracket (man 5 proc)."""
_TOLD_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "i8mm")


def others_cpu_seconds() -> float | None:
    """CPU seconds that all processes but this one have used since they began; None where there is no /proc."""
    entries = [entry for entry in Path("/proc").glob("[0-9]*") if entry.name != str(os.getpid())]
    if not entries:
        return None
    return sum(map(_ticks, entries)) / os.sysconf("SC_CLK_TCK")


def process_cpu_seconds(process_id: int) -> float:
    """CPU seconds that one process has used; 0 where there is no /proc."""
    return _ticks(Path(f"/proc/{process_id}")) / os.sysconf("SC_CLK_TCK")


def _ticks(entry: Path) -> int:
    try:
        fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:  # it has ended
        return 0
    return sum(map(int, fields[_USER_AND_SYSTEM]))


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def hardware() -> dict[str, object]:
    """The class of hardware: processor family, usable cores, vector instructions that matter here."""
    facts: dict[str, str] = {}
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    return {
        "processor": facts.get("model name", "unknown"),
        "cores": usable_cores(),
        "vector_instructions": [flag for flag in _TOLD_FLAGS if flag in flags],
    }
