"""`python -m service --bundle-directory DIR` as a process: SIGHUP makes it follow the directory."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from service.bundle import Bundle
from service.client import TranslationClient
from tests.e2e.test_service_process import READY


def start(*options: str) -> subprocess.Popen[str]:
    """The service on free ports, with one worker."""
    command = [sys.executable, "-m", "service", "--host", "127.0.0.1", "--workers", "1", *options]
    command += ["--port", "0", "--metrics-port", "0", "--health-port", "0", "--readiness-grace-seconds", "0"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_sighup_has_the_directory_looked_at(tiny_bundle: Path, tiny_int8_bundle: Path, tmp_path: Path) -> None:
    """A new version serves, a broken one is refused in one line and changes nothing, and it still stops cleanly."""
    bundles = tmp_path / "bundles"
    shutil.copytree(tiny_bundle, bundles / "tiny")
    process = start("--bundle-directory", str(bundles))
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        ready = READY.fullmatch(process.stdout.readline())
        assert ready is not None
        with TranslationClient(f"127.0.0.1:{ready[1]}") as client:
            first, second = (Bundle.load(path).manifest.version for path in (tiny_bundle, tiny_int8_bundle))
            assert [model.version for model in client.list_models()] == [first]
            shutil.rmtree(bundles / "tiny")
            shutil.copytree(tiny_int8_bundle, bundles / "tiny")
            process.send_signal(signal.SIGHUP)
            seen = {"event": ""}
            while seen["event"] != "model_unloaded":
                seen = json.loads(process.stderr.readline())
            assert seen["version"] == first
            assert [model.version for model in client.list_models()] == [second]
            (bundles / "tiny" / "weights.bin").write_bytes(b"")
            process.send_signal(signal.SIGHUP)
            while seen["event"] != "model_refused":
                seen = json.loads(process.stderr.readline())
            assert "weights.bin" in seen["reason"]
            assert client.translate(["I love you."], source="en", target="de").model_version == second
        with urllib.request.urlopen(f"http://127.0.0.1:{ready[2]}/metrics", timeout=10) as page:
            text = page.read().decode()
        assert 'dragoman_model_loads_total{outcome="refused"} 1.0' in text
        assert 'dragoman_models{state="serving"} 1.0' in text
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("content", ["nothing", "no directory"])
def test_a_directory_without_bundles_is_refused(tmp_path: Path, content: str) -> None:
    """One line that names it, and exit code 2."""
    directory = tmp_path / "bundles"
    if content == "nothing":
        directory.mkdir()
    process = start("--bundle-directory", str(directory))
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert error.startswith("service: --bundle-directory: ")
    assert len(error.splitlines()) == 1
