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


def breaking(folder: Path) -> subprocess.CompletedProcess[str]:
    """Compares the contract in `folder` with the one that clients rely on."""
    command = [buf(), "breaking", str(folder), "--against", str(REPOSITORY / "proto" / "baseline.binpb")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_contract_breaks_no_client() -> None:
    """Nothing that the baseline holds was taken away or changed; if no release has it yet: make proto-baseline."""
    result = breaking(REPOSITORY)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_removed_field_would_be_found(tmp_path: Path) -> None:
    """The comparison above can fail."""
    shutil.copytree(REPOSITORY / "proto", tmp_path / "proto")
    shutil.copy(REPOSITORY / "buf.yaml", tmp_path)
    contract = tmp_path / "proto" / "dragoman" / "v1" / "translation.proto"
    text = contract.read_text()
    assert text.count("  string model_version = 3;") > 0
    contract.write_text(text.replace("  string model_version = 3;", "", 1))
    result = breaking(tmp_path)
    assert result.returncode != 0
    assert "model_version" in result.stdout
