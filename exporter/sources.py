"""Find a checkpoint by directory or by hub name and read it, whichever of the two formats it has."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

from exporter.checkpoint import Checkpoint, load_checkpoint, read_json
from exporter.marian import check_vocabulary, load_marian
from service.errors import CheckpointError
from service.tokenizer import Tokenizer

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = [
    "config.json",
    "model.safetensors",
    "pytorch_model.bin",
    "source.spm",
    "target.spm",
    "vocab.json",
    "target_vocab.json",
    "tokenizer_config.json",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrections:
    """What the caller says of a checkpoint where its files say nothing or something else."""

    name: str | None = None
    source: str | None = None
    target: str | None = None
    licence: str | None = None
    attribution: str | None = None


def checkpoint_directory(text: str) -> Path:
    """Return the directory that ``text`` names, fetched from the Hugging Face hub if it is a name there.

    Raises:
        CheckpointError: when there is no such directory and the hub cannot be asked or does not know the name.
    """
    directory = Path(text)
    if directory.is_dir():
        return directory
    if directory.exists() or not _HUB_NAME.fullmatch(text):
        raise CheckpointError(f"{text}: no such checkpoint directory")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise CheckpointError(
            f"{text}: no such directory; to fetch a model of that name, pip install 'dragoman[hub]'"
        ) from None
    try:
        return Path(snapshot_download(text, allow_patterns=_HUB_FILES))
    except Exception as error:  # the hub's client raises errors of several libraries
        raise CheckpointError(
            f"{text}: no such directory, and the hub did not answer ({type(error).__name__}); "
            "download the model elsewhere and give its directory"
        ) from None


def is_marian(directory: Path) -> bool:
    """Tell a checkpoint in a Hugging Face layout from one of ours.

    Raises:
        CheckpointError: when it has no readable configuration.
    """
    return "format" not in read_json(directory / "config.json")


def read_checkpoint(directory: Path, corrections: Corrections) -> tuple[Checkpoint, Tokenizer]:
    """Read a checkpoint of ours or one in the Hugging Face Marian layout.

    Raises:
        CheckpointError: when it is neither, or not whole.
    """
    if not is_marian(directory):
        checkpoint = load_checkpoint(directory)
        tokenizer = Tokenizer.load(directory)
        check_vocabulary(directory, checkpoint.model.config, tokenizer)
    else:
        checkpoint = load_marian(directory, name=corrections.name, source=corrections.source, target=corrections.target)
        tokenizer = Tokenizer.load(directory)
    given = {
        name: value for name in ("name", "licence", "attribution") if (value := getattr(corrections, name)) is not None
    }
    description = dataclasses.replace(checkpoint.description, **given)
    return Checkpoint(checkpoint.model, description), tokenizer
