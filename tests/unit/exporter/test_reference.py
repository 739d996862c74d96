"""Bundles of imported checkpoints search as ``transformers`` does, whatever their variant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exporter.export import export
from exporter.export_options import ExportOptions
from exporter.sources import Corrections
from service.errors import ConfigError
from tests.doubles.marian_checkpoints import VARIANTS, make_checkpoint


def test_a_marian_bundle_decodes_as_transformers_does(tmp_path: Path) -> None:
    """A multi-target model in fp32: greedy tokens are PyTorch's and the beams' best are transformers' own."""
    directory, _ = make_checkpoint(tmp_path, VARIANTS[4])
    options = ExportOptions(proof_sentences=24, proof_beams=24, threads=1)
    exported = export(directory, tmp_path / "bundle", options, Corrections(source="en"))
    assert [pair.target_token for pair in exported.bundle.manifest.language_pairs] == [">>fra<<", ">>pt_BR<<"]
    report = json.loads((tmp_path / "bundle" / "report.json").read_text())
    assert report["proof"]["greedy"]["differing"] == []
    assert report["beam"]["sentences"] == 24
    assert report["beam"]["differences"] == []


def test_a_model_with_two_vocabularies_goes_through(tmp_path: Path) -> None:
    """Separate vocabularies and an untied output: three tables in the bundle, and every answer is PyTorch's."""
    directory, _ = make_checkpoint(tmp_path, VARIANTS[3])
    exported = export(directory, tmp_path / "bundle", ExportOptions(proof_sentences=8, precision="int8", threads=1))
    assert (tmp_path / "bundle" / "target_vocab.json").exists()
    assert exported.report["proof"]


def test_the_beam_proof_needs_a_reference(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without transformers the beam proof is refused before any work; it is never quietly left out."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install transformers"):
        export(tiny_checkpoint, tmp_path / "bundle", ExportOptions(proof_beams=8))
    assert list(tmp_path.iterdir()) == []
