"""Source sentences made from a checkpoint's vocabulary, for calibration and proofs where the caller gives none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import sentencepiece

LENGTHS = (3, 6, 10, 15, 20, 26, 33, 42)
"""Pieces per generated sentence."""
LOWEST_LOG_PROBABILITY = -1000.0
"""Scores below this are ranks of a BPE model."""
NUMBERS = 0.1
"""Share of generated words that are numbers: numbers are copied, which shows where a model looks."""


def generated_texts(source_model: Path, *, count: int, seed: int) -> list[str]:
    """Make source sentences from ``source.spm`` alone: pieces drawn by the frequencies that SentencePiece learned.

    A unigram model stores the log-probability of each piece, so such sentences have the word frequencies of the text
    the model was trained on, without its grammar. A BPE model stores ranks instead; there Zipf's law stands in for the
    frequencies.
    """
    processor = sentencepiece.SentencePieceProcessor(model_proto=source_model.read_bytes())
    usable = [
        index
        for index in range(processor.get_piece_size())
        if not (processor.is_control(index) or processor.is_unknown(index) or processor.is_byte(index))
    ]
    scores = np.array([processor.get_score(index) for index in usable])
    weights = 1.0 / (1.0 - scores) if scores.min() < LOWEST_LOG_PROBABILITY else np.exp(scores)
    generator = np.random.default_rng(seed)
    texts: list[str] = []
    for number in range(count):
        drawn = generator.choice(usable, size=LENGTHS[number % len(LENGTHS)], p=weights / weights.sum())
        pieces = [processor.id_to_piece(int(index)) for index in drawn]
        words = [f"\u2581{generator.integers(2, 2100)}" if generator.random() < NUMBERS else piece for piece in pieces]
        texts.append("".join(words).replace("\u2581", " ").strip() or "1")
    return texts
