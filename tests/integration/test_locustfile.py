"""The locust user, where locust is installed."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from loadtests.server_process import SLEEPING, ServerProcess


@pytest.mark.skipif(shutil.which("locust") is None, reason="locust is not on the path")
def test_locust_runs_headless_for_a_few_seconds(repository: Path) -> None:
    """Every kind of call is made, and none fails."""
    with ServerProcess(SLEEPING) as server:
        command = ["locust", "-f", "loadtests/locustfile.py", "--headless", "--host", server.address, "--users", "8"]
        command += ["--spawn-rate", "8", "--run-time", "4s", "--stop-timeout", "5", "--json"]
        environment = os.environ | {"PYTHONPATH": str(repository)}
        result = subprocess.run(
            command, capture_output=True, text=True, cwd=repository, env=environment, timeout=120, check=False
        )
    assert result.returncode == 0, result.stderr
    told = {entry["name"]: entry for entry in json.loads(result.stdout)}
    assert set(told) == {"greedy", "beam 4", "stream"}
    assert sum(entry["num_failures"] for entry in told.values()) == 0
