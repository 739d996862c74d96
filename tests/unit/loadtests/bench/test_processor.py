"""Whose processor time counts as others'."""

from __future__ import annotations

import subprocess
import sys

import pytest

from loadtests.bench.processor import others_cpu_seconds, others_cpu_share, process_cpu_seconds, usable_cores

BUSY = "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\ninput()"
"""Half a second of work, a line when it is done, and the end with the next line."""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_what_this_process_started_is_not_others() -> None:
    """A child's work is seen in its own figure; that of the child's child is others'."""
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert process_cpu_seconds(child.pid) >= 0.4
        child.communicate(b"\n")
    grandchild = [sys.executable, "-c", f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BUSY!r}])"]
    before = others_cpu_seconds()
    with subprocess.Popen(grandchild, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        after = others_cpu_seconds()
        child.communicate(b"\n")
    assert before is not None
    assert after is not None
    assert after - before >= 0.4


def test_a_share_is_of_all_usable_cores() -> None:
    """Two seconds of one core in four seconds."""
    assert others_cpu_share(10.0, 12.0, seconds=4.0) == pytest.approx(0.5 / usable_cores())
    assert others_cpu_share(10.0, 9.0, seconds=4.0) == 0.0  # a process has ended
    assert others_cpu_share(None, 9.0, seconds=4.0) is None
