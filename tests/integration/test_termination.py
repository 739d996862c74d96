"""A program that started servers leaves none behind, however it is ended; as processes, with /proc to look at."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import pytest

AMPLE_SECONDS = 10.0
HUNG_SECONDS = 60.0
BEGINNING = """
import asyncio, os, signal, sys
from pathlib import Path
from loadtests.bench.system_process import SystemProcess
from loadtests.server_process import ServerProcess
from loadtests.termination import run_program

SERVER = [sys.executable, "-c", "import time; print('SERVING grpc here', flush=True); time.sleep(600)"]
SYSTEM = [sys.executable, "-c", "import time; print('{}', flush=True); time.sleep(600)"]
STARTING = [sys.executable, "-c", "import time; time.sleep(600)"]

async def with_loop():
    with ServerProcess(SERVER), ServerProcess(SERVER):
        print("started", file=sys.stderr, flush=True)
        await asyncio.sleep(600)

def in_loop():
    asyncio.run(with_loop())

def in_starting():
    print("started", file=sys.stderr, flush=True)
    ServerProcess(STARTING).start()

def in_system():
    with SystemProcess("system", SYSTEM, log=Path(os.devnull)):
        print("started", file=sys.stderr, flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print("reported", file=sys.stderr, flush=True)
    return 0
"""


PREPARED = """
import os, signal, sys

ignored = int(sys.argv[1])
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN if number == ignored else signal.SIG_DFL)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Becomes a program that ignores one signal and no other, whatever these tests run under. Not between fork and exec:
what runs there, in a copy of a process with gRPC's threads, now and then dies of it."""


def state_and_parent(process: int) -> tuple[str, int]:
    """As /proc tells them; state Z, dead, where there is no such process."""
    try:
        state, parent = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()[:2]
    except OSError:
        return "Z", 0
    return state, int(parent)


def children_of(process: int) -> list[int]:
    """Process numbers of those that it started and that still run."""
    running = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    return [each for each in running if state_and_parent(each)[0] != "Z" and state_and_parent(each)[1] == process]


def alive(processes: Sequence[int]) -> list[int]:
    """Those of `processes` that run."""
    return [each for each in processes if state_and_parent(each)[0] != "Z"]


def left_of(processes: Sequence[int]) -> list[int]:
    """Those that still run when the kernel has had ample time to end them."""
    end = time.monotonic() + AMPLE_SECONDS
    while alive(processes) and time.monotonic() < end:
        time.sleep(0.01)
    return alive(processes)


@contextmanager
def started(
    command: Sequence[str], repository: Path, *, says: str, ignores: signal.Signals | None = None
) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """The program when it has said `says`, and its children; none of them outlives the test."""
    prepared = [sys.executable, "-c", PREPARED, str(int(ignores or 0)), *command]
    with subprocess.Popen(prepared, cwd=repository, stderr=subprocess.PIPE, text=True) as program:
        children: list[int] = []
        hung = Timer(HUNG_SECONDS, program.kill)
        hung.start()
        try:
            assert any(says in line for line in program.stderr or ())
            while not (children := children_of(program.pid)):
                time.sleep(0.01)
            yield program, children
        finally:
            hung.cancel()
            program.kill()
            for child in alive(children):
                os.kill(child, signal.SIGKILL)


def test_a_load_test_that_is_ended_leaves_no_server(repository: Path) -> None:
    """SIGTERM to it alone, under load, where SIGINT is ignored, as by a shell's background jobs."""
    command = [sys.executable, "-m", "loadtests", "steady", "--sleeping", "--ceiling-seconds", "0.05"]
    with started(command, repository, says="the generator's own ceiling", ignores=signal.SIGINT) as (program, children):
        program.terminate()
        code = program.wait()
        assert left_of(children) == []
        assert code == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("main", "number"),
    [("in_loop", signal.SIGTERM), ("in_starting", signal.SIGHUP), ("in_system", signal.SIGTERM)],
)
def test_servers_are_stopped_first(main: str, number: signal.Signals, repository: Path) -> None:
    """With an event loop and without, and before a server serves; who catches Ctrl-C may still report."""
    command = [sys.executable, "-c", f"{BEGINNING}\nsys.exit(run_program({main}))"]
    with started(command, repository, says="started") as (program, children):
        program.send_signal(number)
        words = program.stderr.read() if program.stderr else ""
        code = program.wait()
        assert left_of(children) == []
        assert code == 128 + number
        assert words == ("reported\n" if main == "in_system" else "interrupted\n")


@pytest.mark.parametrize("main", ["in_loop", "in_starting", "in_system"])
def test_servers_end_with_a_program_that_is_killed(main: str, repository: Path) -> None:
    """SIGKILL lets nobody stop anything: the kernel ends them."""
    command = [sys.executable, "-c", f"{BEGINNING}\nsys.exit(run_program({main}))"]
    with started(command, repository, says="started") as (program, children):
        program.kill()
        program.wait()
        assert left_of(children) == []


def test_nohup_goes_on(repository: Path) -> None:
    """A SIGHUP that was ignored at the start is ignored."""
    command = [sys.executable, "-c", f"{BEGINNING}\nsys.exit(run_program(in_loop))"]
    with started(command, repository, says="started", ignores=signal.SIGHUP) as (program, children):
        program.send_signal(signal.SIGHUP)
        program.terminate()
        code = program.wait()
        assert left_of(children) == []
        assert code == 128 + signal.SIGTERM
