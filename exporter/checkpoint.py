"""Save and load a checkpoint directory: config.json, model.safetensors and the tokenizer files; never a pickle."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from exporter.model import TranslationModel
from exporter.model_config import ModelConfig
from service.errors import CheckpointError

FORMAT = "dragoman-checkpoint"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class LanguagePair:
    """One direction that the model translates, and the token that asks for it, if it needs one."""

    source: str
    target: str
    target_token: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointDescription:
    """What a checkpoint says about itself beside its weights."""

    name: str
    version: str
    language_pairs: tuple[LanguagePair, ...]
    trusted_source_tokens: int
    licence: str
    attribution: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded model in fp32, in evaluation mode, and its description."""

    model: TranslationModel
    description: CheckpointDescription


def stored_names(config: ModelConfig) -> set[str]:
    """Return the names of the tensors that a checkpoint of this shape holds: tied ones once."""
    with torch.device("meta"):
        names = set(TranslationModel(config).state_dict())
    if config.share_embeddings:
        names.discard("target_embedding.weight")
    if config.tie_output:
        names.discard("output.weight")
    return names


def save_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a safetensors file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, partial)
    os.replace(partial, path)


def write_json(path: Path, value: object) -> None:
    """Write a JSON file, whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)


def save_checkpoint(
    directory: Path,
    model: TranslationModel,
    description: CheckpointDescription,
    *,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write ``config.json`` and ``model.safetensors``; the tokenizer files are written by ``exporter.vocabulary``.

    Raises:
        CheckpointError: when a weight is not finite in ``dtype``.
    """
    names = stored_names(model.config)
    tensors = {name: tensor.to(dtype) for name, tensor in model.state_dict().items() if name in names}
    _refuse_non_finite(directory / "model.safetensors", tensors)
    save_weights(directory / "model.safetensors", tensors)
    write_json(
        directory / "config.json",
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            **dataclasses.asdict(description),
            "model": dataclasses.asdict(model.config),
        },
    )


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        CheckpointError: when it is missing, truncated or not safetensors.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError):
        raise CheckpointError(f"{path}: truncated or not a safetensors file") from None


def read_json(path: Path) -> dict[str, object]:
    """Read a JSON object.

    Raises:
        CheckpointError: when it is missing or not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise CheckpointError(f"{path}: no such file") from None
    except ValueError:
        raise CheckpointError(f"{path}: not JSON") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    return value


def load_checkpoint(directory: Path) -> Checkpoint:
    """Read a checkpoint directory that ``save_checkpoint`` wrote.

    Raises:
        CheckpointError: when a file is missing or damaged, a tensor has another shape or a number is not finite.
    """
    config, description = _read_description(directory / "config.json")
    path = directory / "model.safetensors"
    tensors = load_weights(path)
    model = TranslationModel(config)
    fill_model(model, tensors, path=path)
    return Checkpoint(model.eval(), description)


def _read_description(path: Path) -> tuple[ModelConfig, CheckpointDescription]:
    fields = read_json(path)
    if fields.pop("format", None) != FORMAT or fields.pop("format_version", None) != FORMAT_VERSION:
        raise CheckpointError(f"{path}: not a {FORMAT} of format version {FORMAT_VERSION}")
    try:
        model = fields.pop("model")
        pairs = fields.pop("language_pairs")
        if not isinstance(model, dict) or not isinstance(pairs, list):
            raise TypeError("model or language_pairs has another type")
        config = ModelConfig(**model)
        languages = tuple(LanguagePair(**pair) for pair in pairs)
        return config, CheckpointDescription(language_pairs=languages, **fields)  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from None


def fill_model(model: TranslationModel, tensors: Mapping[str, Tensor], *, path: Path) -> None:
    """Copy ``tensors`` into ``model``; ``path`` names their file in errors.

    Raises:
        CheckpointError: when a tensor is missing, unexpected, of another shape or not finite.
    """
    names = stored_names(model.config)
    expected = {name: tensor for name, tensor in model.state_dict().items() if name in names}
    for name in sorted(expected.keys() ^ tensors.keys()):
        raise CheckpointError(f"{path}: {'lacks' if name in expected else 'has an unexpected'} tensor {name}")
    for name, tensor in expected.items():
        if tensor.shape != tensors[name].shape:
            raise CheckpointError(f"{path}: {name} is {list(tensors[name].shape)}, expected {list(tensor.shape)}")
    _refuse_non_finite(path, tensors)
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=False)


def _refuse_non_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: {name} holds NaN or infinite numbers")
