"""Import of a checkpoint in the Hugging Face Marian layout (OPUS-MT) from a local directory.

The layout: config.json, model.safetensors or pytorch_model.bin, source.spm, target.spm, vocab.json and, where the
target has a vocabulary of its own, target_vocab.json. Tensor names and defaults follow ``transformers.MarianMTModel``.
"""

from __future__ import annotations

import dataclasses
import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from exporter.checkpoint import Checkpoint, CheckpointDescription, fill_model, load_weights, read_json
from exporter.languages import pairs_of
from exporter.model import TranslationModel
from exporter.model_config import Activation, ModelConfig
from service.errors import CheckpointError
from service.tokenizer import Tokenizer

ACTIVATIONS: Mapping[str, Activation] = {"swish": "swish", "silu": "swish", "relu": "relu", "gelu": "gelu"}
TRUSTED_SOURCE_TOKENS = 256
"""Marian models are trained on sentences; nothing in the files says how long they were."""

_ATTENTION = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "output"}
_PARTS = {
    "self_attn_layer_norm": "self_attention_norm",
    "encoder_attn_layer_norm": "cross_attention_norm",
    "final_layer_norm": "feed_forward_norm",
    "fc1": "feed_forward.inner",
    "fc2": "feed_forward.outer",
    **{f"self_attn.{theirs}": f"self_attention.{ours}" for theirs, ours in _ATTENTION.items()},
    **{f"encoder_attn.{theirs}": f"cross_attention.{ours}" for theirs, ours in _ATTENTION.items()},
}
_LAYER_TENSOR = re.compile(r"model\.(encoder|decoder)\.layers\.(\d+)\.(.+)\.(weight|bias)")
_COMPUTED = re.compile(r"model\.(encoder|decoder)\.embed_positions\.weight")


def load_marian(
    directory: Path, *, name: str | None = None, source: str | None = None, target: str | None = None
) -> Checkpoint:
    """Read a Marian checkpoint as our own model, in fp32.

    Args:
        directory: the local directory.
        name: the model's name; the directory's when None.
        source: source language where the files do not say.
        target: target language where the files do not say.

    Raises:
        CheckpointError: when a file is missing, damaged or not a Marian translation model's.
    """
    path = directory / "config.json"
    fields = read_json(path)
    tokenizer = Tokenizer.load(directory)
    config = model_config(path, fields, unk_id=tokenizer.unk_id)
    check_vocabulary(directory, config, tokenizer)
    weights, tensors = read_weights(directory)
    config = dataclasses.replace(config, share_embeddings=config.share_embeddings and not separate_tables(tensors))
    model = TranslationModel(config)
    fill_model(model, dict(renamed(tensors, config)), path=weights)
    model_name = name or directory.resolve().name
    description = CheckpointDescription(
        name=model_name,
        version="1",
        language_pairs=pairs_of(directory, model_name, tokenizer, source=source, target=target),
        trusted_source_tokens=min(TRUSTED_SOURCE_TOKENS, config.max_positions),
        licence="CC-BY-4.0",
        attribution="OPUS-MT, Helsinki-NLP (Tiedemann and Thottingal, 2020)",
    )
    return Checkpoint(model.eval(), description)


def model_config(path: Path, fields: Mapping[str, object], *, unk_id: int) -> ModelConfig:
    """Translate a Marian ``config.json`` to our own choices.

    Raises:
        CheckpointError: when it describes another kind of model or one we cannot build.
    """
    kind = fields.get("model_type")
    if kind != "marian":
        raise CheckpointError(f"{path}: model_type {kind!r} is not a translation model this exporter reads ('marian')")
    activation = ACTIVATIONS.get(str(fields.get("activation_function", "gelu")))
    if activation is None:
        known = ", ".join(ACTIVATIONS)
        raise CheckpointError(f"{path}: unknown activation {fields['activation_function']!r}; known are {known}")
    heads = integer(path, fields, "encoder_attention_heads")
    if heads != integer(path, fields, "decoder_attention_heads"):
        raise CheckpointError(f"{path}: encoder and decoder have different numbers of attention heads")
    size = integer(path, fields, "vocab_size")
    target_size = integer(
        path, {**fields, "decoder_vocab_size": fields.get("decoder_vocab_size") or size}, "decoder_vocab_size"
    )
    pad_id = integer(path, fields, "pad_token_id")
    try:
        return ModelConfig(
            vocabulary_size=size,
            target_vocabulary_size=target_size,
            d_model=integer(path, fields, "d_model"),
            heads=heads,
            encoder_layers=integer(path, fields, "encoder_layers"),
            decoder_layers=integer(path, fields, "decoder_layers"),
            encoder_ffn=integer(path, fields, "encoder_ffn_dim"),
            decoder_ffn=integer(path, fields, "decoder_ffn_dim"),
            activation=activation,
            norm="post",
            max_positions=integer(path, {"max_position_embeddings": 1024, **fields}, "max_position_embeddings"),
            scale_embeddings=bool(fields.get("scale_embedding", False)),
            share_embeddings=bool(fields.get("share_encoder_decoder_embeddings", True)),
            tie_output=bool(fields.get("tie_word_embeddings", True)),
            pad_id=pad_id,
            eos_id=integer(path, fields, "eos_token_id"),
            unk_id=unk_id,
            decoder_start_id=integer(path, {"decoder_start_token_id": pad_id, **fields}, "decoder_start_token_id"),
        )
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None


