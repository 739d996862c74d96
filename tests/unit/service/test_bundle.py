"""A bundle loads only when every file is what its manifest says and nothing in it reaches outside."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.bundle import Bundle, Head, content_version, file_entry
from service.errors import BundleError

FILES = {
    "encoder.onnx": b"encoder",
    "decoder.onnx": b"decoder",
    "weights.bin": b"weights" * 100,
    "source.spm": b"source",
    "target.spm": b"target",
    "vocab.json": b"{}",
}
Fields = dict[str, Any]


def manifest_fields(directory: Path) -> Fields:
    """A manifest that fits the files in ``directory``."""
    graph = {"opset": 23, "operators": {"MatMul": 3}, "fused_attention": 0}
    return {
        "format_version": 1,
        "model_id": "test",
        "language_pairs": [{"source": "en", "target": "de", "target_token": None}],
        "language_aliases": {"eng": "en"},
        "dimensions": {
            "vocabulary_size": 100,
            "padded_vocabulary_size": 128,
            "source_vocabulary_size": 90,
            "d_model": 8,
            "heads": 2,
            "head_size": 4,
            "encoder_layers": 1,
            "decoder_layers": 1,
        },
        "special_ids": {"pad": 0, "eos": 1, "unk": 2, "decoder_start": 0},
        "max_source_tokens": 64,
        "max_target_tokens": 64,
        "trusted_source_tokens": 32,
        "precision": "fp32",
        "graphs": {
            "encoder": {"file": "encoder.onnx", **graph},
            "decoder": {"file": "decoder.onnx", **graph},
            "copy_positions": None,
        },
        "alignment": {"layer": 0, "head": 1, "accuracy": 0.9},
        "files": {name: file_entry(directory / name).model_dump() for name in FILES},
        "licence": "Apache-2.0",
        "attribution": "",
    }


def write(directory: Path, fields: Fields) -> None:
    """Write a manifest with the version that its fields have."""
    fields["version"] = content_version(fields)
    (directory / "manifest.json").write_text(json.dumps(fields), encoding="utf-8")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A bundle without models in its files."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    write(folder, manifest_fields(folder))
    return folder


def test_a_whole_bundle_loads(directory: Path) -> None:
    """An undamaged bundle gives its manifest and the places of its graphs, and a report beside it changes nothing."""
    (directory / "report.json").write_text("anything")
    bundle = Bundle.load(directory)
    assert bundle.manifest.model_id == "test"
    assert bundle.encoder_path.read_bytes() == b"encoder"
    assert bundle.decoder_path.read_bytes() == b"decoder"


def test_a_manifest_written_again_is_the_same_manifest(directory: Path) -> None:
    """What the exporter writes is what the service reads."""
    first = Bundle.load(directory).manifest
    (directory / "manifest.json").write_text(first.to_json(), encoding="utf-8")
    assert Bundle.load(directory).manifest == first


def test_a_second_head_is_named_only_where_there_is_one(directory: Path) -> None:
    """Manifests of one head are written as before there were two; with two, both come back."""
    one = Bundle.load(directory).manifest
    assert one.alignment_query_size == 4
    assert json.loads(one.to_json())["alignment"] == {"layer": 0, "head": 1, "accuracy": 0.9}
    fields = manifest_fields(directory)
    fields["alignment"]["shifted"] = {"layer": 0, "head": 0}
    write(directory, fields)
    two = Bundle.load(directory).manifest
    assert two.alignment is not None
    assert two.alignment.heads == (two.alignment, Head(layer=0, head=0))
    assert two.alignment_query_size == 8
    assert json.loads(two.to_json())["alignment"] == fields["alignment"]
    (directory / "manifest.json").write_text(two.to_json(), encoding="utf-8")
    assert Bundle.load(directory).manifest == two
    write(directory, {**manifest_fields(directory), "alignment": None})
    nothing = Bundle.load(directory).manifest
    assert (nothing.alignment, nothing.alignment_query_size) == (None, 0)


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_checked(directory: Path, name: str) -> None:
    """A file that is missing, shorter or changed in one byte is named."""
    path = directory / name
    content = path.read_bytes()
    for damaged in (content[:-1], bytes([content[0] ^ 1]) + content[1:], None):
        path.unlink(missing_ok=True)
        if damaged is not None:
            path.write_bytes(damaged)
        with pytest.raises(BundleError, match=name):
            Bundle.load(directory)


def outside_file(fields: Fields) -> None:
    """List a file above the bundle."""
    fields["files"]["../secret"] = {"sha256": "0" * 64, "bytes": 1}


def absolute_file(fields: Fields) -> None:
    """List a file by an absolute path."""
    fields["files"]["/etc/passwd"] = {"sha256": "0" * 64, "bytes": 1}


def outside_graph(fields: Fields) -> None:
    """Name a graph above the bundle."""
    fields["graphs"]["encoder"]["file"] = "../encoder.onnx"


def missing_tokenizer(fields: Fields) -> None:
    """List no vocabulary."""
    del fields["files"]["vocab.json"]


def id_outside(fields: Fields) -> None:
    """Put EOS outside the vocabulary."""
    fields["special_ids"]["eos"] = 100


def negative_id(fields: Fields) -> None:
    """Put EOS below zero."""
    fields["special_ids"]["eos"] = -1


def ragged_padding(fields: Fields) -> None:
    """Pad the vocabulary to something else than whole chunks."""
    fields["dimensions"]["padded_vocabulary_size"] = 130


def head_outside(fields: Fields) -> None:
    """Align by a head that does not exist."""
    fields["alignment"]["head"] = 2


def shifted_head_outside(fields: Fields) -> None:
    """Align by a second head that does not exist."""
    fields["alignment"]["shifted"] = {"layer": 1, "head": 0}


def wrong_width(fields: Fields) -> None:
    """Let the heads not add up to the width."""
    fields["dimensions"]["heads"] = 3


def no_pairs(fields: Fields) -> None:
    """Translate nothing."""
    fields["language_pairs"] = []


def twice(fields: Fields) -> None:
    """List one pair twice."""
    fields["language_pairs"] *= 2


def too_trusting(fields: Fields) -> None:
    """Trust more tokens than fit."""
    fields["trusted_source_tokens"] = 65


def unknown_field(fields: Fields) -> None:
    """Add a field of another version."""
    fields["extra"] = 1


def text_for_number(fields: Fields) -> None:
    """Write a number as text."""
    fields["max_source_tokens"] = "64"


@pytest.mark.parametrize(
    "change",
    [
        outside_file,
        absolute_file,
        outside_graph,
        missing_tokenizer,
        id_outside,
        negative_id,
        ragged_padding,
        head_outside,
        shifted_head_outside,
        wrong_width,
        no_pairs,
        twice,
        too_trusting,
        unknown_field,
        text_for_number,
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(directory: Path, change: Callable[[Fields], None]) -> None:
    """Each impossible manifest is one clear line, though its own hash is right."""
    fields = manifest_fields(directory)
    change(fields)
    write(directory, fields)
    with pytest.raises(BundleError) as caught:
        Bundle.load(directory)
    assert "\n" not in str(caught.value)


def test_a_changed_manifest_is_refused(directory: Path) -> None:
    """A field edited after the export is noticed."""
    fields = json.loads((directory / "manifest.json").read_text())
    fields["licence"] = "none"
    (directory / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(BundleError, match="changed after the export"):
        Bundle.load(directory)


def test_another_format_is_refused_by_its_number(directory: Path) -> None:
    """A bundle of a later format says which one it is, whatever else its manifest holds."""
    (directory / "manifest.json").write_text('{"format_version": 2, "news": true}')
    with pytest.raises(BundleError, match="bundle format 2, this version reads 1"):
        Bundle.load(directory)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "\x00"])
def test_a_manifest_that_is_none_is_refused(directory: Path, text: str) -> None:
    """Anything that is not a JSON object is one clear line."""
    (directory / "manifest.json").write_text(text)
    with pytest.raises(BundleError):
        Bundle.load(directory)


def test_a_directory_that_is_none_is_refused(tmp_path: Path) -> None:
    """A missing or empty directory is not a bundle."""
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BundleError, match="not a bundle"):
            Bundle.load(place)


def test_a_link_out_of_the_bundle_is_refused(directory: Path, tmp_path: Path) -> None:
    """A file with the right content that lies elsewhere is refused."""
    moved = tmp_path / "weights.bin"
    os.replace(directory / "weights.bin", moved)
    (directory / "weights.bin").symlink_to(moved)
    with pytest.raises(BundleError, match="not a file in the bundle"):
        Bundle.load(directory)
