"""Put traced graphs and tokenizer files into a bundle directory and describe them in its manifest."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from exporter.checkpoint import Checkpoint
from exporter.copying import copy_graph
from exporter.languages import aliases_of
from exporter.layer_parts import padded_vocabulary_size
from exporter.trace import OPSET, TracedGraph, write_graphs
from exporter.vocabulary import copy_vocabulary
from service.bundle import (
    MANIFEST_FILE,
    Alignment,
    Bundle,
    FileEntry,
    Manifest,
    Precision,
    content_version,
    file_entry,
)
from service.errors import ConfigError, ExportError
from service.graph_names import self_caches

FUSED_ATTENTION = ("com.microsoft::GroupQueryAttention", "com.microsoft::MultiHeadAttention")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What goes into a bundle."""

    checkpoint: Checkpoint
    tokenizer_directory: Path
    precision: Precision
    encoder: TracedGraph
    decoder: TracedGraph
    alignment: Alignment | None


def write_bundle(contents: Contents, directory: Path) -> Bundle:
    """Write everything but the report to ``directory``, which exists and is empty; return the bundle, checked."""
    write_graphs([contents.encoder, contents.decoder, copy_graph()], directory)
    copy_vocabulary(contents.tokenizer_directory, directory)
    files = {path.name: file_entry(path) for path in sorted(directory.iterdir())}
    fields = manifest_fields(contents, files)
    fields["version"] = content_version(fields)
    manifest = Manifest.model_validate(fields, strict=False)
    (directory / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
    return Bundle.load(directory)


def manifest_fields(contents: Contents, files: dict[str, FileEntry]) -> dict[str, object]:
    """Return the manifest as JSON fields, without its version."""
    description, config = contents.checkpoint.description, contents.checkpoint.model.config
    size = config.target_vocabulary_size
    return {
        "format_version": 1,
        "model_id": description.name,
        "language_pairs": [
            {"source": pair.source, "target": pair.target, "target_token": pair.target_token}
            for pair in description.language_pairs
        ],
        "language_aliases": aliases_of(description.language_pairs),
        "dimensions": {
            "vocabulary_size": size,
            "padded_vocabulary_size": padded_vocabulary_size(size),
            "source_vocabulary_size": config.vocabulary_size,
            "d_model": config.d_model,
            "heads": config.heads,
            "head_size": config.head_size,
            "encoder_layers": config.encoder_layers,
            "decoder_layers": config.decoder_layers,
        },
        "special_ids": {
            "pad": config.pad_id,
            "eos": config.eos_id,
            "unk": config.unk_id,
            "decoder_start": config.decoder_start_id,
        },
        "max_source_tokens": config.max_positions,
        "max_target_tokens": config.max_positions,
        "trusted_source_tokens": description.trusted_source_tokens,
        "precision": contents.precision,
        "cache_type": contents.decoder.input_type(self_caches(1)[0]),
        "graphs": {
            "encoder": graph_fields(contents.encoder),
            "decoder": graph_fields(contents.decoder),
            "copy_positions": graph_fields(copy_graph()),
        },
        "alignment": None if contents.alignment is None else contents.alignment.model_dump(mode="json"),
        "files": {name: entry.model_dump(mode="json") for name, entry in files.items()},
        "licence": description.licence,
        "attribution": description.attribution,
    }


def graph_fields(graph: TracedGraph) -> dict[str, object]:
    """Describe one graph."""
    operators = graph.operators()
    return {
        "file": f"{graph.name}.onnx",
        "opset": OPSET,
        "operators": operators,
        "fused_attention": fused_attention(operators),
    }


def fused_attention(operators: Mapping[str, int]) -> int:
    """Count the attention nodes among a graph's operators."""
    return sum(operators.get(name, 0) for name in FUSED_ATTENTION)


@contextlib.contextmanager
def staged(output: Path) -> Iterator[Path]:
    """Yield an empty directory beside ``output`` that takes its place in one step on success and vanishes otherwise.

    Raises:
        ConfigError: when ``output`` exists and is not a bundle, or its parent cannot be written.
        ExportError: when the disk is full.
    """
    if (
        output.exists()
        and any(output.iterdir() if output.is_dir() else [output])
        and not (output / MANIFEST_FILE).exists()
    ):
        raise ConfigError(f"{output}: exists and is not a bundle; choose another --output")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    except OSError as error:
        raise ConfigError(f"{output.parent}: cannot write there: {error.strerror}") from None
    try:
        content = stage / output.name
        content.mkdir()
        yield content
        if output.exists():
            os.replace(output, stage / "replaced")
        os.replace(content, output)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ExportError(f"{output}: the disk is full; nothing was written") from None
        raise
    finally:
        shutil.rmtree(stage, ignore_errors=True)
