"""``python -m exporter trim``: a checkpoint that cannot write what its translations never need, and decodes faster.

A vocabulary that two languages share holds the pieces of both scripts, and every decode step multiplies with all of
them. Without some the model is the same one with those outputs forbidden: scores are log-probabilities among the pieces
that are left. Vocabulary trimming: Abdaoui et al. 2020, https://aclanthology.org/2020.sustainlp-1.16.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from exporter.checkpoint import Checkpoint, fill_model, save_checkpoint, stored_names, write_json
from exporter.model import TranslationModel
from exporter.packaging import staged
from exporter.sources import Corrections, checkpoint_directory, read_checkpoint
from service.bundle import SEPARATE_VOCABULARY_FILE
from service.errors import ConfigError
from service.tokenizer import Vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class Trimmed:
    """A trimmed model and, by new id, the old ids of both vocabularies; the special pieces have the first ids."""

    checkpoint: Checkpoint
    source_ids: list[int]
    target_ids: list[int]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``trim`` subcommand."""
    parser = subparsers.add_parser("trim", help="leave scripts out of a checkpoint's output vocabulary")
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="DIR", help="checkpoint of ours or in the Marian layout, or a hub name")
    add("--output", required=True, type=Path, metavar="DIR", help="where the trimmed checkpoint goes")
    text = "leave out pieces with a letter whose Unicode name begins so: CJK, HIRAGANA, KATAKANA, HANGUL, CYRILLIC, ..."
    add("--without", required=True, nargs="+", metavar="SCRIPT", help=text)
    for name in ("name", "source", "target"):
        add(f"--{name}", help=f"{name} of the model where its files do not say")


def run(args: argparse.Namespace) -> int:
    """Write the trimmed checkpoint, whole or not at all, and say what was left out."""
    directory, output = checkpoint_directory(args.checkpoint), args.output
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"{output}: exists; choose another --output")
    checkpoint, _ = read_checkpoint(directory, Corrections(name=args.name, source=args.source, target=args.target))
    source = Vocabulary.load(directory / "vocab.json")
    separate = directory / SEPARATE_VOCABULARY_FILE
    target = Vocabulary.load(separate) if separate.exists() else source
    trimmed = trim(checkpoint, target.pieces, without=args.without)
    left_out = len(target.pieces) - len(trimmed.target_ids)
    if not left_out:
        raise ConfigError(f"no output piece has a letter of {', '.join(args.without)}")
    with staged(output) as stage:
        write(trimmed, stage, source=source, target=target, directory=directory)
    print(f"{output}: {left_out} of {len(target.pieces)} output pieces left out, {len(trimmed.target_ids)} kept")
    return 0


def has_letter(piece: str, scripts: Collection[str]) -> bool:
    """Whether any letter's Unicode name begins with the name of one of ``scripts``."""
    letters = (character for character in piece if character.isalpha())
    return any(unicodedata.name(letter, "").split(" ")[0] in scripts for letter in letters)


def trim(checkpoint: Checkpoint, target_pieces: Sequence[str], *, without: Collection[str]) -> Trimmed:
    """Return ``checkpoint`` without the outputs of some scripts; its source vocabulary stays whole.

    A model knows each special piece by one id on both sides, so these move to the front of both vocabularies.
    """
    old = checkpoint.model.config
    special = list(dict.fromkeys([old.eos_id, old.unk_id, old.pad_id, old.decoder_start_id]))
    source_ids = [*special, *(index for index in range(old.vocabulary_size) if index not in special)]
    ordinary = (index for index in range(old.target_vocabulary_size) if index not in special)
    target_ids = [*special, *(index for index in ordinary if not has_letter(target_pieces[index], without))]
    config = dataclasses.replace(
        old,
        target_vocabulary_size=len(target_ids),
        share_embeddings=False,
        eos_id=special.index(old.eos_id),
        unk_id=special.index(old.unk_id),
        pad_id=special.index(old.pad_id),
        decoder_start_id=special.index(old.decoder_start_id),
    )
    state = checkpoint.model.state_dict()
    rows = {"source_embedding.weight": torch.tensor(source_ids)}
    rows |= dict.fromkeys(("target_embedding.weight", "output.weight", "final_logits_bias"), torch.tensor(target_ids))
    names = stored_names(config)
    tensors = {name: tensor[rows[name]] if name in rows else tensor for name, tensor in state.items() if name in names}
    model = TranslationModel(config)
    fill_model(model, tensors, path=Path("trimmed"))
    return Trimmed(
        checkpoint=Checkpoint(model.eval(), checkpoint.description), source_ids=source_ids, target_ids=target_ids
    )


def write(trimmed: Trimmed, output: Path, *, source: Vocabulary, target: Vocabulary, directory: Path) -> None:
    """Write a checkpoint of ours to ``output``, with the SentencePiece models of ``directory``."""
    save_checkpoint(output, trimmed.checkpoint.model, trimmed.checkpoint.description)
    for name in ("source.spm", "target.spm"):
        shutil.copyfile(directory / name, output / name)
    write_json(output / "vocab.json", {source.pieces[old]: new for new, old in enumerate(trimmed.source_ids)})
    write_json(
        output / SEPARATE_VOCABULARY_FILE, {target.pieces[old]: new for new, old in enumerate(trimmed.target_ids)}
    )
