"""Text to token ids and back, with a checkpoint's own SentencePiece models and vocabulary table.

The files are those of a Hugging Face Marian checkpoint: ``source.spm``, ``target.spm`` and ``vocab.json``, which maps
pieces to the model's ids (never SentencePiece's own), and ``target_vocab.json`` where the target has its own table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import sentencepiece

from service.errors import CheckpointError, InvalidInputError

EOS_PIECE, PAD_PIECE, UNK_PIECE = "</s>", "<pad>", "<unk>"
_TARGET_TOKEN = re.compile(r">>.+<<")


@dataclass(frozen=True, slots=True)
class Encoding:
    """An encoded text.

    ``ids`` end with EOS; ``spans`` gives for each id the [start, end) code points of the text that it stands for, empty
    for the target token and EOS; ``unknown_count`` is the number of characters that the vocabulary does not know.
    """

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    unknown_count: int


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The table of one side: pieces to ids and back, and the ids that no text may become."""

    ids: Mapping[str, int]
    pieces: tuple[str, ...]
    special_ids: frozenset[int]

    @staticmethod
    def load(path: Path) -> Vocabulary:
        """Read a JSON object of piece to id.

        Raises:
            CheckpointError: when it is missing, damaged, lacks a special piece or does not number 0..n-1.
        """
        try:
            ids = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise CheckpointError(f"{path}: missing or not a JSON vocabulary") from None
        if not isinstance(ids, dict) or sorted(ids.values(), key=str) != sorted(range(len(ids)), key=str):
            raise CheckpointError(f"{path}: the ids must be 0 to {len(ids) - 1}, each once")
        for piece in (EOS_PIECE, PAD_PIECE, UNK_PIECE):
            if piece not in ids:
                raise CheckpointError(f"{path}: has no {piece}")
        pieces = tuple(sorted(ids, key=ids.__getitem__))
        special = {ids[piece] for piece in pieces if piece in (EOS_PIECE, PAD_PIECE, UNK_PIECE)}
        special.update(ids[piece] for piece in pieces if _TARGET_TOKEN.fullmatch(piece))
        return Vocabulary(ids, pieces, frozenset(special))

    def text_ids(self, processor: sentencepiece.SentencePieceProcessor) -> tuple[int, ...]:
        """Return the id of each piece of ``processor``; a special or missing piece is the unknown one."""
        unknown = self.ids[UNK_PIECE]
        found = (self.ids.get(processor.id_to_piece(index), unknown) for index in range(processor.get_piece_size()))
        return tuple(unknown if index in self.special_ids else index for index in found)


def _load_processor(path: Path) -> sentencepiece.SentencePieceProcessor:
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
    except (OSError, RuntimeError):
        raise CheckpointError(f"{path}: missing or not a SentencePiece model") from None


