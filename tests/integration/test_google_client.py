"""Google's official client, in an environment and a process of its own, against our server."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from tests.doubles.edge_server import edge_server
from tests.doubles.own_environment import own_environment

PROGRAM = Path(__file__).with_name("google_client_program.py")
PACKAGE = "google-cloud-translate==3.28.0"


@pytest.mark.full
async def test_googles_own_client_runs_unchanged(repository: Path) -> None:
    """Blocking and asyncio, its errors as its exceptions; and our stubs can be loaded beside it."""
    python = own_environment(repository, "google-client", PACKAGE)
    async with edge_server() as server:
        command = [str(python), str(PROGRAM), server.address, str(repository)]
        result = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=120, check=False
        )
    assert (result.returncode, result.stdout.strip()) == (0, "works"), result.stderr
