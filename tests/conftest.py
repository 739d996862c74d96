"""Fixtures every room's tests may use, and the rule on skips."""

import os
from pathlib import Path

import pytest

pytest_plugins = ["pytester", "tests.skip_policy"]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of large test data (``data/`` and ``models/``); the test is skipped where there is none."""
    folder = os.environ.get("DRAGOMAN_TEST_DATA")
    if not folder:
        pytest.skip("DRAGOMAN_TEST_DATA is not set")
    return Path(folder)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of random weights, en to de, fr and es: it exports and serves in seconds and translates nothing."""
    from tests.tiny_model import write_tiny_checkpoint

    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint")


@pytest.fixture(scope="session")
def tiny_bundle(tiny_checkpoint: Path) -> Path:
    """The bundle of ``tiny_checkpoint``, fp32."""
    from exporter.export import ExportOptions, export

    output = tiny_checkpoint.parent / "bundle-fp32"
    export(tiny_checkpoint, output, ExportOptions(proof_sentences=8, threads=1))
    return output
