"""A bundle without graphs: the echo model's tokenizer and a manifest; what runs it is an EchoRunner."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from service.bundle import MANIFEST_FILE, TOKENIZER_FILES, canonical_json, content_version, file_entry
from service.graph_names import CHUNK
from tests.doubles.echo_model import tiny_tokenizer_files

GRAPHS = {"encoder": "encoder.onnx", "decoder": "decoder.onnx"}


def write_echo_bundle(
    folder: Path, *, model_id: str = "echo", pairs: Sequence[tuple[str, str]] = (("en", "de"),), mark: str = ""
) -> str:
    """Writes a bundle, all its files new; another `mark` makes another version of the model. Returns the version."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in tiny_tokenizer_files().items():
        _write(folder / name, content)
    for name in GRAPHS.values():
        _write(folder / name, mark.encode())
    graph = {"opset": 23, "operators": {}, "fused_attention": 0}
    size = 150
    fields: dict[str, object] = {
        "format_version": 1,
        "model_id": model_id,
        "language_pairs": [{"source": source, "target": target, "target_token": None} for source, target in pairs],
        "language_aliases": {},
        "dimensions": {
            "vocabulary_size": size,
            "padded_vocabulary_size": -(-size // CHUNK) * CHUNK,
            "source_vocabulary_size": size,
            "d_model": 64,
            "heads": 1,
            "head_size": 64,
            "encoder_layers": 1,
            "decoder_layers": 1,
        },
        "special_ids": {"pad": 0, "eos": 1, "unk": 2, "decoder_start": 0},
        "max_source_tokens": 64,
        "max_target_tokens": 64,
        "trusted_source_tokens": 40,
        "precision": "fp32",
        "graphs": {**{name: {"file": file, **graph} for name, file in GRAPHS.items()}, "copy_positions": None},
        "alignment": None,
        "licence": "",
        "attribution": "",
        "files": {name: file_entry(folder / name).model_dump() for name in (*TOKENIZER_FILES, *GRAPHS.values())},
    }
    version = content_version(fields)
    _write(folder / MANIFEST_FILE, canonical_json({**fields, "version": version}).encode())
    return version


def _write(path: Path, content: bytes) -> None:
    """A file of its own in the place of what lies there."""
    part = path.with_suffix(".part")
    part.write_bytes(content)
    part.replace(path)