class Tokenizer:
    """Encode source text and decode target ids; safe to share between threads."""

    def __init__(
        self,
        *,
        source_processor: sentencepiece.SentencePieceProcessor,
        target_processor: sentencepiece.SentencePieceProcessor,
        source_vocabulary: Vocabulary,
        target_vocabulary: Vocabulary,
    ) -> None:
        self._source_processor = source_processor
        self._target_processor = target_processor
        self._source_vocabulary = source_vocabulary
        self._target_vocabulary = target_vocabulary
        self._source_ids = source_vocabulary.text_ids(source_processor)
        self._target_ids = target_vocabulary.text_ids(target_processor)
        self.eos_id = target_vocabulary.ids[EOS_PIECE]
        self.pad_id = target_vocabulary.ids[PAD_PIECE]
        self.unk_id = target_vocabulary.ids[UNK_PIECE]
        self._hidden_ids = target_vocabulary.special_ids - {self.unk_id}

    @staticmethod
    def load(directory: Path | str) -> Tokenizer:
        """Read the tokenizer files of a checkpoint or bundle directory.

        Raises:
            CheckpointError: naming the file that is missing or damaged.
        """
        directory = Path(directory)
        source = Vocabulary.load(directory / "vocab.json")
        separate = directory / "target_vocab.json"
        return Tokenizer(
            source_processor=_load_processor(directory / "source.spm"),
            target_processor=_load_processor(directory / "target.spm"),
            source_vocabulary=source,
            target_vocabulary=Vocabulary.load(separate) if separate.exists() else source,
        )

    @property
    def vocabulary_size(self) -> int:
        """The number of source ids."""
        return len(self._source_vocabulary.pieces)

    @property
    def target_vocabulary_size(self) -> int:
        """The number of target ids."""
        return len(self._target_vocabulary.pieces)

    @property
    def target_tokens(self) -> tuple[str, ...]:
        """The tokens such as ``>>de<<`` that choose a target language, in id order."""
        return tuple(piece for piece in self._source_vocabulary.pieces if _TARGET_TOKEN.fullmatch(piece))

    def target_token_id(self, token: str) -> int:
        """Return the id of a target token.

        Raises:
            InvalidInputError: when the model knows no such token.
        """
        if not _TARGET_TOKEN.fullmatch(token) or token not in self._source_vocabulary.ids:
            raise InvalidInputError(f"the model has no target token {token!r}")
        return self._source_vocabulary.ids[token]

    def source_piece(self, index: int) -> str:
        """The source piece of an id, as the vocabulary writes it."""
        return self._source_vocabulary.pieces[index]

    def target_piece(self, index: int) -> str:
        """The target piece of an id, as the vocabulary writes it."""
        return self._target_vocabulary.pieces[index]

    def encode(self, text: str, target_token: str | None = None) -> Encoding:
        """Encode ``text`` after the target token, if one is given; what the text says is always ordinary text."""
        vocabulary = self._source_vocabulary
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        if target_token is not None:
            ids.append(self.target_token_id(target_token))
            spans.append((0, 0))
        unknown = 0
        encoded = self._source_processor.encode(text, return_type="offset_mapping")
        for piece, (begin, end) in zip(encoded["ids"], encoded["offsets"], strict=True):
            index = self._source_ids[piece]
            if index == vocabulary.ids[UNK_PIECE]:
                unknown += len(text[begin:end].strip())
            ids.append(index)
            spans.append((begin, end))
        ids.append(vocabulary.ids[EOS_PIECE])
        spans.append((len(text), len(text)))
        return Encoding(tuple(ids), tuple(spans), unknown)

    def encode_sources(
        self, texts: Sequence[str], *, target_token: str | None = None, sampling: float = 0.0
    ) -> list[list[int]]:
        """Encode many texts for training as ``encode`` does; ``sampling`` above 0 draws segmentations (Kudo 2018)."""
        head = [] if target_token is None else [self.target_token_id(target_token)]
        eos = self._source_vocabulary.ids[EOS_PIECE]
        rows = _encode_many(self._source_processor, texts, sampling=sampling)
        return [[*head, *(self._source_ids[index] for index in row), eos] for row in rows]

    def encode_targets(self, texts: Sequence[str], *, sampling: float = 0.0) -> list[list[int]]:
        """Encode many target texts, each ending with EOS; ``sampling`` as for ``encode_sources``."""
        rows = _encode_many(self._target_processor, texts, sampling=sampling)
        return [[*(self._target_ids[index] for index in row), self.eos_id] for row in rows]

    def decode(self, ids: Sequence[int]) -> str:
        """Turn target ids into text; EOS, padding and target tokens vanish, an unknown token shows as ``⁇``."""
        pieces = [self._target_vocabulary.pieces[index] for index in ids if index not in self._hidden_ids]
        text = str(self._target_processor.decode_pieces(pieces))
        return text.replace("\u2581", " ").strip()  # pieces that only vocab.json knows come back with their mark


def _encode_many(
    processor: sentencepiece.SentencePieceProcessor, texts: Sequence[str], *, sampling: float
) -> list[list[int]]:
    if sampling <= 0.0:
        return list(processor.encode(list(texts), out_type=int, num_threads=2))
    return list(
        processor.encode(list(texts), out_type=int, enable_sampling=True, nbest_size=-1, alpha=sampling, num_threads=2)
    )
