"""A bundle without a model: a real tokenizer and manifest, empty graphs."""

from __future__ import annotations

import shutil
from pathlib import Path

from service.bundle import (
    MANIFEST_FILE,
    SEPARATE_VOCABULARY_FILE,
    TOKENIZER_FILES,
    Bundle,
    canonical_json,
    content_version,
    file_entry,
)
from service.graph_names import CHUNK
from service.tokenizer import Tokenizer

SOURCE_LANGUAGE, ONLY_TARGET = "en", "de"
POSITIONS = 512
TRUSTED_SOURCE_TOKENS = 200
GRAPHS = {"encoder": "encoder.onnx", "decoder": "decoder.onnx"}


def write_bundle(tokenizer_directory: Path, output: Path) -> Bundle:
    """Write a bundle around the tokenizer of a checkpoint or bundle directory. Raises CheckpointError, BundleError."""
    tokenizer = Tokenizer.load(tokenizer_directory)
    output.mkdir(parents=True, exist_ok=True)
    names = [*TOKENIZER_FILES, *GRAPHS.values()]
    if (tokenizer_directory / SEPARATE_VOCABULARY_FILE).exists():
        names.append(SEPARATE_VOCABULARY_FILE)
    for name in names:
        if name in GRAPHS.values():
            (output / name).write_bytes(b"")
        else:
            shutil.copyfile(tokenizer_directory / name, output / name)
    fields = {
        **_manifest_fields(tokenizer),
        "files": {name: file_entry(output / name).model_dump() for name in names},
    }
    fields["version"] = content_version(fields)
    (output / MANIFEST_FILE).write_text(canonical_json(fields), encoding="utf-8")
    return Bundle.load(output)


def _manifest_fields(tokenizer: Tokenizer) -> dict[str, object]:
    """All but the files and the version; dimensions are the least that a manifest may have."""
    size = tokenizer.target_vocabulary_size
    targets: dict[str, str | None] = {token.strip("<>"): token for token in tokenizer.target_tokens}
    graph = {"opset": 23, "operators": {}, "fused_attention": 0}
    return {
        "format_version": 1,
        "model_id": "sleeping",
        "language_pairs": [
            {"source": SOURCE_LANGUAGE, "target": target, "target_token": token}
            for target, token in (targets or {ONLY_TARGET: None}).items()
        ],
        "language_aliases": {},
        "dimensions": {
            "vocabulary_size": size,
            "padded_vocabulary_size": -(-size // CHUNK) * CHUNK,
            "source_vocabulary_size": tokenizer.vocabulary_size,
            "d_model": 1,
            "heads": 1,
            "head_size": 1,
            "encoder_layers": 1,
            "decoder_layers": 1,
        },
        "special_ids": {
            "pad": tokenizer.pad_id,
            "eos": tokenizer.eos_id,
            "unk": tokenizer.unk_id,
            "decoder_start": tokenizer.pad_id,
        },
        "max_source_tokens": POSITIONS,
        "max_target_tokens": POSITIONS,
        "trusted_source_tokens": TRUSTED_SOURCE_TOKENS,
        "precision": "fp32",
        "graphs": {**{name: {"file": file, **graph} for name, file in GRAPHS.items()}, "copy_positions": None},
        "alignment": None,
        "licence": "",
        "attribution": "",
    }
