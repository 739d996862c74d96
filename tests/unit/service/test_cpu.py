"""Cores are counted by affinity and cgroup quota."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.cpu import available_cores, cgroup_quota


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu.max": "what is this"}, None),
        ({"cpu.max": "100000 0"}, None),
        ({}, None),
    ],
)
def test_the_quota_of_either_cgroup_version_is_read(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    """Unlimited, missing and unreadable mean no quota."""
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    assert cgroup_quota(tmp_path) == quota


def test_a_quota_bounds_the_cores_of_the_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a core count as one; there is always one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    assert available_cores(tmp_path) == 4
    for quota, cores in (("250000", 3), ("10000", 1), ("800000", 4)):
        (tmp_path / "cpu.max").write_text(f"{quota} 100000")
        assert available_cores(tmp_path) == cores
