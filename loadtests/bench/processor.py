"""The processor: what it is, how many cores we may use, and how much of it others use meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_PROCESSES = Path("/proc")
_PARENT, _OWN, _WITH_CHILDREN = 1, slice(11, 13), slice(11, 15)
"""Fields 4 and 14 to 17 of /proc/PID/stat, counted after the command's closing bracket (man 5 proc)."""
_TOLD_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "i8mm")


def others_cpu_seconds() -> float | None:
    """CPU seconds of all processes but this one and those it started; None where there is no /proc.

    With those of children that have ended, so that what a process used still counts, at its parent, when it is gone.
    """
    own = str(os.getpid())
    entries = [entry for entry in _PROCESSES.glob("[0-9]*") if entry.name != own]
    if not entries:
        return None
    others = (fields for entry in entries if (fields := _stat(entry)) and fields[_PARENT] != own)
    return _seconds(others, _WITH_CHILDREN)


def others_cpu_share(before: float | None, after: float | None, *, seconds: float) -> float | None:
    """The part of the usable cores that others took in `seconds`; None where the system does not tell."""
    if before is None or after is None:
        return None
    return max(0.0, after - before) / (seconds * usable_cores())


def process_cpu_seconds(process_id: int) -> float:
    """CPU seconds that one process has used; 0 where there is no /proc."""
    fields = _stat(_PROCESSES / str(process_id))
    return _seconds([fields] if fields else [], _OWN)


def _seconds(stats: Iterable[list[str]], which: slice) -> float:
    return sum(sum(map(int, fields[which])) for fields in stats) / os.sysconf("SC_CLK_TCK")


def _stat(entry: Path) -> list[str]:
    try:
        return (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:  # it has ended
        return []


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
