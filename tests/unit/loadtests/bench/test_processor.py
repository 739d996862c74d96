"""Whose processor time counts as others'."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.bench import processor
from loadtests.bench.processor import others_cpu_seconds, others_cpu_share, process_cpu_seconds, usable_cores

BUSY = "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\ninput()"
"""Half a second of work, a line when it is done, and the end with the next line."""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_process_is_seen_to_work() -> None:
    """As long as it says itself, and not at all when it has ended."""
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert 0.4 <= process_cpu_seconds(child.pid) < 5.0
        child.communicate(b"\n")
    assert process_cpu_seconds(child.pid) == 0.0


def test_what_this_process_started_is_not_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is its own work; that of a child's child is, and that of a process which has ended, at its parent."""
    own, tick = os.getpid(), os.sysconf("SC_CLK_TCK")
    child, grandchild, stranger, gone = range(own + 1, own + 5)

    def write(process: int, parent: int, seconds: int, *, children: int = 0) -> None:
        (tmp_path / str(process)).mkdir(exist_ok=True)
        middle = " ".join(["0"] * 9)
        times = f"{seconds * tick} {tick} {children * tick} 0"
        (tmp_path / str(process) / "stat").write_text(f"{process} (a (strange) name) R {parent} {middle} {times} 20\n")

    for process, parent, seconds in ((own, 1, 100), (child, own, 10), (grandchild, child, 3), (stranger, 1, 4)):
        write(process, parent, seconds)
    (tmp_path / str(gone)).mkdir()
    (tmp_path / "meminfo").touch()
    monkeypatch.setattr(processor, "_PROCESSES", tmp_path)
    assert others_cpu_seconds() == (3 + 1) + (4 + 1)
    write(gone, stranger, 300)
    assert others_cpu_seconds() == 9 + 301
    (tmp_path / str(gone) / "stat").unlink()
    write(stranger, 1, 4, children=305)
    assert others_cpu_seconds() == 9 + 305


def test_a_share_is_of_all_usable_cores() -> None:
    """Two seconds of one core in four seconds."""
    assert others_cpu_share(10.0, 12.0, seconds=4.0) == pytest.approx(0.5 / usable_cores())
    assert others_cpu_share(10.0, 9.0, seconds=4.0) == 0.0  # a process has ended
    assert others_cpu_share(None, 9.0, seconds=4.0) is None
