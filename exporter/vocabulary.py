"""Train the joint SentencePiece vocabulary and write the tokenizer files of a checkpoint directory."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece

from service.errors import DataError

PAD, EOS, UNK = "<pad>", "</s>", "<unk>"


def target_token(language: str) -> str:
    """Return the token that asks for ``language``, such as ``>>de<<``."""
    return f">>{language}<<"


def train_vocabulary(
    sentences: Iterable[str], *, size: int, targets: Sequence[str], threads: int = 2, seed_sentences: int = 1_000_000
) -> bytes:
    """Train a unigram model (Kudo 2018, https://aclanthology.org/P18-1007) whose ids start with pad, eos, unk.

    Target tokens are control symbols: no text can become one.

    Raises:
        DataError: when the text cannot fill a vocabulary of ``size`` pieces.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            vocab_size=size,
            model_type="unigram",
            character_coverage=0.9999,
            input_sentence_size=seed_sentences,
            shuffle_input_sentence=True,
            split_digits=True,
            num_threads=threads,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            pad_piece=PAD,
            eos_piece=EOS,
            unk_piece=UNK,
            control_symbols=[target_token(language) for language in targets],
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        most = re.search(r"value <= (\d+)", str(error))
        reason = f"the text gives at most {most[1]}" if most else str(error).splitlines()[-1]
        raise DataError(f"cannot train a vocabulary of {size} pieces: {reason}") from None
    return model.getvalue()


def write_vocabulary(directory: Path, model: bytes) -> int:
    """Write ``source.spm``, ``target.spm`` and ``vocab.json``; return the number of pieces."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "source.spm").write_bytes(model)
    (directory / "target.spm").write_bytes(model)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = [processor.id_to_piece(index) for index in range(processor.get_piece_size())]
    table = {piece: index for index, piece in enumerate(pieces)}
    (directory / "vocab.json").write_text(json.dumps(table, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    return len(pieces)


def copy_vocabulary(source: Path, directory: Path) -> None:
    """Copy the tokenizer files of one checkpoint directory to another."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("source.spm", "target.spm", "vocab.json", "target_vocab.json"):
        if (source / name).exists() and source.resolve() != directory.resolve():
            shutil.copyfile(source / name, directory / name)
