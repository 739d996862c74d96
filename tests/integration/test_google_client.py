"""Google's official client, in an environment and a process of its own, against our server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles.edge_server import edge_server

PROGRAM = Path(__file__).with_name("google_client_program.py")
PACKAGE = "google-cloud-translate==3.28.0"


@pytest.fixture(scope="module")
def google_python(repository: Path) -> Path:
    """The interpreter that has Google's client; the first use installs it, and .cache/ keeps it."""
    environment = repository / ".cache" / "google-client"
    python, marker = environment / "bin" / "python", environment / ".installed"
    if not marker.exists() or marker.read_text() != PACKAGE:
        # Where Python comes without ensurepip, our own pip installs into the environment from outside.
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
        install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-input"]
        subprocess.run([*install, PACKAGE], check=True)
        marker.write_text(PACKAGE)
    return python


@pytest.mark.full
async def test_googles_own_client_runs_unchanged(google_python: Path, repository: Path) -> None:
    """Blocking and asyncio, its errors as its exceptions; and our stubs can be loaded beside it."""
    async with edge_server() as server:
        command = [str(google_python), str(PROGRAM), server.address, str(repository)]
        result = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=120, check=False
        )
    assert (result.returncode, result.stdout.strip()) == (0, "works"), result.stderr
