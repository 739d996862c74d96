"""`make demo`'s program, as a process: it works from end to end, and says in one line when it does not."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

SECONDS = 240


def run_demo(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the demo with ``arguments`` and wait for its end."""
    return subprocess.run(
        [sys.executable, "-m", "examples.demo", *arguments],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def servers_of(bundle: Path) -> list[str]:
    """Command lines of the processes that serve ``bundle``."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                command = (process / "cmdline").read_bytes().decode().replace("\0", " ")
            except OSError:
                continue
            if "-m service" in command and str(bundle) in command:
                found.append(command)
    return found


def test_the_demo_exports_serves_translates_measures_and_stops(
    tiny_checkpoint: Path, repository: Path, tmp_path: Path
) -> None:
    """All six steps happen, every phase has a latency, and no server is left behind."""
    result = run_demo(
        repository, "--checkpoint", str(tiny_checkpoint), "--precision", "fp32", "--output", str(tmp_path)
    )
    assert result.returncode == 0, result.stderr
    assert [f"[{step}/6]" in result.stdout for step in range(1, 7)] == [True] * 6
    assert "36 calls at once" in result.stdout
    for phase in ("request", "queue", "encode", "decode", "detokenize"):
        assert any(line.split()[:1] == [phase] for line in result.stdout.splitlines()), phase
    assert re.search(r"in a browser: http://127\.0\.0\.1:\d+/\n", result.stdout)
    assert "exit code 0" in result.stdout
    assert servers_of(tmp_path) == []


def test_a_missing_checkpoint_is_one_line(repository: Path, tmp_path: Path) -> None:
    """Without a checkpoint there is nothing to show: one line, exit code 1."""
    result = run_demo(repository, "--checkpoint", str(tmp_path / "nowhere"), "--output", str(tmp_path / "out"))
    assert result.returncode == 1
    assert result.stderr.strip() == f"demo failed: there is no checkpoint at {tmp_path / 'nowhere'}"


def test_a_broken_bundle_is_one_line_and_leaves_no_server(repository: Path, tmp_path: Path) -> None:
    """A server that cannot start is reported with its own words."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    result = run_demo(repository, "--bundle", str(bundle), "--output", str(tmp_path / "out"))
    assert result.returncode == 1
    assert result.stderr.startswith("demo failed: the server ended with exit code 2: service: ")
    assert len(result.stderr.strip().splitlines()) == 1
    assert servers_of(bundle) == []


def test_ending_the_demo_ends_its_server(tiny_bundle: Path, repository: Path, tmp_path: Path) -> None:
    """SIGTERM in the middle of the demo takes the server down with it."""
    command = [sys.executable, "-u", "-m", "examples.demo", "--bundle", str(tiny_bundle), "--output", str(tmp_path)]
    with subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        assert any("gRPC on port" in line for line in demo.stdout)
        demo.terminate()
        demo.stdout.read()
        assert demo.wait(60) == 128 + signal.SIGTERM
    assert servers_of(tiny_bundle) == []
