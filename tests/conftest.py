"""Fixtures every room's tests may use, and the rule on skips."""

import json
import os
from collections.abc import Iterator
from datetime import date
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
    from exporter.export import export
    from exporter.export_options import ExportOptions

    output = tiny_checkpoint.parent / "bundle-fp32"
    export(tiny_checkpoint, output, ExportOptions(proof_sentences=8, threads=1))
    return output


@pytest.fixture(scope="session")
def tiny_int8_bundle(tiny_checkpoint: Path) -> Path:
    """The bundle of ``tiny_checkpoint``, int8."""
    from exporter.export import export
    from exporter.export_options import ExportOptions

    output = tiny_checkpoint.parent / "bundle-int8"
    export(tiny_checkpoint, output, ExportOptions(precision="int8", proof_sentences=8, threads=1))
    return output


@pytest.fixture(scope="session")
def opus_bundles(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles of the OPUS-MT checkpoint by precision."""
    from exporter.export import export
    from exporter.export_options import ExportOptions

    folder = tmp_path_factory.mktemp("opus")
    for precision in ("fp32", "int8"):
        options = ExportOptions(precision=precision, proof_sentences=8)
        export(test_data / "models" / "opus-mt-zh-en", folder / precision, options)
    return {precision: folder / precision for precision in ("fp32", "int8")}


@pytest.fixture(scope="session")
def results(repository: Path) -> Iterator[dict[str, object]]:
    """What full tests measured; written to docs/results/<date>-tests.json when there is something in it."""
    measured: dict[str, object] = {}
    yield measured
    if measured:
        path = repository / "docs" / "results" / f"{date.today().isoformat()}-tests.json"
        path.parent.mkdir(exist_ok=True)
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(known | measured, indent=2, sort_keys=True) + "\n")


@pytest.fixture(scope="session")
def bundled_fp32(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fp32 bundle of the model that comes with the repository."""
    from exporter.export import export
    from exporter.export_options import ExportOptions

    output = tmp_path_factory.mktemp("bundled") / "fp32"
    export(repository / "models" / "en-defres", output, ExportOptions(precision="fp32", proof_sentences=8))
    return output


@pytest.fixture(scope="session")
def bundled_int8(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The int8 bundle of the model that comes with the repository."""
    from exporter.export import export
    from exporter.export_options import ExportOptions

    output = tmp_path_factory.mktemp("bundled") / "int8"
    export(repository / "models" / "en-defres", output, ExportOptions(precision="int8", proof_sentences=8))
    return output
