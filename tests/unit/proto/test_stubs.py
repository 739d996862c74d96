"""The committed stubs and the contracts they are made from belong together."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
STUBS = [
    f"{module}{kind}"
    for module in ("v1/translation_pb2", "google_v3/translation_service_pb2")
    for kind in (".py", ".pyi", "_grpc.py", "_grpc.pyi")
]


def test_committed_stubs_are_what_the_contract_generates(tmp_path: Path) -> None:
    """Generating again gives the committed files, byte for byte."""
    spec = importlib.util.spec_from_file_location("generate_stubs", REPOSITORY / "proto" / "generate_stubs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.generate(tmp_path) == 0
    for name in STUBS:
        committed = (REPOSITORY / "dragoman" / name).read_text()
        assert (tmp_path / "dragoman" / name).read_text() == committed, f"run: python proto/generate_stubs.py ({name})"


def buf() -> str:
    """Path of the buf binary of this environment."""
    found = shutil.which("buf", path=sysconfig.get_path("scripts")) or shutil.which("buf")
    if found is None:
        pytest.fail("buf is missing: install the dev extra (buf-bin)")
    return found


@pytest.mark.parametrize(
    "command",
    [["lint"], ["format", "--diff", "--exit-code", "--path", "proto/dragoman", "--path", "proto/google/cloud"]],
)
def test_contract_obeys_buf(command: list[str]) -> None:
    """buf finds nothing to complain about: standard style, and a comment on every element."""
    result = subprocess.run([buf(), *command], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