def integer(path: Path, fields: Mapping[str, object], name: str) -> int:
    """Return an integer field of a config.

    Raises:
        CheckpointError: when it is missing or not an integer.
    """
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise CheckpointError(f"{path}: {name} is missing or not an integer")
    return value


def check_vocabulary(directory: Path, config: ModelConfig, tokenizer: Tokenizer) -> None:
    """Refuse tokenizer files that belong to another model.

    Raises:
        CheckpointError: when sizes or special ids differ.
    """
    sizes = {
        "source": (tokenizer.vocabulary_size, config.vocabulary_size),
        "target": (tokenizer.target_vocabulary_size, config.target_vocabulary_size),
    }
    for side, (pieces, rows) in sizes.items():
        if pieces != rows:
            raise CheckpointError(f"{directory}: the {side} vocabulary has {pieces} pieces, the embedding {rows} rows")
    for piece, ours, theirs in (("</s>", tokenizer.eos_id, config.eos_id), ("<pad>", tokenizer.pad_id, config.pad_id)):
        if ours != theirs:
            raise CheckpointError(f"{directory}: {piece} has id {ours} in the vocabulary and {theirs} in config.json")


def read_weights(directory: Path) -> tuple[Path, dict[str, Tensor]]:
    """Read ``model.safetensors`` or, without running any code in it, ``pytorch_model.bin``.

    Raises:
        CheckpointError: when there is neither, or the file is damaged or holds more than tensors.
    """
    path = directory / "model.safetensors"
    if path.exists():
        return path, load_weights(path)
    path = directory / "pytorch_model.bin"
    if not path.exists():
        raise CheckpointError(f"{directory}: has neither model.safetensors nor pytorch_model.bin")
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(f"{path}: holds more than tensors (or is damaged); refused without running it") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError):
        raise CheckpointError(f"{path}: truncated or not a PyTorch weights file") from None
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise CheckpointError(f"{path}: not a table of tensors")
    return path, {str(name): tensor for name, tensor in tensors.items()}


def separate_tables(tensors: Mapping[str, Tensor]) -> bool:
    """Tell whether source and target embeddings differ; with an untied output they do, whatever config.json says."""
    source, target = (tensors.get(f"model.{side}.embed_tokens.weight") for side in ("encoder", "decoder"))
    return source is not None and target is not None and not torch.equal(source, target)


def renamed(tensors: Mapping[str, Tensor], config: ModelConfig) -> Iterator[tuple[str, Tensor]]:
    """Give Marian tensors our names; copies of tied tensors and computed tables are left out."""
    for name, tensor in tensors.items():
        layer = _LAYER_TENSOR.fullmatch(name)
        if layer and layer[3] in _PARTS:
            yield f"{layer[1]}.layers.{layer[2]}.{_PARTS[layer[3]]}.{layer[4]}", tensor
        elif name == "final_logits_bias":
            yield name, tensor.reshape(-1)
        elif name == "lm_head.weight":
            if not config.tie_output:
                yield "output.weight", tensor
        elif config.share_embeddings and name == "model.shared.weight":
            yield "source_embedding.weight", tensor
        elif name == "model.encoder.embed_tokens.weight":
            if not (config.share_embeddings and "model.shared.weight" in tensors):
                yield "source_embedding.weight", tensor
        elif name == "model.decoder.embed_tokens.weight":
            if not config.share_embeddings:
                yield "target_embedding.weight", tensor
        elif not _COMPUTED.fullmatch(name) and name != "model.shared.weight":
            yield name, tensor
