"""A model that translates every sentence into itself, for tests of everything around the engine."""

from __future__ import annotations

import functools
import io
import json
import tempfile
import threading
from collections.abc import Sequence as Many
from pathlib import Path

import numpy as np
import sentencepiece

from service.engine import Batch, Engine, EngineLimits, EngineObserver, ModelLimits, RowCopy, StepOutput
from service.engine.sequence import FloatArray, IntArray
from service.tokenizer import Tokenizer
from service.translator import LanguagePair, ServedModel

TEXT = [
    "The quick brown fox jumps over the lazy dog.",
    "I love you, and you love me!",
    "How are you today? We are fine; thank you.",
    "Pack my box with five dozen liquor jugs: 0123456789.",
    "It was late. He left the house (and the garden) -- at once.",
]


def write_tokenizer(directory: Path) -> Tokenizer:
    """Trains a small vocabulary of the letters above and writes it as a bundle's tokenizer files."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT * 3),
        model_writer=model,
        vocab_size=150,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        pad_piece="<pad>",
        control_symbols=[">>de<<", ">>fr<<", ">>zh<<"],
        num_threads=1,
        minloglevel=2,
    )
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("source.spm", "target.spm"):
        (directory / name).write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    table = {processor.id_to_piece(index): index for index in range(processor.get_piece_size())}
    (directory / "vocab.json").write_text(json.dumps(table, ensure_ascii=False))
    return Tokenizer.load(directory)


@functools.cache
def tiny_tokenizer() -> Tokenizer:
    """The tokenizer of `write_tokenizer`, made once."""
    with tempfile.TemporaryDirectory() as directory:
        return write_tokenizer(Path(directory))


@functools.cache
def tiny_tokenizer_files() -> dict[str, bytes]:
    """The files of `tiny_tokenizer`, as a bundle has them."""
    with tempfile.TemporaryDirectory() as directory:
        write_tokenizer(Path(directory))
        return {path.name: path.read_bytes() for path in Path(directory).iterdir()}


class EchoRunner:
    """Its decoder says the source tokens again, one a step, then EOS. `gate` closed makes every step wait;
    `looping`, it says the fourth to eighth tokens over and over, unless they are banned; with `rambles_until` it says
    others in the place of the fourth and all after it, never one twice, `ramble_log_prob` each, and ends there."""

    def __init__(self, tokenizer: Tokenizer, *, row_slots: int = 8) -> None:
        size = tokenizer.vocabulary_size
        self.gate = threading.Event()
        self.gate.set()
        self.failing = False
        self.looping = False
        self.rambles_until = 0
        self.ramble_log_prob = -0.1
        self.steps = 0
        self.limits = ModelLimits(
            row_slots=row_slots,
            sentence_slots=row_slots,
            max_source_tokens=64,
            max_output_tokens=64,
            vocabulary_size=size,
            source_vocabulary_size=size,
            start_id=tokenizer.pad_id,
            eos_id=tokenizer.eos_id,
            pad_id=tokenizer.pad_id,
            has_alignments=True,
        )
        self._sources: dict[int, list[int]] = {}
        self._special = {tokenizer.target_token_id(token) for token in tokenizer.target_tokens}
        silent = self._special | {tokenizer.eos_id, tokenizer.pad_id, tokenizer.unk_id}
        self._words = [index for index in range(size) if index not in silent]

    def encode(self, sources: Many[IntArray], slots: Many[int], lanes: Many[int]) -> None:
        """Keep the sources."""
        for source, slot in zip(sources, slots, strict=True):
            self._sources[slot] = [int(index) for index in source if int(index) not in self._special]

    def release(self, slot: int) -> None:
        """Forget a source."""
        del self._sources[slot]

    def copy_rows(self, copies: Many[RowCopy]) -> int:
        """Nothing is kept by row."""
        return 0

    def decode_step(self, batch: Batch) -> StepOutput:
        """The next source token is by far the likeliest, then the tokens in order of their ids."""
        self.gate.wait(30)
        if self.failing:
            raise RuntimeError("secret detail of a failed step")
        self.steps += 1
        rows, size = len(batch.last_tokens), self.limits.vocabulary_size
        log_probs = np.tile(-5.0 - 0.01 * np.arange(size, dtype=np.float32), (rows, 1))
        for row, (slot, past) in enumerate(zip(batch.sentence_slots, batch.past_lengths, strict=True)):
            source = self._sources[int(slot)]
            place = 3 + (int(past) - 3) % 5 if self.looping and past >= 3 else int(past)
            log_probs[row, self.limits.eos_id] = -9.0 if past < self.rambles_until else -2.0
            if 3 <= past < self.rambles_until:
                log_probs[row, self._words[7 * int(past) % len(self._words)]] = self.ramble_log_prob
            else:
                ended = 3 <= self.rambles_until <= past
                log_probs[row, self.limits.eos_id if ended else source[min(place, len(source) - 1)]] = -0.1
        log_probs[batch.bans[:, 0], batch.bans[:, 1]] = -np.inf
        best = np.argsort(-log_probs, axis=1, kind="stable")[:, : batch.best]
        return StepOutput(
            top_ids=best.astype(np.int64),
            top_log_probs=np.take_along_axis(log_probs, best, axis=1),
            log_probs=log_probs if batch.full_rows else None,
            alignment_queries=np.eye(64, dtype=np.float32)[np.minimum(batch.past_lengths, 63)],
        )

    def align(self, slot: int, queries: FloatArray) -> FloatArray:
        """Step i looks at source token i (after a target token, whose place is the first)."""
        width = len(self._sources[slot]) + 1
        weights: FloatArray = queries[:, :width] / np.maximum(queries[:, :width].sum(axis=1, keepdims=True), 1e-9)
        return weights


def echo_model(
    tokenizer: Tokenizer,
    *,
    runner: EchoRunner | None = None,
    model_id: str = "echo",
    limits: EngineLimits | None = None,
    observer: EngineObserver | None = None,
) -> ServedModel:
    """A served model for English to German, French and Chinese; start its engine, and shut it down."""
    runner = runner or EchoRunner(tokenizer)
    return ServedModel(
        id=model_id,
        version="0123456789ab",
        pairs=tuple(LanguagePair(source="en", target=code, target_token=f">>{code}<<") for code in ("de", "fr", "zh")),
        language_aliases={"deu": "de"},
        tokenizer=tokenizer,
        engine=Engine([runner], limits=limits, observer=observer),
        max_source_tokens=64,
        trusted_source_tokens=40,
        max_target_tokens=64,
        supports_alignments=True,
        precision="fp32",
        provider="CPUExecutionProvider",
        licence="Apache-2.0",
    )
